"""benchmarks/kernel_ceiling.py: which kernels a step has, what they compute, and that their variants do too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import kernel_ceiling
from kernel_ceiling import Ceiling, Recording, aten, by_images, by_weights, convolution, group_of

SHAPE, KERNEL, HOW = (2, 3, 6, 6), (4, 3, 3, 3), ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_recorded_operations_are_those_of_the_products_and_their_gradients():
    x, weight = random(*SHAPE).requires_grad_(), random(*KERNEL).requires_grad_()
    with Recording() as noted:
        F.relu(F.conv2d(x, weight, stride=2, padding=1)).sum().backward()
        x.flatten(1) @ random(108, 5)
        x.flatten(1) @ random(108, 5)
    found = {k.func.func._overloadpacket: (k.calls, k.flops) for k in noted.kernels.values()}
    forward = 2 * 2 * 4 * 3 * 3 * (3 * 9)  # images, channels, pixels of 3x3, a neighbourhood; two each
    assert found == {
        aten.convolution: (1, forward),
        aten.convolution_backward: (1, 2 * forward),
        aten.mm: (2, 2 * 2 * 108 * 5),
    }
    assert noted.seconds["products"] > 0
    assert noted.seconds["elementwise"] > 0
    assert noted.moved >= 2 * 4 * 2 * 4 * 3 * 3  # relu reads and writes


@pytest.mark.parametrize("kernel", [KERNEL, (4, 3, 1, 1)])
def test_all_variants_of_a_convolution_compute_it(kernel: tuple[int, ...]):
    how = HOW if kernel == KERNEL else ([1, 1], [0, 0], *HOW[2:])
    x, weight, bias = random(*SHAPE), random(*kernel), random(4)
    expected = aten.convolution(x, weight, bias, *how)
    (variants,) = convolution(x, weight, bias, *how)
    assert len(variants) >= 5
    for name, (call, share) in variants.items():
        result: Any = call()
        result = result.to_dense() if result.is_mkldnn else result
        if name == "two calls":
            assert share == 0.5
            result = result[len(x) :]
        elif name == "rows":
            result = result.unflatten(0, (2, 6, 6)).permute(0, 3, 1, 2)
        elif name == "neighbourhoods":
            result = result.view_as(expected) + bias[:, None, None]
        torch.testing.assert_close(result, expected)


def test_the_gradients_as_products_of_matrices_are_those_of_the_convolution():
    x, weight = random(*SHAPE), random(*KERNEL)
    g = random(*aten.convolution(x, weight, None, *HOW).shape)
    images, weights, _ = aten.convolution_backward(g, x, weight, None, *HOW, [True, True, False])
    torch.testing.assert_close(by_images(g, x, weight, *HOW)["neighbourhoods"][0](), images)
    torch.testing.assert_close(by_weights(g, x, weight, *HOW)["neighbourhoods"][0](), weights.flatten(1))


def test_the_ceiling_of_a_step_counts_every_call_of_its_kernels(monkeypatch: pytest.MonkeyPatch):
    """With kernels of a second each, the fastest variant of a convolution is that of two calls: half a second."""
    monkeypatch.setattr(kernel_ceiling, "least_seconds", lambda call, **how: 1.0)
    x, weight = random(*SHAPE), random(*KERNEL)

    class Run:
        def step(self) -> None:
            for _ in range(3):
                aten.convolution(x, weight, None, *HOW)

    found = kernel_ceiling.measure(Run())  # type: ignore[arg-type]
    assert (found.step, found.recorded, found.best) == (1.0, 3.0, 1.5)
    assert found.flops == 3 * 2 * 2 * 4 * 9 * 27
    assert found.share(1.5) == found.flops / 1.5 / (2 * 1024**3)


def test_rows_of_the_table_have_the_shares():
    found = Ceiling(flops=10**9, rate=1e11, step=0.04, recorded=0.03, best=0.02, memory=0.005, groups={})
    assert list(kernel_ceiling.cells(found)) == ["1.00", "40.0", "30.0", "20.0", "25%", "50%", "40%", "50%", "62%"]


@pytest.mark.parametrize(
    ("func", "group"),
    [(aten.native_layer_norm.default, "normalisation"), (aten._fused_adamw_.default, "optimiser"),
     (aten.reflection_pad2d.default, "padding"), (aten.clone.default, "copies"), (aten.add.Tensor, "elementwise")],
)  # fmt: skip
def test_operations_have_groups(func: Any, group: str):
    assert group_of(func) == group
