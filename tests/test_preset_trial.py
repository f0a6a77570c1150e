"""Trials of `preset: small`: what is tried again, how samples are judged, and the committed page."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from genbench.contract import DataSpec
from genbench.errors import CellFailure
from genbench.registry import resolve_model
from genbench.space import seeded
from tools.preset_page import (
    FOLLOWS,
    PAGE,
    ROWS,
    SIZES,
    TRIALS,
    TRIED,
    Trial,
    preset_key,
    read_trials,
    state,
    write_page,
    write_trials,
)
from tools.preset_pictures import Judge, bent, shuffled, spoiled
from tools.preset_trial import NOTHING, SHOWN, Trials, is_settled, write_samples

TRIAL = Trial(
    "vae", "32", 2.0, 118, 16_000, 7.4, 3_000_000, 0.9, 8.0, 50.0, preset_key("vae", "32"), "a processor", 100
)


@pytest.mark.parametrize(
    ("garments", "classes", "judgement"),
    [(0.7, 4.0, "recognisable"), (1.0, 3.9, "partly"), (0.35, 9.0, "partly"), (0.34, 10.0, "no")],
)
def test_samples_are_recognisable_when_they_are_garments_and_varied(garments, classes, judgement):
    assert replace(TRIAL, garments=garments, classes=classes).judgement == judgement


@pytest.mark.parametrize(("seen", "judgement"), [("", "partly"), ("no", "no"), ("recognisable", "partly")])
def test_a_judgement_by_eye_only_lowers_that_of_the_classifier(seen, judgement):
    assert replace(TRIAL, garments=0.6, seen=seen).judgement == judgement


def test_a_case_is_tried_until_it_is_recognisable_or_was_tried_as_long():
    poor = replace(TRIAL, garments=0.1)
    assert is_settled([TRIAL], "vae", "32", 15)
    assert is_settled([poor], "vae", "32", 2)
    assert not is_settled([poor], "vae", "32", 3)
    assert not is_settled([replace(TRIAL, key="another preset")], "vae", "32", 1)
    assert not is_settled([TRIAL], "vae", "64", 1)
    assert not is_settled([replace(TRIAL, seen="partly")], "vae", "32", 3)


def test_a_training_is_repeated_for_a_sampler_of_its_weights():
    trained = replace(TRIAL, model="ddpm", key=preset_key("ddpm", "32"))
    sampled = replace(TRIAL, model="ddim", key=preset_key("ddim", "32"), garments=0.4)
    assert is_settled([trained], "ddpm", "32", 15)
    assert not is_settled([trained, sampled], "ddpm", "32", 15)
    assert is_settled([trained, sampled], "ddpm", "32", 2)


def test_the_key_of_a_preset_depends_on_its_networks_and_step_sizes_and_not_on_its_length(monkeypatch):
    kind, key = resolve_model("dcgan"), preset_key("dcgan", "32")
    assert len({key, preset_key("dcgan", "64"), preset_key("gan", "32")}) == 3
    config, recipe = kind.small(DataSpec(3, 32, 32, 256, 10))
    for form, same in (((config, replace(recipe, images=1)), True), ((config, replace(recipe, lr=1.0)), False),
                       ((replace(config, width=1), recipe), False)):  # fmt: skip
        monkeypatch.setattr(kind, "small", classmethod(lambda cls, data, form=form: form))
        assert (preset_key("dcgan", "32") == key) == same


def test_a_case_is_tried_again_when_the_shares_of_a_preset_change(monkeypatch):
    assert is_settled([TRIAL], "vae", "32", 2)
    monkeypatch.setattr("genbench.train.presets.AVERAGED", 0.2)
    assert not is_settled([TRIAL], "vae", "32", 2)


def test_rows_are_read_as_they_were_written_and_ordered(tmp_path):
    first = replace(TRIAL, model="gan", garments=0.25)
    write_trials(tmp_path / "trials.csv", [TRIAL, replace(TRIAL, minutes=15.0), first])
    assert read_trials(tmp_path / "trials.csv") == [first, TRIAL, replace(TRIAL, minutes=15.0)]
    assert read_trials(tmp_path / "none.csv") == []


def cells_of(path, start):
    row = next(line for line in path.read_text().splitlines() if line.startswith(start))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_the_page_states_what_was_not_tried_and_what_another_preset_drew(tmp_path):
    page, tried = tmp_path / "page.md", [replace(TRIAL, garments=0.4), replace(TRIAL, model="gan", size="64")]
    write_page(page, [*tried, replace(TRIAL, size="64", key="another")])
    gone, here = "recognisable after 2.0 min (earlier preset)", "partly after 2.0 min"
    assert dict(zip(SIZES, cells_of(page, "| [`vae`]"), strict=True)) == {**dict.fromkeys(SIZES, "not tried"),
                                                                         "32": here, "64": gone}  # fmt: skip
    assert cells_of(page, "| size |") == ["not known"]
    assert "`vae`" in cells_of(page, "| 32 |")[0]
    assert "`vae`" in cells_of(page, "| 64 |")[0]  # with the preset of now
    assert "1 of 75 cases were tried." in page.read_text()
    assert "*Not known*: 75, not tried, or not recognisable after 2.0 to 2.0 minutes;" in page.read_text()


def test_the_page_does_not_name_states_without_cases(tmp_path):
    page = tmp_path / "page.md"
    write_page(
        page, [replace(TRIAL, model=m, size="16", minutes=15.0, garments=0.4, key=preset_key(m, "16")) for m in ROWS]
    )
    assert cells_of(page, "| size |") == [TRIED, FOLLOWS]
    assert "not known" not in page.read_text().lower()


@pytest.mark.parametrize(
    ("tried", "states"),
    [
        ({"28": 15.0}, ("not known", TRIED, FOLLOWS)),
        ({"28": 14.0}, ("not known", "not known", "not known")),
        ({"28": 15.0, "32": 1.0}, ("not known", TRIED, FOLLOWS)),
        ({"16": 15.0, "28": 15.0}, (TRIED, TRIED, FOLLOWS)),
    ],
)
def test_a_model_that_needs_more_than_15_minutes_needs_more_for_larger_pictures(tried, states):
    poor = replace(TRIAL, garments=0.1)
    trials = [replace(poor, size=size, minutes=m, key=preset_key("vae", size)) for size, m in tried.items()]
    assert tuple(state(trials, "vae", size) for size in ("16", "28", "32")) == states
    good = replace(TRIAL, minutes=1.0)
    assert state([*trials, good], "vae", "32") == "recognisable"  # what was tried precedes what follows
    gone = [replace(t, key="another") for t in trials]
    assert {state(gone, "vae", size) for size in SIZES} == {"not known"}


def test_the_page_states_from_which_trial_it_follows_that_a_model_needs_more(tmp_path):
    poor = replace(TRIAL, garments=0.1, size="28", minutes=15.0, seconds=900, key=preset_key("vae", "28"))
    write_page(tmp_path / "page.md", [poor, replace(TRIAL, garments=0.5)])
    follows = "needs more than 15 min: no after 15.0 min at 28, and larger pictures cost more"
    assert cells_of(tmp_path / "page.md", "| [`vae`]") == [
        "not tried", "no after 15.0 min: needs more", f"partly after 2.0 min; {follows}", f"not tried; {follows}",
        f"not tried; {follows}",
    ]  # fmt: skip


def test_the_committed_page_is_that_of_the_committed_rows(tmp_path):
    trials = read_trials(TRIALS)
    write_page(tmp_path / "page.md", trials)
    same = PAGE.read_text() == (tmp_path / "page.md").read_text()
    assert same, "docs/presets.md: other rows or presets than those of now; python -m tools.preset_page writes it"
    assert {t.model for t in trials} <= set(ROWS)
    assert {t.size for t in trials} <= set(SIZES)
    assert all((TRIALS.parent / f"{t.model}-{t.size}.jpg").stat().st_size < 100_000 for t in trials)


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_spoiled_pictures_are_in_other_blocks_bent_or_spotted():
    x = torch.rand(9, 3, 16, 16, generator=seeded(0)) * 2 - 1
    mixed = shuffled(x, seeded(1))
    assert torch.equal(mixed.flatten(2).sort(2).values, x.flatten(2).sort(2).values)
    assert not torch.equal(mixed, x)
    even = torch.full((2, 3, 16, 16), 0.25)
    assert torch.allclose(bent(even, seeded(1)), even)
    assert spoiled(x, seeded(1)).shape == x.shape


def test_the_verdict_on_the_pictures_themselves():
    pixels = torch.randint(0, 256, (100, 3, 16, 16), dtype=torch.uint8, generator=seeded(0))
    torch.manual_seed(0)
    judge = Judge()
    verdict = judge.verdict(pixels, judge.features(pixels))
    assert verdict.distance == pytest.approx(0, abs=1e-6)
    assert 1 <= verdict.classes <= 10
    assert 0 <= verdict.garments <= 1


def test_samples_are_written_as_two_rows(tmp_path):
    write_samples(torch.zeros(SHOWN + 5, 3, 40, 48, dtype=torch.uint8), tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.size == (480, 80)


def test_samples_that_are_not_finite_are_judged_as_no_garments(tmp_path):
    """A training of half a minute can end in a model that draws NaN only: it is recorded, and no picture remains."""

    class Diverged:
        def draw(self, opened):
            raise CellFailure("100 of 100 images have values that are not finite")

    picture = tmp_path / "glow-64.jpg"
    picture.write_bytes(b"of an earlier trial")
    opened = SimpleNamespace(source=Diverged())
    assert Trials.judged(SimpleNamespace(), opened, picture) is NOTHING
    assert not picture.exists()
    failed = replace(TRIAL, garments=NOTHING.garments, classes=NOTHING.classes, distance=NOTHING.distance)
    assert failed.judgement == "no"
    write_trials(tmp_path / "trials.csv", [failed])
    write_page(tmp_path / "page.md", read_trials(tmp_path / "trials.csv"))
    assert "32: no picture, because drawing failed." in (tmp_path / "page.md").read_text()
