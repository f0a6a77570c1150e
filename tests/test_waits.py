"""A training step does not wait for the device; what waits is recorded."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from genbench import features
from genbench.check.other_device import DEVICE, other_device
from genbench.check.waits import recorded_waits
from genbench.contract import DataSpec
from genbench.features import pretrained, resize
from genbench.options import override
from genbench.registry import MODELS, resolve_model
from genbench.sources.build import build
from genbench.space import seeded, to_device
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

optimizer = import_module("torch.optim.optimizer")  # torch.optim hides the module's name
SPEC, BATCH, IMAGES = DataSpec(1, 8, 8, 17, 10), 8, 30
CONFIGS = {
    "stylegan": {"r1_interval": 1, "path_weight": 2.0, "path_interval": 1, "mixing": 0.5},
    "latent_diffusion": {"critic_start": 0},
    "cyclegan": {"pool": 4},
}


@pytest.fixture
def fused(monkeypatch):
    devices = optimizer._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*devices, DEVICE.type])


def stream(name: str) -> Batches:
    pixels, source = (torch.randint(17, (IMAGES, *SPEC.shape), generator=seeded(i)).to(torch.uint8) for i in (0, 1))
    texts = tuple(f"digit {i % 10}" for i in range(IMAGES)) if name == "latent_diffusion" else None
    other = source.to(DEVICE) if name == "cyclegan" else None
    return Batches(pixels.to(DEVICE), torch.arange(IMAGES) % 10, 17, 0, True, texts, other)


def training(name: str, config: dict | None = None, **changes) -> Training:
    model = build(resolve_model(name), SPEC, CONFIGS.get(name, {}) | (config or {}), {}, 0).to(DEVICE)
    recipe = override(model.recipe(SPEC), {"batch": BATCH, "clip": 1.0, "ema": 0.9, **changes})
    stages = len(model.stages)
    return Training(model.train(), stream(name), recipe, FitOptions(BATCH * 8 * stages * stages, 0))


def waits_of(run: Training) -> list[str]:
    """Of all steps but the first of each stage; the images of an epoch end within."""
    waits, warm = [], {0, *run.stage_ends}
    for step in range(run.total_steps):
        with recorded_waits() as recorded:
            run.step()
        waits += [] if step in warm else recorded
    return waits


@pytest.mark.parametrize("name", MODELS.built_in)
def test_no_step_of_a_zoo_model_waits_for_the_device(name, fused):
    with other_device():
        run = training(name)
        assert run.total_steps > 4 * len(run.model.stages)
        assert waits_of(run) == []
        with recorded_waits() as waits:
            run.flush()
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("stylegan", {"generator": "adain"}), ("glow", {"lu": True}), ("glow", {"coupling": "additive"}),
        ("gan", {"loss": "wasserstein-gp", "critic_steps": 2}), ("cgan", {"conditioning": "projection"}),
        ("realnvp", {"batch_norm": True}), ("vae", {"likelihood": "gaussian", "details": [2]}),
        ("ddpm", {"variance": "fixed", "prediction": "x0"}),
    ],
)  # fmt: skip
def test_no_step_of_the_other_choices_waits_either(name, config, fused):
    with other_device():
        assert waits_of(training(name, config)) == []


def waiting():
    x = torch.arange(4.0, device=DEVICE)
    n = torch.arange(4, device=DEVICE)
    yield "item", lambda: x.sum().item()
    yield "float", lambda: float(x[0])
    yield "int", lambda: int(n[1])
    yield "bool", lambda: bool((x > 3).any())
    yield "branch", lambda: 1 if x[0] > 3 else 2
    yield "tolist", x.tolist
    yield "equal", lambda: torch.equal(x, x)
    yield "cpu", x.cpu
    yield "to cpu", lambda: x.to("cpu", torch.float64)
    yield "into the CPU", lambda: torch.zeros(4).copy_(x)
    yield "to the device", lambda: torch.ones(4).to(DEVICE)
    yield "copy_", lambda: x.clone().copy_(torch.ones(4))
    yield "constant", lambda: torch.tensor([1.0, 2.0], device=DEVICE)
    yield "nonzero", (x > 1).nonzero
    yield "mask", lambda: x[x > 1]
    yield "where", lambda: torch.where(x > 1)
    yield "masked_select", lambda: x.masked_select(x > 1)
    yield "put at a mask", lambda: x.clone().index_put_((x > 1,), torch.ones(2, device=DEVICE))
    yield "index on the CPU", lambda: x[torch.tensor([0, 2])]
    yield "index by a number", lambda: x[n[1]]
    yield "unique", lambda: torch.unique(x)
    yield "inverse", lambda: torch.linalg.inv(torch.eye(2, device=DEVICE))
    yield "repeats", lambda: x.repeat_interleave(n)


def not_waiting():
    x = torch.arange(4.0, device=DEVICE)
    n = torch.arange(4, device=DEVICE)
    gen = seeded(0, DEVICE)
    yield "arithmetic", lambda: (x * 2 + torch.tensor(3.0)).exp().sum()
    yield "noise", lambda: torch.randn(4, generator=gen, device=DEVICE)
    yield "index", lambda: x[n[:2]]
    yield "where", lambda: torch.where(x > 1, x, 0.0)
    yield "fill at a mask", lambda: x.clone().index_put_((x > 1,), x.new_zeros(()))
    yield "masked_fill", lambda: x.masked_fill(x > 1, 0.0)
    yield "dtype", lambda: x.to(torch.float16)
    yield "to_device", lambda: to_device(torch.ones(4), DEVICE)
    yield "from nothing", lambda: torch.full((3,), 2.0, device=DEVICE)
    yield "only the CPU", lambda: float(torch.ones(3).sum())
    yield "inverse", lambda: torch.linalg.inv_ex(torch.eye(2, device=DEVICE))


def test_every_operation_that_waits_is_recorded_with_its_line():
    with other_device():
        for name, operation in waiting():
            with recorded_waits() as waits:
                operation()
            assert len(waits) == 1, name
            assert "tests/test_waits.py:" in waits[0], name


def test_operations_that_do_not_wait_are_not_recorded():
    with other_device():
        for name, operation in not_waiting():
            with recorded_waits() as waits:
                operation()
            assert waits == [], name


class Impatient(Training):
    """Reads every loss."""

    def _log(self, player, loss):
        super()._log(player, loss)
        assert loss.total.item() == loss.total.item()


def test_a_step_that_reads_its_loss_is_found(fused):
    with other_device():
        run = training("gan")
        run.__class__ = Impatient
        waits = waits_of(run)
    assert len(waits) == 4 * (run.total_steps - 1)
    assert all("tests/test_waits.py:" in wait for wait in waits)


def test_a_classifier_waits_only_for_the_three_arrays_it_returns():
    with other_device():
        extractor = features.load_extractor("classifier", "digits", str(DEVICE), features.FeatureOptions())
        with recorded_waits() as waits:
            extractor(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), 17, batch=4)
    assert len(waits) == 3


def test_a_pretrained_network_receives_the_next_part_before_the_features_of_one_are_fetched(monkeypatch):
    events = []
    monkeypatch.setattr(pretrained, "_fetched", lambda seen: events.append(f"fetch {seen}") or (seen,))
    fetched = pretrained._pipelined(lambda part: events.append(f"send {part}") or part, [1, 2, 3])
    assert fetched == [(1,), (2,), (3,)]
    assert events == ["send 1", "send 2", "fetch 1", "send 3", "fetch 2", "fetch 3"]


@pytest.mark.parametrize("policy", resize.POLICIES)
def test_resizing_does_not_wait(policy):
    with other_device():
        x = to_device(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), DEVICE)
        with recorded_waits() as waits:
            resize.resize(resize.to_bytes(x, 17).float(), 12, policy)
    assert waits == []
