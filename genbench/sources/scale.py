"""Rows that show what a metric's numbers mean on a dataset: real, blurred and repeated images, noise, one Gaussian.

Each row draws pixels as a model does and computes log-likelihoods where it has them; it is not trained and not ranked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from genbench.errors import TooFewSamples
from genbench.records import DENSITY, MASS
from genbench.space import density_to_mass, dequantise, seeded

if TYPE_CHECKING:
    from genbench.contract import DataSpec
    from genbench.data import Dataset

SCALE_VERSION = 2  # increased whenever images or likelihoods of a row may change
_BLOCK = 10_000  # images converted to float64 at a time
_SHRINKAGES = (0.0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
_COMPARED_ON = 1_000  # train images, at most, on which the shrinkages are compared
_LEAST_TRAIN = 10  # train images for a likelihood of the Gaussian
BLUR = 1 / 12  # standard deviation of the blur over the shorter side of the image


@dataclass(frozen=True)
class ScaleDefinition:
    """One row.

    samples(dataset, n, seed): at most n images (., C, H, W) uint8 grey levels.
    log_prob(dataset, pixels, seed): nats (N,) float64 of discrete pixels (N, C, H, W) uint8; None: it has none.
    kind: of that likelihood, one of genbench.records.LIKELIHOOD_KINDS. of_test: its images are made from the test
        split, so that there are no more of them.
    """

    name: str
    title: str
    explanation: str
    samples: Callable[[Dataset, int, int], Tensor]
    log_prob: Callable[[Dataset, Tensor, int], Tensor] | None = None
    kind: str = ""
    of_test: bool = False


@dataclass(frozen=True)
class Gaussian:
    """N(mean, root root') on [0, 1)^D: mean (D,), root (D, D) lower triangular, float64."""

    mean: Tensor
    root: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """Log density in nats of rows y (N, D): (N,) float64."""
        z = torch.linalg.solve_triangular(self.root, (y.double() - self.mean).T, upper=False)
        log_volume = self.root.diagonal().log().sum() + 0.5 * len(self.mean) * math.log(2 * math.pi)
        return -0.5 * z.square().sum(0) - log_volume

    def draw(self, n: int, seed: int) -> Tensor:
        """Draws n rows (n, D) float64."""
        noise = torch.randn(n, len(self.mean), generator=seeded(seed), dtype=torch.float64)
        return self.mean + noise @ self.root.T


def fit_gaussian(pixels: Tensor, levels: int) -> Gaussian:
    """The Gaussian with a shrunk covariance that is most likely for held-out pixels (N, C, H, W), dequantised.

    The covariance is (1 - a) S + a tr(S) / D I, where S is the maximum-likelihood estimate. With fewer images than
    pixels, S is the dequantisation noise alone in most directions, and images outside the train set would be absurdly
    unlikely. a is the one of _SHRINKAGES under which a random fifth of the pixels, at most _COMPARED_ON images, is most
    likely given the rest; then all images are used.
    """
    order = torch.randperm(len(pixels), generator=seeded(0)).to(pixels.device)
    compared, rest = order.split([min(_COMPARED_ON, len(order) // 5), len(order) - min(_COMPARED_ON, len(order) // 5)])
    if len(compared) == 0:
        return shrunk(*pixel_moments(pixels, levels), 1.0)
    y = dequantise(pixels[compared].cpu(), levels, seeded(0)).flatten(1)
    mean, cov = pixel_moments(pixels[rest], levels)
    best = max(_SHRINKAGES, key=lambda a: float(shrunk(mean, cov, a).log_density(y).mean()))
    return shrunk(*pixel_moments(pixels, levels), best)


def shrunk(mean: Tensor, cov: Tensor, shrinkage: float) -> Gaussian:
    """N(mean, (1 - a) cov + a tr(cov) / D I) with a = shrinkage."""
    scaled = (1 - shrinkage) * cov
    scaled.diagonal().add_(shrinkage * cov.diagonal().mean())
    return Gaussian(mean, torch.linalg.cholesky(scaled))


def pixel_moments(pixels: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of dequantised pixels (N, C, H, W), averaged over the dequantisation noise.

    y = (k + u) / L has mean (E k + 1/2) / L and covariance (Cov k + I/12) / L^2, divided by N, the maximum-likelihood
    estimate. The noise term makes it positive definite for any data.
    """
    rows = pixels.cpu().flatten(1)
    dims = rows.shape[1]
    mean = rows.sum(0, dtype=torch.int64).double() / len(rows)
    cov = torch.eye(dims, dtype=torch.float64) / 12
    for block in rows.split(_BLOCK):
        centred = block.double() - mean
        cov += centred.T @ centred / len(rows)
    return (mean + 0.5) / levels, cov / levels**2


def held_out_samples(dataset: Dataset, n: int, seed: int) -> Tensor:
    """Picks n different test images in random order; all of them when there are fewer."""
    pixels = dataset.test.pixels
    return pixels[held_out_numbers(dataset, n, seed).to(pixels.device)]


def held_out_numbers(dataset: Dataset, n: int, seed: int) -> Tensor:
    """The numbers of the test images that `held_out_samples` picks."""
    return torch.randperm(len(dataset.test), generator=seeded(seed))[:n]


def memorised_samples(dataset: Dataset, n: int, seed: int) -> Tensor:
    """Draws n train images with replacement, as a model that has memorised them would."""
    pixels = dataset.train.pixels
    return pixels[torch.randint(len(pixels), (n,), generator=seeded(seed)).to(pixels.device)]


def blurred_samples(dataset: Dataset, n: int, seed: int) -> Tensor:
    """The images of held_out_samples under a Gaussian blur, rounded to grey levels."""
    images = held_out_samples(dataset, n, seed)
    sigma = BLUR * min(dataset.spec.height, dataset.spec.width)
    return torch.cat([blur(block.double(), sigma).round().to(torch.uint8) for block in images.split(_BLOCK)])


def blur(x: Tensor, sigma: float) -> Tensor:
    """Images x (N, C, H, W) under a Gaussian of sigma pixels, cut off at 4 sigma; edges are continued outwards."""
    reach = math.ceil(4 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) / sigma) ** 2)
    weights /= weights.sum()
    planes = F.pad(x.flatten(0, 1)[:, None], [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(planes, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1)).view_as(x)


def noise_samples(dataset: Dataset, n: int, seed: int) -> Tensor:
    """Draws n images of independent pixels, each grey level equally likely."""
    spec = dataset.spec
    return torch.randint(spec.levels, (n, *spec.shape), generator=seeded(seed), dtype=torch.uint8)


def noise_log_prob(dataset: Dataset, pixels: Tensor, seed: int) -> Tensor:
    """-D ln L for every image: log2(L) bits/dim."""
    density = torch.zeros(len(pixels), dtype=torch.float64)
    return density_to_mass(density, dataset.spec.dims, dataset.spec.levels)


def gaussian_samples(dataset: Dataset, n: int, seed: int) -> Tensor:
    """Draws n images from the train split's Gaussian; values outside [0, 1) take the nearest level."""
    spec = dataset.spec
    y = fit_gaussian(dataset.train.pixels, spec.levels).draw(n, seed)
    return quantise(y, spec)


def quantise(y: Tensor, spec: DataSpec) -> Tensor:
    """Rows y (N, D) of dequantised pixels as images (N, C, H, W) uint8: floor(y L), clipped."""
    return (y * spec.levels).floor().clamp(0, spec.levels - 1).to(torch.uint8).reshape(-1, *spec.shape)


def gaussian_log_prob(dataset: Dataset, pixels: Tensor, seed: int) -> Tensor:
    """Log-density of pixels, dequantised with noise from `seed`, under the train split's Gaussian.

    Raises TooFewSamples where the train split has too few images, or only copies of one, to estimate how images vary.
    """
    spec, train = dataset.spec, dataset.train.pixels
    if len(train) < _LEAST_TRAIN:
        raise TooFewSamples(f"gaussian: found {len(train)} train images, allowed: {_LEAST_TRAIN} or more")
    if bool((train == train[:1]).all()):
        raise TooFewSamples("gaussian: all train images are the same, so that their covariance is 0")
    gaussian = fit_gaussian(dataset.train.pixels, spec.levels)
    y = dequantise(pixels.cpu(), spec.levels, seeded(seed)).flatten(1)
    return density_to_mass(gaussian.log_density(y), spec.dims, spec.levels)


SCALE_ROWS: dict[str, ScaleDefinition] = {
    row.name: row
    for row in (
        ScaleDefinition(
            "held-out real",
            "Held-out real images",
            "The test split itself: the score of a perfect model with as many samples.",
            held_out_samples,
            of_test=True,
        ),
        ScaleDefinition(
            "memorised train",
            "Memorised train images",
            "Train images drawn at random: the score of copies, which only the memorisation columns detect.",
            memorised_samples,
        ),
        ScaleDefinition(
            "blurred real",
            "Blurred real images",
            "Held-out images under a Gaussian blur, sigma a twelfth of the shorter side: the score of missing detail.",
            blurred_samples,
            of_test=True,
        ),
        ScaleDefinition(
            "uniform noise",
            "Uniform noise",
            "Every pixel at random: the score without knowledge of the data; log2(levels) bits/dim.",
            noise_samples,
            noise_log_prob,
            MASS,
        ),
        ScaleDefinition(
            "gaussian",
            "One Gaussian",
            "One full-covariance Gaussian fitted to the train pixels: the score of the first two moments. Its "
            "covariance is shrunk towards a multiple of the identity, by what held-out train pixels favour.",
            gaussian_samples,
            gaussian_log_prob,
            DENSITY,
        ),
    )
}
