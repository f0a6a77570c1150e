"""The presets: networks for a CPU, lengths as shares of a budget; which one `auto` is; what a suite states stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from genbench.commands.plan import describe_plan
from genbench.contract import Batch, DataSpec, Model, Recipe, Stage
from genbench.errors import ModelError, SuiteError
from genbench.plan.planner import make_plan
from genbench.registry import MODELS, resolve_model
from genbench.sources.build import build
from genbench.space import seeded, to_unit_range
from genbench.suite.schema import Suite, read_suite
from genbench.train.presets import chosen_preset, differing, fitted_recipe, small_form, stage_lengths

PAPER = Recipe(batch=100, warmup=5_000, ema=0.9999, decay="cosine", images=100_000_000)
FIT = (Stage("fit", turns=("all",)),)


def test_warm_up_and_average_are_shares_of_the_training():
    small = fitted_recipe(PAPER, 100_000, FIT)  # 1,000 steps
    assert small == replace(PAPER, warmup=50, ema=0.99)
    assert fitted_recipe(PAPER, 1_000_000_000, FIT) == replace(PAPER, warmup=500_000, ema=1 - 1e-6)  # a long one: long
    assert fitted_recipe(replace(PAPER, ema=0.0, warmup=0), 1_000, FIT) == replace(PAPER, ema=0.0, warmup=0)
    assert fitted_recipe(PAPER, 100, FIT).ema == 0  # one step: the weights themselves


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (10, 5), (100, 10), (200, 10), (220, 11)])
def test_a_warm_up_has_ten_steps_in_a_short_training_but_at_most_half_of_it(steps, warmup):
    assert fitted_recipe(PAPER, 100 * steps, FIT).warmup == warmup


def test_steps_follow_from_shares_and_turns_and_the_shortest_stage_decides():
    two = (Stage("a", ("d", "d", "g"), share=0.25), Stage("b", ("g",), share=0.75))
    recipe = replace(PAPER, batch=10)
    assert stage_lengths(recipe, 4_000, two) == [50, 300]
    assert fitted_recipe(recipe, 4_000, two).ema == pytest.approx(1 - 1 / 5)
    assert fitted_recipe(recipe, 12_000, two).warmup == 10  # as for 150 steps, not for 900


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
    text = describe_plan(path, "cpu", None)
    lines = {line.split("/")[0]: line for line in text.splitlines() if "/s0" in line}
    assert "images, paper  to draw" in lines["gan"]
    assert " 640 images, small " in lines["ddpm"]
    assert "\nddpm: preset small (warm-up " in text


# ---- networks -------------------------------------------------------------------------------------------------------


def zoo():
    kinds = {name: resolve_model(name) for name in MODELS.names()}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, Model)}


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (3, 40, 48), (3, 64, 64)])
@pytest.mark.parametrize("name", zoo())
def test_every_model_has_small_networks_for_every_shape(name, shape):
    kind, data = zoo()[name], DataSpec(*shape, 256, 10)
    config, recipe = small_form(kind, data)
    model = build(kind, data, differing(config, kind.preset(data)), {}, 0)
    assert model.config == config
    most = 30_000_000 if name == "gan" else 8_000_000  # a dense layer for every pixel
    assert sum(p.numel() for p in model.parameters()) <= most
    assert recipe.images <= 3_000_000


@pytest.mark.parametrize("shape", [(1, 17, 23), (3, 17, 23), (4, 17, 23), (4, 32, 32), (2, 33, 50)])
@pytest.mark.parametrize("name", zoo())
def test_small_networks_learn_from_odd_sides_and_any_channels_or_name_sides_that_work(name, shape):
    kind, data = zoo()[name], DataSpec(*shape, 256, 10)
    if name == "glow" and shape[1] % 2:
        with pytest.raises(ModelError, match=r"Glow: found \d+x\d+ images, allowed: even sides, such as (18x24|34x50)"):
            build(kind, data, differing(kind.small(data)[0], kind.preset(data)), {}, 0)
        return
    model = build(kind, data, differing(kind.small(data)[0], kind.preset(data)), {}, 0)
    pixels = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=seeded(0))
    x = to_unit_range(pixels, 256)
    batch = Batch(x, pixels, torch.arange(4), source=x)
    model.prepare(batch, seeded(1))
    for player in {turn for stage in model.stages for turn in stage.turns}:
        model.zero_grad()
        model.loss(batch, player, 0, seeded(2)).total.backward()
        gradients = [p.grad for p in model.players()[player] if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 16, 16)])
def test_below_32_pixels_networks_are_the_same_in_both_presets(shape):
    data = DataSpec(*shape, 256, 10)
    for kind in zoo().values():
        assert small_form(kind, data) == (kind.preset(data), kind.recipe(data))


class Own(zoo()["ddpm"]):
    @classmethod
    def preset(cls, data):
        return replace(super().preset(data), channels=12)


class OwnSmall(Own):
    @classmethod
    def small(cls, data):
        return replace(cls.preset(data), channels=6), cls.recipe(data)


def test_a_class_that_only_replaces_the_preset_has_no_other_small_form():
    data = DataSpec(3, 32, 32)
    assert small_form(Own, data) == (Own.preset(data), Own.recipe(data))
    assert small_form(OwnSmall, data)[0].channels == 6


def colour_plan(tmp_path, limit=None, **settings):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    suite = {"suite": "s", "dataset": {"name": "npz", "path": str(tmp_path / "x.npz")}, "features": "pixels",
             "metrics": ["fid"], "samples": 10, **settings}  # fmt: skip
    return make_plan(Suite.model_validate(suite), limit_images=limit)


BOTH = [{"name": "ddpm"}, {"name": "ddim", "weights_of": "ddpm", "sampler": {"steps": 5}}]


@pytest.mark.parametrize(
    ("settings", "channels"),
    [
        ({"budget": {"images": 100_000}}, 16),
        ({"budget": {"images": 100_000_000}}, 128),
        ({"budget": {"images": 100_000}, "preset": "paper"}, 128),
        ({"preset": "small"}, 16),
        ({}, 128),
    ],
)
def test_the_preset_chooses_the_networks_of_a_row_and_of_those_with_its_weights(tmp_path, settings, channels):
    plan = colour_plan(tmp_path, models=BOTH, **settings)
    assert plan.fits[0].config["channels"] == channels
    built = [cell.source.network.build(plan.data, 0) for cell in plan.cells[:2]]
    assert [model.config.channels for model in built] == [channels, channels]
    assert ("networks for a CPU" in plan.fits[0].preset) == (channels == 16)


def test_what_a_suite_states_itself_stays_and_a_trial_has_the_suites_networks(tmp_path):
    own = [{"name": "ddpm", "config": {"channels": 6}, "train": {"batch": 8}, "budget": {"images": 10_000}}]
    fit = colour_plan(tmp_path, models=own).fits[0]
    assert (fit.config["channels"], fit.config["steps"], fit.recipe.batch) == (6, 100, 8)
    trial = colour_plan(tmp_path, limit=64, models=[{"name": "ddpm"}]).fits[0]
    assert (trial.config["channels"], trial.images) == (128, 64)
    assert trial.recipe.warmup == 0


def test_an_option_that_does_not_fit_the_small_networks_is_refused_by_line(tmp_path):
    models = [{"name": "vae", "config": {"latent": 1}}]  # possible without the learned prior of `small`
    colour_plan(tmp_path, models=models, preset="paper")
    with pytest.raises(SuiteError, match=r"models\[0\].config: latent: found 1, allowed: at least 2 with couplings"):
        colour_plan(tmp_path, models=models, preset="small")
