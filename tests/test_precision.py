"""`precision: auto` is bf16 on a device where it is the faster one, and from then on like the precision written out."""

from __future__ import annotations

import pytest
import torch

from genbench import machine
from genbench.plan import planner
from genbench.plan.planner import make_plan
from genbench.suite.schema import Suite


def planned(precision):
    entry = {"suite": "s", "dataset": {"name": "digits"}, "metrics": ["fid"], "features": "pixels"}
    return make_plan(Suite.model_validate(entry | {"models": [{"name": "vae"}], "precision": precision}), device="cpu")


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_has_the_keys_of_what_it_is(monkeypatch, native, expected):
    monkeypatch.setattr(planner, "computes_bfloat16", lambda device: native)
    auto, written, other = planned("auto"), planned(expected), planned("fp32" if native else "bf16")
    assert auto.suite.precision == auto.fits[0].precision == auto.cells[0].drawing.precision == expected
    assert auto.fits[0].key == written.fits[0].key != other.fits[0].key
    assert auto.cells[0].samples_key == written.cells[0].samples_key


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("avx512f avx512_bf16", False),
        ("asimd bf16 i8mm", True),
        ("avx512_bf16 amx_bf16", True),
        ("amx_bf16_none", False),
    ],
)
def test_a_processor_states_what_it_has(monkeypatch, tmp_path, flags, native):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    assert machine.computes_bfloat16("cpu") is native
    assert not machine.computes_bfloat16("mps")


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_it_from_ampere_on(monkeypatch, capability, native):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert machine.computes_bfloat16("cuda:1") is native
