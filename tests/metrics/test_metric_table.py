"""The table of metrics: names, lookup, and what importing it costs."""

import inspect
import re
import subprocess
import sys

import pytest

from genbench import contract, metrics
from genbench.errors import GenbenchError


def test_names():
    assert metrics.metric_names() == (
        "fid", "fd_infinity", "sfid", "kid", "kid_subsets", "cmmd", "mind", "is", "precision", "recall", "density",
        "coverage", "clipped_density", "clipped_coverage", "vendi", "rke", "sliced_wasserstein", "confidence",
        "rarest_class", "memorised", "authenticity",
        "ct_score", "fld", "class_accuracy", "prompt_agreement", "clip_score", "clip_agreement", "per_class_fid",
        "cas", "cycle_error", "paired_l1",
        "paired_ssim", "paired_lpips", "fid_a_to_b", "fid_b_to_a", "ppl", "bits_per_dim", "bits_per_dim_iwae",
        "bits_per_dim_ode", "images_per_second", "latency", "evaluations", "parameters", "peak_memory",
    )  # fmt: skip
    assert all(name == metrics.get(name).name for name in metrics.metric_names())


def test_unknown_name_gets_the_nearest():
    with pytest.raises(GenbenchError, match="unknown metric 'recal'; did you mean 'recall'\\? allowed: fid, fd_inf"):
        metrics.get("recal")


@pytest.mark.parametrize("metric", metrics.BUILT_IN.values(), ids=lambda m: m.name)
def test_every_metric_is_declared_in_full(metric):
    inputs = {
        "features": {"fake", "real"},
        "clip": {"fake", "real"},
        "neighbours": {"fake", "real"},
        "probabilities": {"probabilities"},
        "likelihood": {"log_probs", "dims", "kind"},
        "cost": {"cost"},
        "generated": {"fake"},
        "spatial": {"fake", "real"},
        "memory": {"fake", "train", "held_out"},
        "pixels": {"fake", "real"},
        "by class": {"fake", "real", "fake_labels", "real_labels"},
        "condition": {"probabilities", "labels"},
        "prompts": {"fake", "texts", "which"},
        "labelled": {"fake", "fake_labels", "real", "real_labels", "levels"},
        "paths": {"distances"},
        "translation": {"a_to_b", "b_to_a"},
    }
    taken = inspect.signature(metric.compute).parameters
    assert {name for name, p in taken.items() if p.default is p.empty} == inputs[metric.reads.name]
    assert all(p.kind is p.KEYWORD_ONLY for p in taken.values())
    assert metric.better in ("lower", "higher")
    assert metric.unit
    assert re.fullmatch(r"Does not detect [^.]{20,120}( [0-9]\.[0-9] [^.]{5,40})?\.", metric.cannot_detect)
    assert set(metric.abilities) <= {a.__name__ for a in contract.ABILITIES}


def test_reading_the_table_loads_no_torch():
    code = "import sys, genbench.metrics; print([m for m in ('torch', 'torch_fidelity', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
