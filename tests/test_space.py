"""Pixels in their scales: cells of the dequantised image, whatever the number of grey levels; copies to a device."""

from __future__ import annotations

import pytest
import torch

from genbench import space
from genbench.space import bits_per_dim, density_to_mass, dequantise, seeded, to_device, to_pixels, to_unit_range


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


def test_values_outside_the_range_are_clamped_and_nan_is_level_0():
    x = torch.tensor([-1.5, 1.5, -torch.inf, torch.inf, torch.nan])
    assert to_pixels(x, 17).tolist() == [0, 16, 0, 16, 0]
    assert to_pixels(x[:2].bfloat16(), 256).tolist() == [0, 255]


def test_a_level_halfway_between_two_is_rounded_up():
    assert to_pixels(torch.tensor([-0.5, 0.5]), 3).tolist() == [1, 2]


def test_noise_without_a_generator_is_that_of_seed_0():
    k = torch.randint(17, (3, 1, 4, 4), generator=seeded(1), dtype=torch.uint8)
    assert torch.equal(dequantise(k, 17), dequantise(k, 17, seeded(0)))
    assert not torch.equal(dequantise(k, 17), dequantise(k, 17, seeded(1)))


def test_a_uniform_density_has_the_bits_of_its_levels():
    bits = bits_per_dim(density_to_mass(torch.zeros(2), dims=12, levels=16), dims=12)
    assert bits.tolist() == pytest.approx([4.0, 4.0], rel=1e-6)
    assert bits.dtype == torch.float64


def test_only_copies_to_a_gpu_are_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pytest.fail("pinned"))
    assert to_device(torch.ones(3), "meta").is_meta


class Recorded(torch.Tensor):
    """A tensor whose copies are the arguments that they were asked for with."""

    pinned = False

    def pin_memory(self):
        self.pinned = True
        return self

    def to(self, *where, **options):
        return (*where, self.pinned, options)


def test_a_copy_to_a_gpu_does_not_wait_and_any_other_does():
    x = torch.ones(3).as_subclass(Recorded)
    assert to_device(x, "mps") == (torch.device("mps"), False, {})
    assert to_device(x, "cpu") == (torch.device("cpu"), False, {})
    assert to_device(x, "cuda:1") == (torch.device("cuda:1"), True, {"non_blocking": True})
