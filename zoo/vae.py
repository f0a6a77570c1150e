"""Variational autoencoder (Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114).

Implemented: a Gaussian encoder and an independent-pixel decoder (zoo.vae_likelihoods), trained on the lower bound with
the KL term in closed form (eq. 10); the bound on the discrete pixels, and the importance-weighted bound of Burda,
Grosse and Salakhutdinov 2016 (arXiv:1509.00519, section 3). Options, in addition to the paper's z:
- details: latents z_1, z_2, .. at each resolution of the decoder, coarsest first, each inferred from the latents drawn
  before it and the image, q(z_i | z_<i, x) (Sonderby et al. 2016, arXiv:1602.02282);
- couplings: a learned prior of the first latents z_0, an invertible network between them and N(0, I) (Huang et al.
  2017, arXiv:1710.02248), here of affine couplings (Dinh et al. 2017, arXiv:1605.08803, eq. 7, 8).

Deviations
- Convolutions instead of one hidden layer of 500 units; Adam instead of Adagrad, up to 16x16 with decoupled weight
  decay, between 17x17 and 31x31 with clipped gradients; averaged weights.
- The output has a bias per pixel, initialised from the mean of the first batch. The decoder's log scales are clamped,
  and log-variances of q are 5 tanh(. / 5) of the networks' outputs: without that a single image's variance can grow
  until its latents overflow.
- Below 32x32 the presets have a learned prior and, for grey images from 17x17 pixels, details. With a single Gaussian
  layer and the prior N(0, I), latents far from all encoded images decode to mixtures of images, and fine detail becomes
  noise of p(x|z).
- The prior of details is N(0, I) independently of the other latents, because the decoder scales and shifts them, and
  one convolution infers them from the decoder's and the encoder's features. Sonderby et al.'s prior has a learned mean
  and variance, and their posterior combines both by precision. The KL term to a learned prior is estimated from one
  draw of z.
- Samples are the decoder's mean by default, not a draw from p(x|z): they lack the decoder's independent noise in every
  pixel and are smoother than the data.
- beta weighs the KL term only in the loss (Higgins et al. 2017). The reported bounds always have beta = 1.

Symbols
    paper                   here                shape
    x                       pixels              (B, C, H, W), grey levels 0 .. L-1
    z                       z                   (B, J): z_0, z_1, .. flattened and concatenated
    mu, log sigma^2         mean, log_var       (B, J), of q(z|x)
    epsilon                 noise               (B, J)
    log p(x|z)              likelihood.log_prob (B,), nats
    p(z)                    log_prior           (B,), nats
    D_KL(q(z|x) || p(z))    kl, kl_to_prior     (B,), nats
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    ImportanceBound,
    LikelihoodBound,
    Loss,
    Model,
    Recipe,
    Reconstructs,
    Weight,
)
from genbench.space import seeded, to_unit_range
from zoo.nets import NoiseToImages, affordable, kl_to_prior, posterior_draw, scaled
from zoo.nets import log_normal as log_standard_normal
from zoo.vae_likelihoods import LIKELIHOODS

NotNegative = Annotated[int, Ge(0)]
LARGEST_LOG_STRETCH = 2.0  # of one coupling of the prior
LARGEST_LOG_SPREAD = 3.0  # of the factor on a detail
LARGEST_LOG_VAR = 5.0  # of a posterior


@dataclass(frozen=True)
class VAEConfig:
    """Sizes and constants.

    latent: dimensions of z_0, the paper's z, which has 2 to 200. channels: features at full resolution, doubled at
    every halving. halvings: convolutions of stride 2. hidden: units of the dense layers before and after z_0 (paper
    500). likelihood: p(x|z), "logistic", "gaussian" (both discretised) or "bernoulli" (two grey levels; the paper's for
    MNIST). beta: weight of the KL term in the loss. details: channels of the additional latents at each resolution,
    coarsest first (paper: none). couplings: of the learned prior of z_0; 0 is the paper's N(0, I).
    """

    latent: Count = 16
    channels: Count = 32
    halvings: NotNegative = 2
    hidden: Count = 256
    likelihood: Literal["logistic", "gaussian", "bernoulli"] = "logistic"
    beta: Weight = 1.0
    details: tuple[Count, ...] = ()
    couplings: NotNegative = 0

    def __post_init__(self) -> None:
        if self.couplings and self.latent < 2:
            raise ValueError(f"latent: found {self.latent}, allowed: at least 2 with couplings")
        if len(self.details) > self.halvings + 1:
            allowed = f"at most {self.halvings + 1} with halvings {self.halvings}"
            raise ValueError(f"details: found {len(self.details)} numbers, allowed: {allowed}")


@dataclass(frozen=True)
class VAESampler:
    """output: the "mean" of p(x|z), which is smooth, or a "sample" of it, with independent noise in every pixel."""

    output: Literal["mean", "sample"] = "mean"


# ---- mathematics ------------------------------------------------------------------------------------------------


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log density of N(mean, exp(log_var)) at z, summed over (B, J): (B,), nats."""
    return -0.5 * ((z - mean).square() * (-log_var).exp() + log_var + math.log(2 * math.pi)).sum(1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean over K of weights whose logs are (K, B): (B,)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def usual_likelihood(data: DataSpec) -> Literal["bernoulli", "logistic"]:
    """The likelihood of p(x|z) for this many grey levels."""
    return "bernoulli" if data.levels == 2 else "logistic"


def resolutions(data: DataSpec, halvings: int) -> list[tuple[int, int]]:
    """(H, W) at full resolution and after each convolution of stride 2, which rounds up."""
    sizes = [(data.height, data.width)]
    for _ in range(halvings):
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


# ---- networks ---------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """q(z_0|x) (eq. 9): images (B, C, H, W) in [-1, 1] to mean and log-variance, (B, latent) each, and features."""

    def __init__(self, data: DataSpec, config: VAEConfig) -> None:
        super().__init__()
        width, (h, w) = config.channels, resolutions(data, config.halvings)[-1]
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(data.channels, width, 3, padding=1), nn.SiLU())])
        for _ in range(config.halvings):
            self.blocks.append(nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU()))
            width *= 2
        dense = [nn.Flatten(), nn.Linear(width * h * w, config.hidden), nn.SiLU()]
        self.last = nn.Sequential(*dense, nn.Linear(config.hidden, 2 * config.latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mean and log-variance of z_0, and the features at each resolution from the coarsest."""
        features: list[Tensor] = [x]
        for block in self.blocks:
            features.append(block(features[-1]))
        mean, log_var = self.last(features[-1]).to(x.dtype).chunk(2, dim=1)
        return mean, bounded(log_var, LARGEST_LOG_VAR), features[:0:-1]


class Detail(nn.Module):
    """Adds details z (B, k, H, W) to features h (B, width, H, W) of the decoder. Before training q equals p."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.spread = scaled(nn.Conv2d(width, channels, 3, padding=1), 0.0)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.infer = scaled(nn.Conv2d(2 * width, 2 * channels, 3, padding=1), 0.0)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """The sum of h and a convolution of the scaled details: (B, width, H, W)."""
        return h + self.enter(bounded(self.spread(h), LARGEST_LOG_SPREAD).exp() * z)

    def posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z_i | z_<i, x) from the decoder's features h and the encoder's features."""
        mean, log_var = self.infer(torch.cat([h, features], 1)).to(self.infer.weight).chunk(2, dim=1)
        return mean, bounded(log_var, LARGEST_LOG_VAR)


class Decoder(nn.Module):
    """Latents to the likelihood's parameters (B, numbers C, H, W): the encoder's layers reversed, a bias per pixel."""

    def __init__(self, data: DataSpec, config: VAEConfig, numbers: int) -> None:
        super().__init__()
        sizes, width = resolutions(data, config.halvings), config.channels * 2**config.halvings
        h, w = sizes[-1]
        layers: list[nn.Module] = [nn.Linear(config.latent, config.hidden), nn.SiLU()]
        self.first = nn.Sequential(
            *layers, nn.Linear(config.hidden, width * h * w), nn.SiLU(), nn.Unflatten(1, (width, h, w))
        )
        self.details = nn.ModuleList(Detail(width // 2**i, k) for i, k in enumerate(config.details))
        self.blocks = nn.ModuleList()
        for size in reversed(sizes[:-1]):
            conv = nn.Conv2d(width, width // 2, 3, padding=1)
            self.blocks.append(nn.Sequential(nn.Upsample(size=size), conv, nn.SiLU()))
            width //= 2
        self.last = nn.Conv2d(width, numbers * data.channels, 3, padding=1)
        self.bias = nn.Parameter(torch.zeros(1, numbers * data.channels, data.height, data.width))

    def forward(self, top: Tensor, details: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Location and log scale, or logit, of every pixel.

        top: z_0 (B, latent). details: function of i, from 1, and the decoder's features h (B, .., H, W) that returns
        z_i.
        """
        h = self.first(top)
        for i in range(len(self.blocks) + 1):
            if i < len(self.details):
                h = self.details[i](h, details(i + 1, h))
            if i < len(self.blocks):
                h = self.blocks[i](h)
        return self.last(h).to(top.dtype) + self.bias


def bounded(x: Tensor, limit: float) -> Tensor:
    """Limit * tanh(x / limit), which is close to x for small x."""
    return limit * (x / limit).tanh()


class Prior(nn.Module):
    """p(z_0): affine couplings map z_0 to u ~ N(0, I); without couplings u is z_0.

    log p(z_0) = log N(u; 0, I) + sum of s. A coupling preserves the first half a of its input, replaces the second half
    b by (b + t(a)) exp(s(a)), and swaps them. Before training it is N(0, I).
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        halves = [config.latent // 2, config.latent - config.latent // 2]
        self.latent, self.networks = config.latent, nn.ModuleList()
        for i in range(config.couplings):
            kept, changed = halves[i % 2], halves[1 - i % 2]
            layers = [nn.Linear(kept, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden), nn.SiLU()]
            self.networks.append(nn.Sequential(*layers, scaled(nn.Linear(config.hidden, 2 * changed), 0.0)))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of latents (B, latent): (B,), nats."""
        log_det: Tensor | float = 0.0
        for network in self.networks:
            a, b = z.tensor_split([network[0].in_features], 1)
            s, t = self.stretch_and_shift(network, a)
            z, log_det = torch.cat([(b + t) * s.exp(), a], 1), log_det + s.sum(1)
        return log_standard_normal(z) + log_det

    def from_noise(self, u: Tensor) -> Tensor:
        """The z_0 of u (B, latent)."""
        for network in reversed(self.networks):
            b, a = u.tensor_split([self.latent - network[0].in_features], 1)
            s, t = self.stretch_and_shift(network, a)
            u = torch.cat([a, b * (-s).exp() - t], 1)
        return u

    @staticmethod
    def stretch_and_shift(network: nn.Module, a: Tensor) -> tuple[Tensor, Tensor]:
        """The s and t of one coupling."""
        s, t = network(a).to(a.dtype).chunk(2, 1)
        return bounded(s, LARGEST_LOG_STRETCH), t


# ---- model ------------------------------------------------------------------------------------------------------


class VAE(Model, LikelihoodBound, ImportanceBound, Reconstructs):
    """Gaussian latents, a decoder of independent pixels, and an encoder that is trained with it."""

    family = "vae"
    Config = VAEConfig
    Sampler = VAESampler

    def __init__(self, data: DataSpec, config: VAEConfig | None = None, sampler: VAESampler | None = None) -> None:
        super().__init__(data, config, sampler)
        self.likelihood = LIKELIHOODS[self.config.likelihood](data)
        self.encoder, self.prior = Encoder(data, self.config), Prior(self.config)
        self.decoder = Decoder(data, self.config, self.likelihood.numbers)
        sides = resolutions(data, self.config.halvings)[::-1]
        details = [(k, *side) for k, side in zip(self.config.details, sides, strict=False)]
        self.shapes: list[tuple[int, ...]] = [(self.config.latent,), *details]

    @classmethod
    def preset(cls, data: DataSpec) -> VAEConfig:
        """From 32x32 halvings until the smallest maps have 4 to 7 pixels, below it the small networks."""
        side = min(data.height, data.width)
        if side < 32:
            return VAE.small(data)[0]
        return VAEConfig(latent=32, halvings=int(math.log2(side / 4)), likelihood=usual_likelihood(data))

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam with a cosine decay and averaged weights; below 32x32 small batches, for a CPU.

        The loss is a sum over pixels, so gradients are large; the clip only acts on rare steps that would diverge.
        """
        if min(data.height, data.width) < 32:
            return VAE.small(data)[1]
        return Recipe(lr=1e-3, batch=128, warmup=100, decay="cosine", ema=0.999, images=600_000)

    @classmethod
    def small(cls, data: DataSpec) -> tuple[VAEConfig, Recipe]:
        """A learned prior; halvings as in `preset`, up to 16x16 pixels two; between 17x17 and 31x31 grey with details.

        Colour pictures and those from 32x32 on have none: after the 16,000 images of two minutes, details drawn from
        their prior were spots of colour that hid the image (tools/preset_trial.py).
        """
        likelihood, side = usual_likelihood(data), min(data.height, data.width)
        if max(data.height, data.width) <= 16:
            config = VAEConfig(latent=16, channels=16, hidden=128, likelihood=likelihood, couplings=4)
            decay = 0.1  # against overfitting of the learned prior to about a thousand images
            return config, Recipe(
                lr=4e-3, batch=64, warmup=50, decay="cosine", weight_decay=decay, ema=0.999, images=96_000
            )
        halvings, channels = max(0, int(math.log2(side / 4))), 32 if side < 48 else 16
        details = (4, 2)[: halvings + 1] if side < 32 and data.channels == 1 else ()
        latent = 24 if details else 32
        config = VAEConfig(latent, channels, halvings, likelihood=likelihood, details=details, couplings=6)
        images = affordable(data, 200_000, 114_000)
        clip = 2_000.0 * max(1.0, data.dims / 784)  # the loss is a sum over pixels
        return config, Recipe(lr=4e-3, batch=32, warmup=100, decay="cosine", clip=clip, ema=0.999, images=images)

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Initialises the output's bias from the mean image of the batch."""
        with torch.no_grad():
            self.decoder.bias.copy_(self.likelihood.output_for(batch.x.mean(0, keepdim=True)))

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The batch's mean of -log p(x|z) + beta KL in nats per image, z one draw from q(z|x) (eq. 10)."""
        z, mean, log_var, output = self.infer(batch.x, self.standard_normal(len(batch), gen))
        reconstruction = -self.likelihood.log_prob(batch.pixels, output).mean()
        kl = self.kl(z, mean, log_var).mean()
        bits = (reconstruction + kl) / (self.data.dims * math.log(2))
        terms = {"reconstruction": reconstruction, "kl": kl, "bits_per_dim": bits}
        return Loss(reconstruction + self.config.beta * kl, terms)

    def infer(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents z of images x in [-1, 1], the mean and log-variance of q(z|x), and the decoder's output for z.

        noise (B, J): standard normal, for posterior_draw. Returns three (B, J) and (B, numbers C, H, W).
        """
        mean, log_var, features = self.encoder(x)
        parts = self.layers(noise)
        inferred = [(posterior_draw(mean, log_var, parts[0]), mean, log_var)]

        def detail(i: int, h: Tensor) -> Tensor:
            mean, log_var = self.decoder.details[i - 1].posterior(h, features[i - 1])
            inferred.append((posterior_draw(mean, log_var, parts[i]), mean, log_var))
            return inferred[-1][0]

        output = self.decoder(inferred[0][0], detail)
        z, mean, log_var = (torch.cat([part.flatten(1) for part in parts], 1) for parts in zip(*inferred, strict=True))
        return z, mean, log_var, output

    def layers(self, z: Tensor) -> list[Tensor]:
        """The parts z_0 (B, latent), z_1 (B, k, H, W), .. of latents (B, J)."""
        parts = z.split([math.prod(shape) for shape in self.shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def output(self, z: Tensor) -> Tensor:
        """The decoder's output for latents z (B, J): (B, numbers C, H, W)."""
        parts = self.layers(z)
        return self.decoder(parts[0], lambda i, h: parts[i])

    def log_prior(self, z: Tensor) -> Tensor:
        """Log p(z) of latents (B, J): (B,), nats."""
        top, details = z.tensor_split([self.config.latent], 1)
        return self.prior.log_prob(top) + log_standard_normal(details)

    def kl(self, z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """D_KL(q(z|x) || p(z)) in nats; with a learned prior, an estimate at the draw z of q(z|x): (B,)."""
        if not self.config.couplings:
            return kl_to_prior(mean, log_var)
        (top, _), (_, mean), (top_log_var, log_var) = (
            v.tensor_split([self.config.latent], 1) for v in (z, mean, log_var)
        )
        entropy = 0.5 * (1 + math.log(2 * math.pi) + top_log_var).sum(1)
        return -entropy - self.prior.log_prob(top) + kl_to_prior(mean, log_var)

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None, samples: int = 1) -> Tensor:
        """The evidence lower bound (eq. 3) in nats of the discrete pixels (B, C, H, W) uint8: (B,).

        The expectation over q(z|x) is estimated by the mean of `samples` draws, without bias. beta is not used.
        """
        gen = seeded(0, pixels.device) if gen is None else gen
        x, bounds = to_unit_range(pixels, self.data.levels), []
        for _ in range(samples):
            z, mean, log_var, output = self.infer(x, self.standard_normal(len(x), gen))
            bounds.append(self.likelihood.log_prob(pixels, output) - self.kl(z, mean, log_var))
        return torch.stack(bounds).mean(0)

    @torch.no_grad()
    def log_prob_importance(self, pixels: Tensor, k: int, gen: Generator | None = None) -> Tensor:
        """The importance-weighted bound with k draws (Burda et al. 2016, section 3) in nats: (B,).

        On average at least as tight as log_prob_bound; converges to log p(x) with growing k. Draws are decoded one by
        one, so memory does not depend on k.
        """
        gen = seeded(0, pixels.device) if gen is None else gen
        x = to_unit_range(pixels, self.data.levels)
        draws = (self.infer(x, self.standard_normal(len(x), gen)) for _ in range(k))
        return log_mean_exp(torch.stack([self.log_weight(pixels, *draw) for draw in draws]))

    def log_weight(self, pixels: Tensor, z: Tensor, mean: Tensor, log_var: Tensor, output: Tensor) -> Tensor:
        """Log of p(x|z) p(z) / q(z|x), with mean and log_var of q(z|x): (B,)."""
        return self.likelihood.log_prob(pixels, output) + self.log_prior(z) - log_normal(z, mean, log_var)

    def encode(self, x: Tensor) -> Tensor:
        """Means of q(z_0|x) for images in [-1, 1] and of each q(z_i|z_<i, x) at the preceding means: (B, J)."""
        return self.infer(x, torch.zeros(len(x), self.latents, device=x.device))[0]

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents from the prior: (n, J)."""
        return self.from_noise(self.standard_normal(n, gen))

    def from_noise(self, noise: Tensor) -> Tensor:
        """Latents of the prior from standard normal noise (B, J)."""
        top, details = noise.tensor_split([self.config.latent], 1)
        return torch.cat([self.prior.from_noise(top), details], 1)

    @property
    def latents(self) -> int:
        """J, the number of latent dimensions."""
        return sum(math.prod(shape) for shape in self.shapes)

    def standard_normal(self, n: int, gen: Generator) -> Tensor:
        """Standard normal noise: (n, J)."""
        return torch.randn(n, self.latents, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """The mean images of latents (B, J): (B, C, H, W) in [-1, 1]."""
        return self.likelihood.mean(self.output(z))

    def images(self, noise: Tensor) -> Tensor:
        """The mean images of standard normal noise (B, J), which becomes latents by the prior."""
        return self.decode(self.from_noise(noise))

    def for_onnx(self, n: int, gen: Generator) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """`images`."""
        return NoiseToImages(self), (self.standard_normal(n, gen),)

    @property
    def caveat(self) -> str:
        """A sentence on means, if samples are means of p(x|z)."""
        if self.sampler.output == "sample":
            return ""
        return "Samples are means of p(x|z); draws from p(x|z) score worse."

    @torch.no_grad()
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Images (n, C, H, W) in [-1, 1]: means of p(x|z) or draws from it, by sampler.output."""
        output = self.output(self.noise(n, gen))
        return self.likelihood.mean(output) if self.sampler.output == "mean" else self.likelihood.draw(output, gen)
