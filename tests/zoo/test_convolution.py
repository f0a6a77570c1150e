"""zoo/convolution.py: values and gradients of its convolutions are those of torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import grad, gradcheck, gradgradcheck

from genbench.space import seeded
from zoo import convolution
from zoo.convolution import NarrowConv, conv, neighbours, sum_neighbours


def arguments(inputs, outputs, kernel, sides, biased=True):
    gen = seeded(0)
    x, weight = (
        torch.randn(shape, generator=gen) for shape in ((2, inputs, *sides), (outputs, inputs, kernel, kernel))
    )
    bias = torch.randn(outputs, generator=gen) if biased else None
    return [t.requires_grad_() for t in (x, weight, bias) if t is not None]


@pytest.mark.parametrize("least_pixels", [0, 10_000])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "sides"),
    [
        (5, 1, 3, (8, 8)),
        (5, 4, 3, (14, 10)),
        (2, 9, 3, (8, 12)),
        (5, 3, 5, (7, 9)),
        (5, 4, 3, (8, 9)),
        (5, 4, 3, (9, 8)),
        (5, 4, 1, (8, 8)),
        (3, 2, 3, (4, 6)),
    ],
)
def test_values_and_gradients_are_those_of_torch(monkeypatch, least_pixels, biased, inputs, outputs, kernel, sides):
    monkeypatch.setattr(convolution, "MANY", least_pixels)
    given = arguments(inputs, outputs, kernel, sides, biased)
    for relu in (False, True):
        one, other = conv(*given, relu=relu), F.conv2d(*given, padding=kernel // 2)
        other = other.relu() if relu else other
        assert torch.allclose(one, other, atol=1e-5)
        slope = torch.randn(one.shape, generator=seeded(1))
        for ours, theirs in zip(*(grad(y, given, slope) for y in (one, other)), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 6), (6, 1), (2, 3)])
def test_gradients_are_differentiable(inputs, outputs):
    given = [t.detach().double().requires_grad_() for t in arguments(inputs, outputs, 3, (4, 3))]
    assert gradcheck(NarrowConv.apply, given)
    assert gradgradcheck(NarrowConv.apply, given)


def test_products_compute_the_gradients_of_many_pixels_only(monkeypatch):
    used = []
    monkeypatch.setattr(convolution, "input_grad", lambda g, x, w: used.append(len(x)) or torch.zeros_like(x))
    for images in (2, 64):
        x, weight = torch.randn(images, 2, 8, 8, requires_grad=True), torch.randn(16, 2, 3, 3)
        conv(x, weight).sum().backward()
        with torch.no_grad():
            conv(x, weight)
        with torch.autocast("cpu", torch.bfloat16):
            conv(x, weight).sum().backward()
    assert used == [64]


def test_neighbours_are_the_pixels_around_each():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    around = neighbours(x, 3).view(3, 3, 2, 3)
    assert torch.equal(around[1, 1], x[0, 0])
    assert torch.equal(around[0, 1], torch.tensor([[0.0, 0, 0], [0, 1, 2]]))  # the row above
    assert torch.equal(around[1, 2], torch.tensor([[1.0, 2, 0], [4, 5, 0]]))  # the column to the right


def test_the_sum_of_neighbours_is_the_adjoint():
    gen = seeded(2)
    x = torch.randn(3, 2, 5, 4, generator=gen, dtype=torch.float64)
    values = torch.randn(5 * 5 * 3, 2 * 5 * 4, generator=gen, dtype=torch.float64)
    assert torch.allclose((neighbours(x, 5) * values).sum(), (x * sum_neighbours(values, x.shape, 5)).sum())
