"""Pixels in their scales: cells of the dequantised image, whatever the number of grey levels."""

from __future__ import annotations

import pytest
import torch

from genbench import space
from genbench.space import dequantise, seeded, to_device, to_pixels, to_unit_range


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_pixels_stay_in_their_cells(levels):
    k = torch.arange(levels, dtype=torch.uint8).expand(10_000, levels)
    y = dequantise(k, levels, seeded(0))
    assert y.min() >= 0
    assert y.max() < 1
    assert (y * levels).floor().ne(k).double().mean() < 1e-3  # float32 rounds noise next to 1 into the next cell
    assert (y * levels - k).mean() == pytest.approx(0.5, abs=0.01)


def test_the_largest_noise_on_the_highest_level_stays_below_1(monkeypatch):
    monkeypatch.setattr(space.torch, "rand", lambda shape, **_: torch.full(shape, 1 - 2**-24))
    assert dequantise(torch.full((1,), 255, dtype=torch.uint8), 256, seeded(0)) < 1


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_grey_levels_come_back_from_the_unit_range_and_its_neighbourhood(levels):
    k = torch.arange(levels, dtype=torch.uint8)
    x = to_unit_range(k, levels)
    assert (x[0], x[-1]) == (-1, 1)
    for share in (-0.49, 0.0, 0.49):
        assert torch.equal(to_pixels(x + share * 2 / (levels - 1), levels), k)


def test_only_copies_to_a_gpu_are_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pytest.fail("pinned"))
    assert to_device(torch.ones(3), "meta").is_meta
