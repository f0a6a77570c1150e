"""The presets of a recipe: lengths as shares of a short budget; which one `auto` is; what a suite states stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genbench.commands.plan import describe_plan
from genbench.contract import Recipe, Stage
from genbench.plan.planner import make_plan
from genbench.suite.schema import Suite, read_suite
from genbench.train.presets import chosen_preset, fitted_recipe, stage_lengths

PAPER = Recipe(batch=100, warmup=5_000, ema=0.9999, decay="cosine", images=100_000_000)
FIT = (Stage("fit", turns=("all",)),)


def test_a_short_training_has_a_short_warm_up_and_average():
    small = fitted_recipe(PAPER, 100_000, FIT)  # 1,000 steps
    assert small == replace(PAPER, warmup=50, ema=0.99)
    assert fitted_recipe(PAPER, 10_000_000_000, FIT) == PAPER
    assert fitted_recipe(replace(PAPER, ema=0.0, warmup=0), 1_000, FIT) == replace(PAPER, ema=0.0, warmup=0)
    assert fitted_recipe(PAPER, 100, FIT).ema == 0  # one step: the weights themselves


def test_steps_follow_from_shares_and_turns_and_the_shortest_stage_decides():
    two = (Stage("a", ("d", "d", "g"), share=0.25), Stage("b", ("g",), share=0.75))
    recipe = replace(PAPER, batch=10)
    assert stage_lengths(recipe, 4_000, two) == [50, 300]
    assert fitted_recipe(recipe, 4_000, two).ema == pytest.approx(1 - 1 / 5)
    assert fitted_recipe(recipe, 4_000, two).warmup == 2


@pytest.mark.parametrize(
    ("preset", "images", "expected"),
    [("auto", 9_999_999, "small"), ("auto", 10_000_000, "paper"), ("small", 10**9, "small"), ("paper", 1, "paper")],
)
def test_auto_depends_on_the_budget(preset, images, expected):
    assert chosen_preset(preset, PAPER, images) == expected


def fit(**entry):
    settings = {"suite": "s", "dataset": {"name": "digits"}, "metrics": ["fid"], "features": "pixels"}
    plan = make_plan(Suite.model_validate({**settings, "models": [{"name": "ddpm", **entry}]}))
    return plan.fits[0]


def test_a_suite_chooses_and_its_own_numbers_stay():
    own = fit(preset="paper", budget={"images": 640})
    small = fit(budget={"images": 640})
    assert small.recipe.warmup < own.recipe.warmup
    assert small.recipe.ema < own.recipe.ema
    assert small.recipe == fitted_recipe(own.recipe, 640, FIT)
    assert fit(budget={"images": 640}, train={"warmup": 77, "ema": 0.5}).recipe == replace(
        own.recipe, warmup=77, ema=0.5
    )
    assert fit().recipe == fit(preset="paper").recipe


def test_plan_states_the_preset(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "suite: s\ndataset: {name: digits}\nfeatures: pixels\nmetrics: [fid]\nmodels:\n"
        "  - {name: gan}\n  - {name: ddpm, budget: {images: 640}}\n"
    )
    read_suite(path)
    lines = {
        line.split("/")[0].strip(): line for line in describe_plan(path, "cpu", None).splitlines() if "/s0" in line
    }
    assert "images, preset paper," in lines["gan"]
    assert "640 images, preset small (warm-up " in lines["ddpm"]
