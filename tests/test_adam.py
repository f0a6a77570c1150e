"""The optimiser against torch's: the same weights to the last bit, and the same checkpoints."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from genbench.space import seeded
from genbench.train.adam import FusedAdamW


def networks():
    one = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return one, copy.deepcopy(one)


def optimisers(one, other):
    theirs = AdamW(other.parameters(), lr=0.01, betas=(0.5, 0.9), weight_decay=0.1, fused=True)
    return FusedAdamW(list(one.parameters()), 0.01, (0.5, 0.9), 0.1), theirs


def step(net, optimiser, number, whole=True):
    """A step after which the learning rate changes; not whole: half of the parameters have no gradient."""
    for parameter in net.parameters():
        parameter.grad = None
    x = torch.randn(5, 3, generator=seeded(number))
    (net(x) if whole else net[0](x)).square().sum().backward()
    optimiser.param_groups[0]["lr"] = 0.01 / (1 + number)
    optimiser.step()


def same(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("without", [(), (0,), (3,), (0, 4)])
def test_weights_are_torchs(without):
    one, other = networks()
    ours, theirs = optimisers(one, other)
    for number in range(6):
        step(one, ours, number, number not in without)
        step(other, theirs, number, number not in without)
    assert same(one, other)
    assert bool(ours._shared) == (not without)


def test_parameters_of_two_types_have_a_count_each():
    one, other = (
        [nn.Parameter(torch.ones(3, dtype=kind)) for kind in (torch.float32, torch.float64)] for _ in range(2)
    )
    ours = FusedAdamW(one, 0.01, (0.5, 0.9), 0.1)
    theirs = AdamW(other, lr=0.01, betas=(0.5, 0.9), weight_decay=0.1, fused=True)
    for number in range(3):
        for parameter in (*one, *other):
            parameter.grad = torch.arange(3, dtype=parameter.dtype) - number
        ours.step()
        theirs.step()
    assert all(torch.equal(p, q) for p, q in zip(one, other, strict=True))
    assert not ours._shared


@pytest.mark.parametrize("without", [(), (2,)])
def test_a_checkpoint_continues_in_either_class(without, tmp_path):
    one, other = networks()
    ours, theirs = optimisers(one, other)
    for number in range(4):
        step(one, ours, number, number not in without)
        step(other, theirs, number, number not in without)
    torch.save(ours.state_dict(), tmp_path / "ours.pt")
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    ours, theirs = optimisers(one, other)
    ours.load_state_dict(torch.load(tmp_path / "theirs.pt"))
    theirs.load_state_dict(torch.load(tmp_path / "ours.pt"))
    for number in range(4, 7):
        step(one, ours, number)
        step(other, theirs, number)
    assert same(one, other)
    assert bool(ours._shared) == (not without)
    counts = [[float(state["step"]) for state in each.state_dict()["state"].values()] for each in (ours, theirs)]
    assert counts[0] == counts[1]
