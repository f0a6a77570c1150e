"""p(x|z) of a VAE for grey levels: independent pixels, discretised logistic, discretised Gaussian or Bernoulli.

Grey levels are discrete, so p(x|z) is a probability, not a density: a logistic or Gaussian integrated over the cell of
each level, where the outermost cells are unbounded (Salimans et al. 2017, arXiv:1701.05517, section 2.1). The decoder
predicts locations and scales (Kingma and Welling 2014, appendix C.2). The paper's Bernoulli (appendix C.1) is only
allowed for data with two grey levels.

Shapes: B images, C channels, H height, W width; a decoder's output is (B, numbers C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from genbench.contract import DataSpec
from genbench.errors import ModelError

SMALLEST_LOG_SCALE, FIRST_LOG_SCALE, LARGEST_LOG_SCALE = -7.0, -1.5, 5.0


def logistic_log_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(F(high) - F(low)), F the standard logistic, by F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)): accurate."""
    return F.logsigmoid(high) + F.logsigmoid(-low) + (-torch.expm1(low - high)).log()


def normal_log_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(F(high) - F(low)) of the standard normal, computed in the lower tail, where the difference is accurate."""
    low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + (-torch.expm1(log_low - log_high)).log()


class Likelihood:
    """p(x|z) of independent pixels, given the decoder's output (B, numbers C, H, W)."""

    numbers: ClassVar[int] = 1  # decoder outputs per value of a pixel

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """Log-probability in nats of grey levels (B, C, H, W), summed over the image: (B,)."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """The mean image (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """A draw of images (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def output_for(self, x: Tensor) -> Tensor:
        """An output whose mean is x (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError


class Discretised(Likelihood):
    """Mass of a location-scale family on the cell of each grey level; the decoder predicts locations m and log scales
    log s, as the paper's Gaussian decoder does (appendix C.2).

    P(k) = F((x_k + h - m) / s) - F((x_k - h - m) / s), x_k = level k in [-1, 1], h = 1 / (L - 1). The lowest cell
    extends to -inf, the highest to inf, so the sum over k is 1.
    """

    numbers = 2

    def __init__(
        self,
        data: DataSpec,
        log_cdf: Callable[[Tensor], Tensor],
        log_interval: Callable[[Tensor, Tensor], Tensor],
        quantile: Callable[[Tensor], Tensor],
    ) -> None:
        self.levels = data.levels
        self.log_cdf, self.log_interval, self.quantile = log_cdf, log_interval, quantile

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """Log-probability in nats of grey levels (B, C, H, W), summed over the image: (B,)."""
        location, scale = location_and_scale(output)
        low, high = ((self.edge(pixels.to(output.dtype) + side) - location) / scale for side in (0, 1))
        inner = self.log_interval(low, high)
        upper = torch.where(pixels == self.levels - 1, self.log_cdf(-low), inner)  # F is symmetric: 1 - F(a) = F(-a)
        return torch.where(pixels == 0, self.log_cdf(high), upper).flatten(1).sum(1)

    def edge(self, k: Tensor) -> Tensor:
        """Lower edge of level k's cell in [-1, 1]; exactly equal to the upper edge of level k - 1."""
        return (2 * k - 1) / (self.levels - 1) - 1

    def mean(self, output: Tensor) -> Tensor:
        """The location clamped to [-1, 1]: the median, and close to the mean unless it is near -1 or 1."""
        return location_and_scale(output)[0].clamp(-1, 1)

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """Rounding this to the nearest level gives level k with probability P(k)."""
        location, scale = location_and_scale(output)
        u = torch.rand(location.shape, generator=gen, device=gen.device).clamp(1e-6, 1 - 1e-6)
        return (location + scale * self.quantile(u)).clamp(-1, 1)

    def output_for(self, x: Tensor) -> Tensor:
        """An output with locations x and the initial log scale."""
        return torch.cat([x, torch.full_like(x, FIRST_LOG_SCALE)], 1)


def location_and_scale(output: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale of an output (B, 2 C, H, W), whose second half is the log scale: (B, C, H, W) each."""
    location, log_scale = output.chunk(2, 1)
    return location, log_scale.clamp(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE).exp()


class Bernoulli(Likelihood):
    """Pixel 1 with probability sigmoid(output), otherwise 0 (appendix C.1)."""

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """Log-probability in nats of grey levels (B, C, H, W), summed over the image: (B,)."""
        losses = F.binary_cross_entropy_with_logits(output, pixels.to(output.dtype), reduction="none")
        return -losses.flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        """The mean image, 2 sigmoid(output) - 1."""
        return (output / 2).tanh()

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """A draw of images whose pixels are -1 or 1."""
        u = torch.rand(output.shape, generator=gen, device=gen.device)
        return torch.where(u < output.sigmoid(), 1.0, -1.0)

    def output_for(self, x: Tensor) -> Tensor:
        """Logits of x clamped to [-0.99, 0.99], so that they are finite."""
        return 2 * x.clamp(-0.99, 0.99).atanh()


def logistic(data: DataSpec) -> Likelihood:
    """The discretised logistic."""
    return Discretised(data, F.logsigmoid, logistic_log_interval, torch.logit)


def gaussian(data: DataSpec) -> Likelihood:
    """The discretised Gaussian."""
    return Discretised(data, torch.special.log_ndtr, normal_log_interval, torch.special.ndtri)


def bernoulli(data: DataSpec) -> Likelihood:
    """The Bernoulli; raises ModelError unless the data have two grey levels."""
    if data.levels != 2:
        raise ModelError(
            f"VAE: config.likelihood: found 'bernoulli', allowed: logistic, gaussian for {data.levels} grey levels"
        )
    return Bernoulli()


LIKELIHOODS: dict[str, Callable[[DataSpec], Likelihood]] = {
    "logistic": logistic,
    "gaussian": gaussian,
    "bernoulli": bernoulli,
}
