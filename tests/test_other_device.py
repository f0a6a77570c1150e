"""The whole way from suite to records on a device that refuses what a GPU refuses, with the CPU's numbers."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from random_weights import blots, write_inception

from genbench import metrics
from genbench.check import check_model
from genbench.check.abilities import ESTIMATES, NORMALISED, declared
from genbench.check.other_device import DEVICE, MisplacedError, OnDevice, other_device
from genbench.check.placement import contract_calls, stays_on_one_device
from genbench.check.subject import Subject
from genbench.contract import DataSpec
from genbench.evaluate import score as scoring
from genbench.metrics import computing
from genbench.metrics.readings import COST
from genbench.records import OK
from genbench.registry import MODELS, resolve_model
from genbench.runner import executors
from genbench.runner import run as runner
from genbench.sources.build import build
from genbench.space import seeded
from genbench.suite.schema import read_suite

optimizer = import_module("torch.optim.optimizer")  # torch.optim hides the module's name
SUITES = Path(__file__).parent.parent / "suites"
ALSO = [
    "density",
    "coverage",
    "fd_infinity",
    "confidence",
    "rarest_class",
    "authenticity",
    "ct_score",
    "cas",
    "sliced_wasserstein",
]
SMALL = {"budget": {"images": 64}, "samples": 100, "block": 100, "likelihood_images": 4}


class PoolOfThisProcess:
    def __init__(self, *_):
        pass

    def run(self, tasks, _, ended):
        for task in tasks:
            ended(task, SimpleNamespace(failure="", result=task.run(*task.args, lambda *_: None)))


@pytest.fixture
def one_process(monkeypatch):
    fused = optimizer._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused, DEVICE.type])
    monkeypatch.setitem(executors.LAUNCHERS, "local", PoolOfThisProcess)
    monkeypatch.setattr(executors, "choose_gpus", lambda name: (name, ()))


@pytest.fixture
def made(monkeypatch):
    """Types of the tensors made on the device; float64 is refused, which MPS has not."""
    wrapped, types = OnDevice.__new__, Counter()

    def refusing(cls, raw):
        assert raw.dtype != torch.float64
        types[raw.dtype] += 1
        return wrapped(cls, raw)

    monkeypatch.setattr(OnDevice, "__new__", staticmethod(refusing))
    monkeypatch.setattr(computing, "holds_double", lambda device: str(device) == "cpu")
    return types


def small_suite(name, folder):
    found = yaml.safe_load((SUITES / f"{name}.yaml").read_text()) | SMALL
    found["metrics"] = [m for m in found["metrics"] if metrics.get(m).reads != COST]
    if name == "smoke":
        found["metrics"] += ALSO
    for entry in found["models"]:
        if entry["name"] == "ddpm":
            entry["config"] = {"steps": 5}
    (folder / "small.yaml").write_text(yaml.safe_dump(found))
    return read_suite(folder / "small.yaml")


@pytest.mark.parametrize("name", [pytest.param("smoke", marks=pytest.mark.slow), "smoke_translation"])
def test_a_suite_runs_on_another_device_and_gives_the_cpus_numbers(tmp_path, monkeypatch, one_process, made, name):
    suite, values = small_suite(name, tmp_path), {}
    for device in ("cpu", str(DEVICE)):
        monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / device[:3]))
        with other_device():
            result = runner.run(suite, out=tmp_path / f"out-{device[:3]}", device=device)
        assert (made[torch.float32] > 0) == (device != "cpu")
        assert [f"{r.cell} {r.metric}: {r.reason}" for r in result.failed] == []
        values[device] = {(r.cell, r.metric): r.value for r in result.records if r.status == OK}
    there, here = values[str(DEVICE)], values["cpu"]
    assert there.keys() == here.keys()
    for key in here:
        # latent_diffusion's first stage sums in another order there: one pixel of 6,400 then differs by one grey level
        rounding = 1e-3 if key[0].startswith("latent_diffusion/") else 1e-5
        assert there[key] == pytest.approx(here[key], rel=rounding, abs=1e-7, nan_ok=True), key


def test_pretrained_features_are_the_cpus(tmp_path, monkeypatch, made):
    monkeypatch.setattr(scoring, "choose_device", lambda name: name)
    for name, seed in (("fake", 0), ("real", 1)):
        np.savez(tmp_path / f"{name}.npz", images=blots(12, seed).permute(0, 2, 3, 1).numpy())
    weights, values = write_inception(tmp_path / "inception.pth"), {}
    for device in ("cpu", str(DEVICE)):
        monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / device[:3]))
        with other_device():
            values[device] = scoring.score(
                fake=tmp_path / "fake.npz", reference=tmp_path / "real.npz", weights=weights, metrics=["fid", "kid"],
                device=device,
            ).values  # fmt: skip
        assert (made[torch.float32] > 0) == (device != "cpu")
    assert values[str(DEVICE)] == pytest.approx(values["cpu"], rel=1e-4)


@pytest.mark.parametrize("name", MODELS.built_in)
def test_no_call_of_the_check_fails_without_a_message(name, made):
    subject = Subject(resolve_model(name), DataSpec(1, 8, 8, 17, 10), None, None)
    with other_device():
        for _, call in contract_calls(subject, declared(subject, NORMALISED | ESTIMATES)):
            call()


@pytest.mark.parametrize("name", ["vae", "realnvp", "ddim"])
def test_models_pass_every_check_there(name, made):
    with other_device():
        results = check_model(resolve_model(name), DataSpec(1, 8, 8, 17, 10), device=DEVICE)
    assert [f"{r.name}: {r.message}" for r in results if not r.passed] == []
    assert made[torch.float32] > 0


def test_a_torch_without_the_means_is_no_fault_of_the_model(monkeypatch):
    monkeypatch.delattr(torch._C, "_only_lift_cpu_tensors")
    with pytest.raises(AttributeError), other_device():
        pass
    assert stays_on_one_device(Subject(resolve_model("gan"), DataSpec(1, 4, 4, 17), None, None)) == ""


def refusals():
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    yield lambda: there + here
    yield lambda: torch.cat([there, here])
    yield lambda: here[torch.zeros(2, dtype=torch.long, device=DEVICE)]
    yield there.numpy
    yield lambda: torch.rand(3, generator=seeded(0), device=DEVICE)
    yield lambda: torch.rand(3, generator=seeded(0, DEVICE))
    yield lambda: there.clone().normal_(generator=seeded(0))
    yield lambda: torch.nn.Linear(3, 1)(there)


def test_what_a_gpu_refuses_is_refused():
    with other_device():
        for call in refusals():
            with pytest.raises(MisplacedError):
                call()


def test_what_a_gpu_allows_is_allowed():
    with other_device():
        x = torch.arange(3.0, device=DEVICE)
        found = [x * torch.tensor(2.0), x[torch.tensor([0, 2])], x.clone().copy_(torch.ones(3)), torch.ones(3).to(x)]
        assert all(isinstance(y, OnDevice) and y.device == DEVICE for y in found)
        assert [y.tolist() for y in found] == [[0.0, 2.0, 4.0], [0.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
        assert torch.zeros(3).copy_(x).device.type == x.cpu().device.type == "cpu"
        assert x.cpu().numpy().tolist() == x.tolist() == [0.0, 1.0, 2.0]


def test_nothing_of_it_is_left_behind():
    model = build(resolve_model("glow"), DataSpec(1, 4, 4, 17), {}, {}, 0)
    with other_device():
        pass
    model.prepare(Subject(type(model), model.data, None, None).batch, seeded(0))
    assert model.sample(1, seeded(0)).device.type == "cpu"
    with pytest.raises(RuntimeError):
        torch.rand(1, device=DEVICE)
    with pytest.raises(RuntimeError):
        seeded(0, DEVICE)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of modules that torch imports for this
def test_forward_mode_derivatives_are_computed():
    with other_device():
        x, tangent = torch.ones(3, 2, device=DEVICE), torch.full((3, 2), 2.0, device=DEVICE)
        value, slope = torch.func.jvp(lambda x: (2 * x[:, 0]).square() + 1, (x,), (tangent,))
        assert value.cpu().tolist() == [5, 5, 5]
        assert slope.cpu().tolist() == [16, 16, 16]
