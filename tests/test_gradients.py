"""Gradients of a batch and of its parts, and batch normalisation of several processes, against torch's own."""

from __future__ import annotations

import pytest
import torch
import toys
from torch import nn

from genbench.contract import Batch, DataSpec, Loss
from genbench.errors import CellFailure
from genbench.processes.group import ALONE, Processes, Shares
from genbench.space import seeded, to_unit_range
from genbench.train.gradients import Gradients, joined_rows
from genbench.train.synchronised import batch_norm, one_batch

SPEC, N = DataSpec(1, 4, 4, 17), 9


def images(texts: bool = True) -> Batch:
    pixels = torch.randint(17, (N, *SPEC.shape), generator=seeded(1), dtype=torch.uint8)
    x = to_unit_range(pixels, 17)
    return Batch(x, pixels, torch.arange(N), tuple("abcdefghi"), x.flip(0)) if texts else Batch(x, pixels)


class Told(toys.Diagonal):
    """Notes what its loss is asked with."""

    def __init__(self, data):
        super().__init__(data)
        self.asked = []

    def players(self):
        return {"mean": [self.mean], "spread": [self.log_std]}

    def loss(self, batch, player, step, gen):
        self.asked.append((len(batch), player, step, torch.is_autocast_enabled("cpu")))
        total = -self.log_prob(batch.pixels, gen).mean()
        return Loss(total, {"nll": total, "half": total / 2})


def gradients_of(model: Told, gen: torch.Generator, precision: str = "fp32") -> Gradients:
    return Gradients(model, model.players(), gen, precision, Shares(ALONE, N))


@pytest.mark.parametrize("at_once", [None, 3, 4])
def test_gradient_and_loss_are_those_of_the_whole_batch(at_once):
    """Of 9 images at most 3 at once, the second part starts as far from the first image as it ends from the last."""
    model, gen, other = Told(SPEC), seeded(3), seeded(3)
    gradients = gradients_of(model, gen)
    gradients.load({} if at_once is None else {"first/spread": at_once})
    found = gradients.compute(images(), "spread", "first", 7)
    asked = set(model.asked)
    expected = model.loss(images(), "spread", 7, other)
    (gradient,) = torch.autograd.grad(expected.total, [model.log_std])
    assert torch.allclose(model.log_std.grad, gradient, rtol=1e-5, atol=1e-6)
    assert model.mean.grad is None
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-5)
    assert {name: term.item() for name, term in found.terms.items()} == pytest.approx(
        {name: term.item() for name, term in expected.terms.items()}, rel=1e-5
    )
    assert {arguments[1:] for arguments in asked} == {("spread", 7, False)}
    assert torch.equal(gen.get_state(), other.get_state())
    assert gradients.at_once == at_once


def test_the_loss_is_computed_in_the_precision_asked_for():
    model = Told(SPEC)
    gradients_of(model, seeded(3), "bf16").compute(images(), "mean", "first", 2)
    assert model.asked == [(N, "mean", 2, True)]


def test_a_loss_that_is_no_mean_is_refused_with_the_name_of_its_player():
    model = Told(SPEC)
    model.loss = lambda *_: Loss(model.mean.flatten())
    with pytest.raises(CellFailure, match=r"loss\(\) of player 'spread': total"):
        gradients_of(model, seeded(3)).compute(images(), "spread", "first", 0)


@pytest.mark.parametrize("texts", [True, False])
def test_rows_of_all_processes_are_joined_to_the_batch(texts):
    batch = images(texts)
    joined = joined_rows([batch.rows(0, 2), batch.rows(2, 3), batch.rows(3, N)])
    for name, value in vars(batch).items():
        found = getattr(joined, name)
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value, name


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 2)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("processes", [1, 2])
def test_batch_normalisation_is_that_of_the_whole_batch(shape, affine, processes):
    """Outside of a group a process receives its own moments: those of the whole, where all have the same images."""
    x = 3 + 2 * torch.randn(shape, generator=seeded(0))
    weight, bias = (torch.rand(3, generator=seeded(i)) if affine else None for i in (1, 2))
    running = [[torch.zeros(3), torch.ones(3)] for _ in range(2)]
    whole = torch.cat([x] * processes)
    expected = nn.functional.batch_norm(whole, *running[0], weight, bias, True, 0.3, 1e-2)[:6]
    found = batch_norm(Shares(Processes(0, processes), len(whole)), x, *running[1], weight, bias, True, 0.3, 1e-2)
    assert torch.allclose(found, expected, atol=1e-5)
    for one, other in zip(*running, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_batch_normalisation_without_averages_has_torchs_epsilon_and_keeps_the_type():
    x = 1e-2 * torch.randn(6, 3, generator=seeded(0))
    expected = nn.functional.batch_norm(x, None, None, training=True)
    assert torch.allclose(batch_norm(Shares(ALONE, 6), x, None, None), expected, atol=1e-5)
    half = batch_norm(Shares(ALONE, 6), x.bfloat16(), None, None)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), expected, atol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_that_measures_has_the_moments_of_the_batch_and_another_its_averages(training):
    x = 3 + torch.randn(6, 3, 4, 4, generator=seeded(0))
    one, other = (nn.BatchNorm2d(3).train(training) for _ in range(2))
    with one_batch(Shares(ALONE, 6)):
        found = one(x)
        noise = torch.rand(6, generator=seeded(1))
    assert torch.allclose(found, other(x), atol=1e-5)
    assert torch.allclose(one.running_mean, other.running_mean, atol=1e-6)
    assert torch.equal(noise, torch.rand(6, generator=seeded(1)))
