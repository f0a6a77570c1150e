"""Variational autoencoder (Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114).

Implemented: a Gaussian encoder and an independent-pixel decoder, trained on the lower bound with the KL term in closed
form (eq. 10); the bound on the discrete pixels as an ability; the importance-weighted bound of Burda, Grosse and
Salakhutdinov 2016 (arXiv:1509.00519, section 3) as another.

Deviations
- Convolutions instead of one hidden layer of 500 units; Adam instead of Adagrad; a moving average of the weights.
- Grey levels are discrete, so the decoder gives them probabilities, not a density: a logistic or Gaussian integrated
  over the cell of each level, the outermost cells open (Salimans et al. 2017, section 2.1), with one learned scale per
  pixel. The paper's Bernoulli decoder is a probability of black-and-white images only and is refused for others.
- The output's bias starts at the mean of the first batch.
- Pictures are the decoder's mean by default, not a draw from p(x|z): they lack the noise that the decoder adds to every
  pixel on its own, and they are smoother than the data. This blur is the model's, as it explains fine detail as noise.
- beta weighs the KL term in the loss alone (Higgins et al. 2017). The reported bounds always have beta = 1.

Symbols
    paper                   here                shape
    x                       pixels              (B, C, H, W), grey levels 0 .. L-1
    z                       z                   (B, J)
    mu, log sigma^2         mean, log_var       (B, J), of q(z|x)
    epsilon                 noise               (B, J)
    log p(x|z)              likelihood.log_prob (B,), nats
    D_KL(q(z|x) || p(z))    kl_to_prior         (B,), nats
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    DataSpec,
    ImportanceBound,
    LikelihoodBound,
    Loss,
    Model,
    Recipe,
    Reconstructs,
)
from genbench.errors import ModelError
from genbench.space import seeded, to_unit_range

OUTPUTS = ("mean", "sample")
SMALLEST_LOG_SCALE = -7.0


@dataclass(frozen=True)
class VAEConfig:
    """Sizes and constants.

    latent: J, numbers in z; the paper has 2 to 200. channels: features at full resolution, doubled at every halving.
    halvings: convolutions of stride 2. hidden: units of the dense layer on either side of z; the paper has 500.
    likelihood: p(x|z), "logistic", "gaussian" (both discretised) or "bernoulli" (two grey levels; the paper's for
    MNIST). beta: weight of the KL term in the loss, 1.
    """

    latent: int = 16
    channels: int = 32
    halvings: int = 2
    hidden: int = 256
    likelihood: str = "logistic"
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("latent", 1), ("channels", 1), ("halvings", 0), ("hidden", 1), ("beta", 0)):
            if getattr(self, name) < least:
                raise ModelError(f"vae: config.{name} is {getattr(self, name)}; allowed: at least {least}")
        if self.likelihood not in LIKELIHOODS:
            raise ModelError(f"vae: config.likelihood is {self.likelihood!r}; allowed: {', '.join(LIKELIHOODS)}")


@dataclass(frozen=True)
class VAESampler:
    """output: "mean" of p(x|z), smooth, or "sample", a draw from it with noise of its own in every pixel."""

    output: str = "mean"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ModelError(f"vae: sampler.output is {self.output!r}; allowed: {', '.join(OUTPUTS)}")


def reparameterise(mean: Tensor, log_var: Tensor, gen: Generator) -> Tensor:
    """A draw z = mean + sigma * noise, noise from N(0, I) (section 2.4): (B, J)."""
    noise = torch.randn(mean.shape, generator=gen, device=gen.device, dtype=mean.dtype)
    return mean + (0.5 * log_var).exp() * noise


def kl_to_prior(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats, summed over (B, J): (B,) (appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log density of N(mean, exp(log_var)) at z, summed over (B, J): (B,), nats."""
    return -0.5 * ((z - mean).square() * (-log_var).exp() + log_var + math.log(2 * math.pi)).sum(1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean over K of weights whose logs are (K, B): (B,)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def logistic_log_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(F(high) - F(low)) of the standard logistic: F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)), exact in the tails."""
    return F.logsigmoid(high) + F.logsigmoid(-low) + (-torch.expm1(low - high)).log()


def normal_log_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(F(high) - F(low)) of the standard normal, taken in the lower tail, where differences keep their digits."""
    low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + (-torch.expm1(log_low - log_high)).log()


class Likelihood(nn.Module):
    """p(x|z) of independent pixels, given the decoder's output (B, C, H, W)."""

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """Log-probability in nats of grey levels (B, C, H, W), summed over the image: (B,)."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """The picture (B, C, H, W) in [-1, 1] that the output stands for."""
        raise NotImplementedError

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """A draw (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def output_for(self, x: Tensor) -> Tensor:
        """The output whose mean is x in [-1, 1]."""
        return x


class Discretised(Likelihood):
    """Mass of a location-scale family on the cell of each grey level; output is the location, the scale is learned.

    P(k) = F((x_k + h - output) / s) - F((x_k - h - output) / s), x_k = level k in [-1, 1], h = 1 / (L - 1); the lowest
    cell reaches to -inf, the highest to inf, so the sum over k telescopes to 1.
    """

    def __init__(
        self,
        data: DataSpec,
        log_cdf: Callable[[Tensor], Tensor],
        log_interval: Callable[[Tensor, Tensor], Tensor],
        quantile: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.levels = data.levels
        self.log_cdf, self.log_interval, self.quantile = log_cdf, log_interval, quantile
        self.log_scale = nn.Parameter(torch.full((1, *data.shape), -1.5))

    @property
    def scale(self) -> Tensor:
        """The learned s, (1, C, H, W)."""
        return self.log_scale.clamp_min(SMALLEST_LOG_SCALE).exp()

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """As in Likelihood."""
        low, high = ((self.edge(pixels.to(output.dtype) + side) - output) / self.scale for side in (0, 1))
        inner = self.log_interval(low, high)
        upper = torch.where(pixels == self.levels - 1, self.log_cdf(-low), inner)  # F is symmetric: 1 - F(a) = F(-a)
        return torch.where(pixels == 0, self.log_cdf(high), upper).flatten(1).sum(1)

    def edge(self, k: Tensor) -> Tensor:
        """Lower edge of level k's cell in [-1, 1]; the same number as the upper edge of level k - 1, bit for bit."""
        return (2 * k - 1) / (self.levels - 1) - 1

    def mean(self, output: Tensor) -> Tensor:
        """The location, kept in range: the median, and for inner locations nearly the mean."""
        return output.clamp(-1, 1)

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """Rounding this to the nearest level gives level k with probability P(k)."""
        u = torch.rand(output.shape, generator=gen, device=gen.device).clamp(1e-6, 1 - 1e-6)
        return (output + self.scale * self.quantile(u)).clamp(-1, 1)


class Bernoulli(Likelihood):
    """White with probability sigmoid(output); pixels 0 and 1 (appendix C.1)."""

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """As in Likelihood."""
        losses = F.binary_cross_entropy_with_logits(output, pixels.to(output.dtype), reduction="none")
        return -losses.flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        """2 sigmoid(output) - 1."""
        return (output / 2).tanh()

    def draw(self, output: Tensor, gen: Generator) -> Tensor:
        """-1 or 1."""
        u = torch.rand(output.shape, generator=gen, device=gen.device)
        return torch.where(u < output.sigmoid(), 1.0, -1.0)

    def output_for(self, x: Tensor) -> Tensor:
        """Kept finite where the picture is all black or all white."""
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
            f"vae: config.likelihood is 'bernoulli', a probability of 2 grey levels, and the data have {data.levels}; "
            "allowed: logistic, gaussian"
        )
    return Bernoulli()


LIKELIHOODS: dict[str, Callable[[DataSpec], Likelihood]] = {
    "logistic": logistic,
    "gaussian": gaussian,
    "bernoulli": bernoulli,
}


def resolutions(data: DataSpec, halvings: int) -> list[tuple[int, int]]:
    """(H, W) at full resolution and after each convolution of stride 2, which rounds up."""
    sizes = [(data.height, data.width)]
    for _ in range(halvings):
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


class Encoder(nn.Module):
    """q(z|x) (eq. 9): images (B, C, H, W) in [-1, 1] to mean and log-variance, (B, J) each."""

    def __init__(self, data: DataSpec, config: VAEConfig) -> None:
        super().__init__()
        width, (h, w) = config.channels, resolutions(data, config.halvings)[-1]
        layers: list[nn.Module] = [nn.Conv2d(data.channels, width, 3, padding=1), nn.SiLU()]
        for _ in range(config.halvings):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU()]
            width *= 2
        layers += [nn.Flatten(), nn.Linear(width * h * w, config.hidden), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(config.hidden, 2 * config.latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z."""
        mean, log_var = self.layers(x).to(x.dtype).chunk(2, dim=1)
        return mean, log_var


class Decoder(nn.Module):
    """Latents (B, J) to the likelihood's output (B, C, H, W): the encoder backwards, and a bias per pixel."""

    def __init__(self, data: DataSpec, config: VAEConfig) -> None:
        super().__init__()
        sizes, width = resolutions(data, config.halvings), config.channels * 2**config.halvings
        h, w = sizes[-1]
        layers: list[nn.Module] = [nn.Linear(config.latent, config.hidden), nn.SiLU()]
        layers += [nn.Linear(config.hidden, width * h * w), nn.SiLU(), nn.Unflatten(1, (width, h, w))]
        for size in reversed(sizes[:-1]):
            layers += [nn.Upsample(size=size), nn.Conv2d(width, width // 2, 3, padding=1), nn.SiLU()]
            width //= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, data.channels, 3, padding=1))
        self.bias = nn.Parameter(torch.zeros(1, *data.shape))

    def forward(self, z: Tensor) -> Tensor:
        """The location, or the logit, of every pixel."""
        return self.layers(z).to(z.dtype) + self.bias


class VAE(Model, LikelihoodBound, ImportanceBound, Reconstructs):
    """A latent Gaussian code, a decoder of independent pixels, and an encoder that is trained with it."""

    family = "vae"
    Config = VAEConfig
    Sampler = VAESampler

    def __init__(self, data: DataSpec, config: VAEConfig | None = None, sampler: VAESampler | None = None) -> None:
        super().__init__(data, config, sampler)
        self.encoder, self.decoder = Encoder(data, self.config), Decoder(data, self.config)
        self.likelihood = LIKELIHOODS[self.config.likelihood](data)

    @classmethod
    def preset(cls, data: DataSpec) -> VAEConfig:
        """Two halvings and half the width up to 16x16 pixels; above, halvings until 4 to 7 pixels are left."""
        likelihood = "bernoulli" if data.levels == 2 else "logistic"
        if max(data.height, data.width) <= 16:
            return VAEConfig(latent=16, channels=16, halvings=2, hidden=128, likelihood=likelihood)
        halvings = max(0, int(math.log2(min(data.height, data.width) / 4)))
        return VAEConfig(latent=32, channels=32, halvings=halvings, hidden=256, likelihood=likelihood)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam with a cosine decay and an average of the weights; below 32x32 small batches, for a CPU."""
        if max(data.height, data.width) <= 16:
            return Recipe(lr=4e-3, batch=64, warmup=50, decay="cosine", ema=0.999, images=96_000)
        if min(data.height, data.width) < 32:
            return Recipe(lr=4e-3, batch=32, warmup=100, decay="cosine", ema=0.999, images=200_000)
        return Recipe(lr=1e-3, batch=128, warmup=100, decay="cosine", ema=0.999, images=600_000)

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Starts the output's bias at the batch's mean picture."""
        with torch.no_grad():
            self.decoder.bias.copy_(self.likelihood.output_for(batch.x.mean(0, keepdim=True)))

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The batch's mean of -log p(x|z) + beta KL in nats per image, z one draw from q(z|x) (eq. 10)."""
        mean, log_var = self.encoder(batch.x)
        reconstruction = -self.likelihood.log_prob(
            batch.pixels, self.decoder(reparameterise(mean, log_var, gen))
        ).mean()
        kl = kl_to_prior(mean, log_var).mean()
        bits = (reconstruction + kl).detach() / (self.data.dims * math.log(2))
        terms = {"reconstruction": reconstruction.detach(), "kl": kl.detach(), "bits_per_dim": bits}
        return Loss(reconstruction + self.config.beta * kl, terms)

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None, samples: int = 1) -> Tensor:
        """The evidence lower bound (eq. 3) in nats of the discrete pixels (B, C, H, W) uint8: (B,).

        The expectation over q(z|x) is the mean of `samples` draws: unbiased with one. beta plays no part.
        """
        gen = seeded(0, pixels.device) if gen is None else gen
        mean, log_var = self.encoder(to_unit_range(pixels, self.data.levels))
        draws = (reparameterise(mean, log_var, gen) for _ in range(samples))
        fits = torch.stack([self.likelihood.log_prob(pixels, self.decoder(z)) for z in draws])
        return fits.mean(0) - kl_to_prior(mean, log_var)

    @torch.no_grad()
    def log_prob_importance(self, pixels: Tensor, k: int, gen: Generator | None = None) -> Tensor:
        """The importance-weighted bound with k draws (Burda et al. 2016, section 3) in nats: (B,).

        At least as tight as the bound above on average, and log p(x) in the limit of k. One draw is decoded at a time:
        whatever k, the memory is that of one pass over the images.
        """
        gen = seeded(0, pixels.device) if gen is None else gen
        mean, log_var = self.encoder(to_unit_range(pixels, self.data.levels))
        draws = (reparameterise(mean, log_var, gen) for _ in range(k))
        return log_mean_exp(torch.stack([self.log_weight(pixels, z, mean, log_var) for z in draws]))

    def log_weight(self, pixels: Tensor, z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """Log of p(x|z) p(z) / q(z|x), with mean and log_var those of q(z|x): (B,)."""
        prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        return self.likelihood.log_prob(pixels, self.decoder(z)) + prior - log_normal(z, mean, log_var)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x) for images in [-1, 1]: (B, J)."""
        return self.encoder(x)[0]

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents from the prior N(0, I): (n, J)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """The mean pictures of latents (B, J): (B, C, H, W) in [-1, 1]."""
        return self.likelihood.mean(self.decoder(z))

    @property
    def caveat(self) -> str:
        """That the pictures are means, where they are."""
        if self.sampler.output == "sample":
            return ""
        return "What is shown and scored is the mean of p(x|z), a blurred picture; a draw from p(x|z) scores worse."

    @torch.no_grad()
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Pictures (n, C, H, W) in [-1, 1]: p(x|z)'s mean or a draw from it, as the sampler says."""
        output = self.decoder(self.noise(n, gen))
        return self.likelihood.mean(output) if self.sampler.output == "mean" else self.likelihood.draw(output, gen)
