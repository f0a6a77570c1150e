"""Variational autoencoder (Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114).

Implemented: a Gaussian encoder and an independent-pixel decoder (zoo.vae_likelihoods), trained on the lower bound with
the KL term in closed form (eq. 10); the bound on the discrete pixels as an ability; the importance-weighted bound of
Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519, section 3) as another. To choose, beside the paper's z:
- details: latents z_1, z_2, .. at each resolution of the decoder, coarsest first, each inferred from what was drawn
  above it and the image, q(z_i | z_<i, x) (Sonderby et al. 2016, arXiv:1602.02282);
- couplings: a prior of the first latents z_0 that is learned along, an invertible network between them and N(0, I)
  (Huang et al. 2017, arXiv:1710.02248), here affine couplings (Dinh et al. 2017, arXiv:1605.08803, eq. 7, 8).

Deviations
- Convolutions instead of one hidden layer of 500 units; Adam instead of Adagrad, up to 16x16 with decoupled weight
  decay, from there to 32x32 with clipped gradients; a moving average of the weights.
- The output has a bias for every pixel, which starts at the mean of the first batch.
- Below 32x32 the presets have a learned prior and, from 17x17 pixels, details. With one Gaussian layer under N(0, I),
  draws where no image was encoded decode to mixtures of pictures, and fine detail is left to p(x|z) as noise.
- Details are N(0, I) under the prior whatever stands above, as the decoder scales and places them itself, and one
  convolution infers them from its features and the encoder's; Sonderby et al.'s prior has a mean and a variance of its
  own, and their posterior weighs the two by precision. The KL term to a learned prior is estimated from one draw of z.
- Pictures are the decoder's mean by default, not a draw from p(x|z): they lack the noise that the decoder adds to every
  pixel on its own, and they are smoother than the data.
- beta weighs the KL term in the loss alone (Higgins et al. 2017). The reported bounds always have beta = 1.

Symbols
    paper                   here                shape
    x                       pixels              (B, C, H, W), grey levels 0 .. L-1
    z                       z, its parts top, z (B, J): z_0, z_1, .. side by side, flat
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

import torch
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
from zoo.nets import log_normal as log_standard_normal
from zoo.nets import scaled
from zoo.vae_likelihoods import LIKELIHOODS

OUTPUTS = ("mean", "sample")
LARGEST_LOG_STRETCH = 2.0  # of one coupling of the prior
LARGEST_LOG_SPREAD = 3.0  # of the factor on a detail
LARGEST_LOG_VAR = 5.0  # of a detail's posterior


@dataclass(frozen=True)
class VAEConfig:
    """Sizes and constants.

    latent: numbers in z_0, the paper's z, which has 2 to 200. channels: features at full resolution, doubled at every
    halving. halvings: convolutions of stride 2. hidden: units of the dense layer on either side of z_0; the paper has
    500. likelihood: p(x|z), "logistic", "gaussian" (both discretised) or "bernoulli" (two grey levels; the paper's for
    MNIST). beta: weight of the KL term in the loss, 1. details: channels of further latents at each resolution from the
    coarsest; () is the paper's. couplings: of the learned prior of z_0; 0 is the paper's, N(0, I).
    """

    latent: int = 16
    channels: int = 32
    halvings: int = 2
    hidden: int = 256
    likelihood: str = "logistic"
    beta: float = 1.0
    details: tuple[int, ...] = ()
    couplings: int = 0

    def __post_init__(self) -> None:
        least_of = {"latent": 2 if self.couplings else 1, "channels": 1, "halvings": 0, "hidden": 1, "beta": 0}
        for name, least in {**least_of, "couplings": 0}.items():
            if getattr(self, name) < least:
                raise ModelError(f"vae: config.{name} is {getattr(self, name)}; allowed: at least {least}")
        if len(self.details) > self.halvings + 1 or any(k < 1 for k in self.details):
            allowed = f"at most {self.halvings + 1} numbers, one more than halvings, each at least 1"
            raise ModelError(f"vae: config.details is {self.details}; allowed: {allowed}")
        if self.likelihood not in LIKELIHOODS:
            raise ModelError(f"vae: config.likelihood is {self.likelihood!r}; allowed: {', '.join(LIKELIHOODS)}")


@dataclass(frozen=True)
class VAESampler:
    """output: "mean" of p(x|z), smooth, or "sample", a draw from it with noise of its own in every pixel."""

    output: str = "mean"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ModelError(f"vae: sampler.output is {self.output!r}; allowed: {', '.join(OUTPUTS)}")


def reparameterise(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """A draw z = mean + sigma * noise, noise from N(0, I) (section 2.4), everything (B, ...)."""
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


def resolutions(data: DataSpec, halvings: int) -> list[tuple[int, int]]:
    """(H, W) at full resolution and after each convolution of stride 2, which rounds up."""
    sizes = [(data.height, data.width)]
    for _ in range(halvings):
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


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
        return mean, log_var, features[:0:-1]


class Detail(nn.Module):
    """One layer of details z (B, k, H, W) in features h (B, width, H, W) of the decoder. Starts with q equal to p."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.spread = scaled(nn.Conv2d(width, channels, 3, padding=1), 0.0)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.judge = scaled(nn.Conv2d(2 * width, 2 * channels, 3, padding=1), 0.0)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """The features with the details in them."""
        return h + self.enter(bounded(self.spread(h), LARGEST_LOG_SPREAD).exp() * z)

    def posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z_i | z_<i, x) from what was drawn above and the encoder's features."""
        mean, log_var = self.judge(torch.cat([h, features], 1)).to(self.judge.weight).chunk(2, dim=1)
        return mean, bounded(log_var, LARGEST_LOG_VAR)


class Decoder(nn.Module):
    """Latents to the likelihood's output (B, numbers C, H, W): the encoder backwards, and a bias per pixel."""

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
        """Location and log of the scale, or the logit, of every pixel.

        top: z_0 (B, latent). details: gives z_i, i from 1, once the features h (B, .., H, W) above it are known.
        """
        h = self.first(top)
        for i in range(len(self.blocks) + 1):
            if i < len(self.details):
                h = self.details[i](h, details(i + 1, h))
            if i < len(self.blocks):
                h = self.blocks[i](h)
        return self.last(h).to(top.dtype) + self.bias


def bounded(x: Tensor, limit: float) -> Tensor:
    """Nearly x where that is small, kept within the limit on either side."""
    return limit * (x / limit).tanh()


class Prior(nn.Module):
    """p(z_0): affine couplings take z_0 to u ~ N(0, I); without any, u is z_0.

    log p(z_0) = log N(u; 0, I) + sum of s, where a coupling keeps the first half a of its input, replaces the second,
    b, by (b + t(a)) exp(s(a)), and swaps them. Starts as N(0, I).
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
        """Two halvings up to 16x16 pixels, above until 4 to 7 are left.

        Below 32x32 a learned prior, from 17x17 details.
        """
        likelihood = "bernoulli" if data.levels == 2 else "logistic"
        if max(data.height, data.width) <= 16:
            return VAEConfig(latent=16, channels=16, hidden=128, likelihood=likelihood, couplings=4)
        side = min(data.height, data.width)
        halvings = max(0, int(math.log2(side / 4)))
        if side >= 32:
            return VAEConfig(latent=32, halvings=halvings, likelihood=likelihood)
        details = (4, 2)[: halvings + 1]
        return VAEConfig(latent=24, halvings=halvings, likelihood=likelihood, details=details, couplings=6)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam with a cosine decay and an average of the weights; below 32x32 small batches, for a CPU.

        The loss is a sum over pixels, and so is its gradient: the clip is for the rare step that would end a training.
        """
        if max(data.height, data.width) <= 16:
            decay = 0.1  # a thousand images are few for a learned prior
            return Recipe(lr=4e-3, batch=64, warmup=50, decay="cosine", weight_decay=decay, ema=0.999, images=96_000)
        if min(data.height, data.width) < 32:
            return Recipe(lr=4e-3, batch=32, warmup=100, decay="cosine", clip=2_000.0, ema=0.999, images=200_000)
        return Recipe(lr=1e-3, batch=128, warmup=100, decay="cosine", ema=0.999, images=600_000)

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Starts the output's bias at the batch's mean picture."""
        with torch.no_grad():
            self.decoder.bias.copy_(self.likelihood.output_for(batch.x.mean(0, keepdim=True)))

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The batch's mean of -log p(x|z) + beta KL in nats per image, z one draw from q(z|x) (eq. 10)."""
        z, mean, log_var, output = self.infer(batch.x, self.standard_normal(len(batch), gen))
        reconstruction = -self.likelihood.log_prob(batch.pixels, output).mean()
        kl = self.kl(z, mean, log_var).mean()
        bits = (reconstruction + kl).detach() / (self.data.dims * math.log(2))
        terms = {"reconstruction": reconstruction.detach(), "kl": kl.detach(), "bits_per_dim": bits}
        return Loss(reconstruction + self.config.beta * kl, terms)

    def infer(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents z of images x in [-1, 1], the mean and log-variance of q(z|x), and the decoder's output for z.

        noise (B, J): of reparameterise, layer after layer. Three (B, J) and (B, numbers C, H, W).
        """
        mean, log_var, features = self.encoder(x)
        parts = self.layers(noise)
        found = [(reparameterise(mean, log_var, parts[0]), mean, log_var)]

        def detail(i: int, h: Tensor) -> Tensor:
            mean, log_var = self.decoder.details[i - 1].posterior(h, features[i - 1])
            found.append((reparameterise(mean, log_var, parts[i]), mean, log_var))
            return found[-1][0]

        output = self.decoder(found[0][0], detail)
        z, mean, log_var = (torch.cat([part.flatten(1) for part in parts], 1) for parts in zip(*found, strict=True))
        return z, mean, log_var, output

    def layers(self, z: Tensor) -> list[Tensor]:
        """The parts z_0 (B, latent), z_1 (B, k, H, W), .. of latents (B, J)."""
        parts = z.split([math.prod(shape) for shape in self.shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def output(self, z: Tensor) -> Tensor:
        """What the decoder says of latents z (B, J): (B, numbers C, H, W)."""
        parts = self.layers(z)
        return self.decoder(parts[0], lambda i, h: parts[i])

    def log_prior(self, z: Tensor) -> Tensor:
        """Log p(z) of latents (B, J): (B,), nats."""
        top, details = z.tensor_split([self.config.latent], 1)
        return self.prior.log_prob(top) + log_standard_normal(details)

    def kl(self, z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """D_KL(q(z|x) || p(z)) in nats, of a learned prior estimated at the draw z of q(z|x): (B,)."""
        if not self.config.couplings:
            return kl_to_prior(mean, log_var)
        (top, _), (_, mean), (top_log_var, log_var) = (
            v.tensor_split([self.config.latent], 1) for v in (z, mean, log_var)
        )
        entropy = 0.5 * (1 + math.log(2 * math.pi) + top_log_var).sum(1)
        return -entropy - self.prior.log_prob(top) + kl_to_prior(mean, log_var)

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None, samples: int = 1) -> Tensor:
        """The evidence lower bound (eq. 3) in nats of the discrete pixels (B, C, H, W) uint8: (B,).

        The expectation over q(z|x) is the mean of `samples` draws: unbiased with one. beta plays no part.
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

        At least as tight as the bound above on average, and log p(x) in the limit of k. One draw is decoded at a time:
        whatever k, the memory is that of one pass over the images.
        """
        gen = seeded(0, pixels.device) if gen is None else gen
        x = to_unit_range(pixels, self.data.levels)
        draws = (self.infer(x, self.standard_normal(len(x), gen)) for _ in range(k))
        return log_mean_exp(torch.stack([self.log_weight(pixels, *draw) for draw in draws]))

    def log_weight(self, pixels: Tensor, z: Tensor, mean: Tensor, log_var: Tensor, output: Tensor) -> Tensor:
        """Log of p(x|z) p(z) / q(z|x), with mean and log_var those of q(z|x): (B,)."""
        return self.likelihood.log_prob(pixels, output) + self.log_prior(z) - log_normal(z, mean, log_var)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z_0|x) for images in [-1, 1], then that of each q(z_i|z_<i, x) at the means above: (B, J)."""
        return self.infer(x, torch.zeros(len(x), self.latents, device=x.device))[0]

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents from the prior: (n, J)."""
        top, details = self.standard_normal(n, gen).tensor_split([self.config.latent], 1)
        return torch.cat([self.prior.from_noise(top), details], 1)

    @property
    def latents(self) -> int:
        """J."""
        return sum(math.prod(shape) for shape in self.shapes)

    def standard_normal(self, n: int, gen: Generator) -> Tensor:
        """Noise (n, J), image after image, so that those to come change nothing for one."""
        return torch.randn(n, self.latents, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """The mean pictures of latents (B, J): (B, C, H, W) in [-1, 1]."""
        return self.likelihood.mean(self.output(z))

    @property
    def caveat(self) -> str:
        """That the pictures are means, where they are."""
        if self.sampler.output == "sample":
            return ""
        return "What is shown and scored is the mean of p(x|z); a draw from p(x|z) scores worse."

    @torch.no_grad()
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Pictures (n, C, H, W) in [-1, 1]: p(x|z)'s mean or a draw from it, as the sampler says."""
        output = self.output(self.noise(n, gen))
        return self.likelihood.mean(output) if self.sampler.output == "mean" else self.likelihood.draw(output, gen)
