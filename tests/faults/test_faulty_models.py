"""A faulty model fails its own cells with a reason that names class, method, what was returned and what is required."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import genbench
from faults import faulty
from faults.faulty import FAULTS
from genbench import returned
from genbench.contract import DataSpec
from genbench.errors import CellFailure
from genbench.records import FAILED, OK, Record

SOURCE = Path(__file__).parent / "faulty.py"
SPEC = DataSpec(1, 4, 4, 256)
METRICS = ["fid", "bits_per_dim", "images_per_second", "evaluations"]
QUICK = ["SampleNone", "TimedSampleNone", "SampleFewer", "LogProbOne", "LogProbHigh", "EvaluationsNegative",
         "SamplerInf", "SettleNaN", "LossNone", "SampleExits", "ConfigText", "LogProbZero"]  # fmt: skip


def run(folder: Path, names: Sequence[str]) -> dict[tuple[str, str], Record]:
    """The records of a suite of faulty models and a sound one, by model and metric."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.savez(folder / "data.npz", images=pixels)
    suite = {"suite": "faulty", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 20}
    suite |= {"speed": {"batch": 4, "seconds": 0.01}, "metrics": METRICS, "block": 20}
    models = [{"name": name.lower(), "label": name, "source": f"{SOURCE}:{name}"} for name in ("Sound", *names)]
    path = folder / "faulty.yaml"
    path.write_text(yaml.safe_dump(suite | {"models": models}))
    result = genbench.run(path, out=folder / "out", device="cpu")
    assert (folder / "out" / "leaderboard.html").is_file()
    return {(r.model, r.metric): r for r in result.records}


def check(records: dict[tuple[str, str], Record], names: Sequence[str]) -> None:
    assert all(records["Sound", metric].status == OK for metric in METRICS)
    wrong = []
    for name in names:
        expected = FAULTS[name]
        for metric in [expected.metric] if expected.metric else METRICS:
            record = records[name, metric]
            if record.status != FAILED or expected.words not in record.reason:
                wrong.append((name, metric, record.status, record.reason, record.value))
            if str(SOURCE.parent) in record.reason or "NoneType" in record.reason:
                wrong.append((name, metric, record.reason))
    assert not wrong, "\n".join(map(str, wrong))


def test_faulty_models_fail_and_the_sound_one_does_not(tmp_path):
    check(run(tmp_path, QUICK), QUICK)


@pytest.mark.slow
def test_every_faulty_model(tmp_path):
    names = [name for name, fault in FAULTS.items() if fault.metric != "ppl"]
    assert len(names) >= 60
    check(run(tmp_path, names), names)


def test_what_decoders_return_is_checked():
    for name in ("NoiseShape", "DecodeNone"):
        model = getattr(faulty, name)(SPEC)
        with pytest.raises(CellFailure, match=name):
            returned.checked_images(
                model, model.decode(returned.latents(model, model.noise(2, torch.Generator()), 2)), 2, "decode"
            )


def test_weights_may_hold_infinity_in_buffers_alone():
    model = faulty.Sound(SPEC)
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    returned.weights(model, "now")
    model.mask.fill_(torch.nan)
    with pytest.raises(CellFailure, match="'mask' contains NaN or infinity now"):
        returned.weights(model, "now")
