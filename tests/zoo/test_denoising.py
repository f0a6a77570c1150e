"""Processes and predictions: an exact prediction gives back the image and the noise; scales broadcast with images."""

from __future__ import annotations

import pytest
import torch

from genbench.space import seeded
from zoo.denoising import PREDICTIONS, Line, Velocity


@pytest.mark.parametrize("kind", [*PREDICTIONS.values(), Velocity(-1.0, 1.0), Velocity(0.5, 3.0)])
def test_an_exact_prediction_gives_back_image_and_noise(kind):
    gen = seeded(0)
    x_0, noise = (torch.randn(3, 2, 4, 5, generator=gen, dtype=torch.float64) for _ in range(2))
    signal = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64).view(-1, 1, 1, 1)
    spread = (1 - signal**2).sqrt()  # a rotation predicts v only where the squares sum to 1
    x_t, prediction = signal * x_0 + spread * noise, kind.target(x_0, noise, signal, spread)
    for known, (of_x, of_prediction) in ((x_0, kind.x_0(signal, spread)), (noise, kind.noise(signal, spread))):
        torch.testing.assert_close(of_x * x_t + of_prediction * prediction, known)


def test_scales_of_a_line_are_those_of_each_image():
    line, times = Line(1.0, 0.25, -2.0, 3.0), torch.tensor([0.0, 0.5, 1.0])
    signal, spread = line.scales(times)
    torch.testing.assert_close(signal, torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1, 1))
    torch.testing.assert_close(spread, torch.tensor([0.25, 1.75, 3.25]).view(3, 1, 1, 1))
    assert line.level(0.5) == (0.5, 0.0, 1.75, 1.0)
