"""zoo/glow_step.py: its value and gradients are those of the layers, and finite differences; where it is used."""

import pytest
import torch
from torch.autograd import grad, gradcheck

from genbench.space import seeded
from zoo import glow
from zoo.glow import Flow, GlowConfig
from zoo.glow_networks import CouplingNetwork
from zoo.glow_step import fused_steps


def shaken(module):
    gen = seeded(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=gen, dtype=parameter.dtype))
    return module


def flow(shape=(1, 8, 12), **changes):
    config = {"levels": 2, "steps": 2, "width": 9, "constraint": 0.9, "least_scale": 0.3} | changes
    return shaken(Flow(shape, GlowConfig(**config)).double())


def pixels(images, shape):
    return 0.99 * torch.rand(images, *shape, generator=seeded(1), dtype=torch.float64)


def counted(monkeypatch):
    """A list of the channels of the levels that are fused."""
    calls = []
    monkeypatch.setattr(glow, "fused_steps", lambda x, *args: calls.append(x.shape[1]) or fused_steps(x, *args))
    return calls


@pytest.mark.parametrize("images", [4, 5])  # 16 divides the pixels of both levels, and of neither
@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((1, 8, 12), {"positions": True}),
        ((1, 8, 12), {"lu": True}),
        ((2, 6, 10), {"levels": 1, "positions": True, "least_scale": 0.0}),
        ((1, 12, 4), {"constraint": 0.0, "width": 3}),
    ],
)
def test_value_and_gradients_are_those_of_the_layers(monkeypatch, images, shape, changes):
    calls, tested = counted(monkeypatch), flow(shape, **changes)
    y = pixels(images, shape).requires_grad_()
    of_z, of_log_det = torch.randn(images, 120, generator=seeded(2)).double(), torch.arange(images) - 1.7

    def results(training):
        z, log_det = tested.train(training)(y)
        total = (z * of_z[:, : z.shape[1]]).sum() + (log_det * of_log_det).sum()
        return [z, log_det, *grad(total, [y, *tested.parameters()])]

    one, other = results(True), results(False)
    assert len(calls) == len(tested.levels)
    for name, ours, theirs in zip(["z", "log_det", "y", *dict(tested.named_parameters())], one, other, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-10), name
        assert ours.shape == theirs.shape, name


@pytest.mark.parametrize("position", [True, False])
def test_gradients_are_finite_differences(position):
    networks = [shaken(CouplingNetwork(1, 2, 3, (2, 3) if position else None).double()) for _ in range(2)]
    shapes, gen = ((2, 2, 2, 3), (2, 2, 2), (2, 2)), seeded(3)
    given = [torch.randn(shape, generator=gen, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert gradcheck(lambda *args: fused_steps(*args, networks, 0.2), given)


def test_second_derivatives_are_refused():
    network = CouplingNetwork(1, 2, 3, None)
    x = torch.randn(2, 2, 2, 3, requires_grad=True)
    z, _ = fused_steps(x, torch.eye(2)[None], torch.zeros(1, 2), [network], 0.2)
    (slope,) = grad(z.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize(
    ("shape", "changes", "training", "expected"),
    [
        ((1, 8, 8), {}, True, [4, 8]),
        ((1, 8, 8), {}, False, []),
        ((1, 16, 16), {"levels": 3}, True, [4, 8]),  # not the third level, which has 16
        ((3, 8, 8), {}, True, []),
        ((1, 8, 8), {"coupling": "additive"}, True, []),
    ],
)
def test_it_is_used_in_training_with_few_channels(monkeypatch, shape, changes, training, expected):
    calls = counted(monkeypatch)
    flow(shape, **changes).train(training)(pixels(2, shape))
    assert calls == expected


def test_it_is_not_used_with_autocast(monkeypatch):
    calls, tested = counted(monkeypatch), flow().float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tested(pixels(2, (1, 8, 12)).float())
    assert calls == []
