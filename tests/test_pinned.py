"""What code of a model changes globally does not reach its training, its samples or other models."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from genbench import machine
from genbench.code_hash import code_hash
from genbench.contract import DataSpec, Draws, Loss, Model, Recipe
from genbench.draw.blocks import draw_block
from genbench.machine import pinned_globals, threads_allowed
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.sources.network import Network
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, fit

DATA = DataSpec(1, 4, 4)


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.are_deterministic_algorithms_enabled(),
        cudnn.benchmark, cudnn.deterministic, torch.get_float32_matmul_precision(), torch.is_grad_enabled(),
        torch.get_num_threads(),
    )  # fmt: skip


def change_all() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = True
    torch.set_float32_matmul_precision("medium")
    torch.set_grad_enabled(False)
    torch.set_num_threads(3)


class Plain(Model):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mean = nn.Parameter(torch.zeros(data.shape))
        self.seen = []

    @classmethod
    def recipe(cls, data):
        return Recipe(batch=4)

    def loss(self, batch, player, step, gen):
        noise = torch.randn(batch.x.shape, generator=gen)
        self.seen.append(settings())
        return Loss((self.mean + 0.1 * noise - batch.x).square().mean())

    def sample(self, n, gen, condition=None):
        return self.mean + torch.randn(n, *self.data.shape, generator=gen)


class ChangesInItsConstructor(Plain):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        change_all()


class ChangesInEveryMethod(ChangesInItsConstructor):
    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
        return loss

    def sample(self, n, gen, condition=None):
        images = super().sample(n, gen)
        change_all()
        return images


def trained(kind: type[Model]) -> tuple[Draws, torch.Tensor]:
    model = build(kind, DATA, {}, {}, 0)
    pixels = torch.arange(16 * 16).reshape(16, 1, 4, 4).to(torch.uint8)
    fit(model, Batches(pixels, None, 256, 0), kind.recipe(DATA), FitOptions(40, 0))
    return model, draw_block(model, 0, 0, 5)[0]


@pytest.mark.parametrize("kind", [ChangesInItsConstructor, ChangesInEveryMethod])
def test_a_model_that_changes_global_settings_trains_and_draws_as_one_that_does_not(kind):
    before = settings()
    plain, pixels = trained(Plain)
    other, same = trained(kind)
    assert settings() == before
    assert torch.equal(plain.mean, other.mean)
    assert torch.equal(pixels, same)
    assert other.seen[0] == plain.seen[0]


def test_a_module_that_changes_global_settings_when_it_is_imported_changes_nothing(tmp_path):
    (tmp_path / "m.py").write_text(
        "import torch\nfrom genbench.contract import Draws\n\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_default_device('meta')\ntorch.set_num_threads(5)\n\n\nclass Own(Draws):\n"
        "    def sample(self, n, gen, condition=None):\n        return torch.zeros(n, *self.data.shape)\n"
    )
    before = settings()
    first = Network("own", "m.py:Own", tmp_path)
    kind = resolve_pinned(first)
    assert settings() == before
    assert build(kind, DATA, {}, {}, 0).sample(1, None).dtype == torch.float32


def resolve_pinned(network: Network) -> type[Draws]:
    with pinned_globals():
        code = code_hash(resolve_model(network.name, network.target, network.folder))
    for name in [n for n in sys.modules if n.startswith("genbench_source_")]:
        del sys.modules[name]  # as in a worker, which imports it afresh
    return replace(network, code=code).resolve()


def test_settings_are_restored_after_an_error():
    before = settings()

    @pinned_globals()
    def fails() -> None:
        change_all()
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert settings() == before


@pytest.mark.parametrize(("wanted", "threads"), [("1", 1), ("3,2", 3), ("99", 4), ("0", 4), ("", 4), ("x", 4)])
def test_timings_use_no_more_threads_than_the_user_set(monkeypatch, wanted, threads):
    monkeypatch.setattr(machine, "cores_available", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert threads_allowed() == threads
    assert (f"4 cores, {threads} threads" in machine.timing_machine("cpu")) == (threads < 4)
