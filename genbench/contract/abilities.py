"""The optional abilities of a model, each an abstract base class that it inherits from to declare it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Generator, Tensor, nn

from genbench.contract.models import Draws


class ExactLikelihood(ABC):
    """Computes the exact probability of the discrete pixels: bits/dim of kind "mass".

    The probabilities of all images sum to 1, as an autoregressive model's do. A flow over dequantised pixels has a
    density instead and declares DequantisedDensity.

        def log_prob(self, pixels, gen=None):  # of the uniform distribution
            return pixels.new_full((len(pixels),), -self.data.dims * math.log(self.data.levels), dtype=torch.float64)
    """

    @abstractmethod
    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log P in nats of the discrete pixels (B, C, H, W) uint8: (B,). The value must not depend on gen."""


class DequantisedDensity(ABC):
    """Computes the exact density of dequantised pixels: bits/dim of kind "density".

    The density p of y = (pixels + u) / levels is normalised. Its expected logarithm is a lower bound on log P of the
    discrete pixels, so that bits/dim is an upper bound: E_u log p(y) - D ln(levels) <= log P (Theis et al. 2016,
    section 3.1). u is uniform on [0, 1), or drawn from q(u | pixels) as in variational dequantisation (Ho et al. 2019).

        def log_prob(self, pixels, gen=None):
            y = space.dequantise(pixels, self.data.levels, gen)
            log_density = self.prior.log_prob(y).flatten(1).sum(1)  # a flow adds its log-determinant
            return space.density_to_mass(log_density, self.data.dims, self.data.levels)
    """

    @abstractmethod
    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log p(y) - log q(u | pixels) - D ln(levels) in nats for pixels (B, C, H, W) uint8: (B,).

        One draw of u for each image, from gen; None means a generator seeded with 0. log q is 0 where u is uniform.
        """


class LikelihoodBound(ABC):
    """Computes a variational lower bound on log P: bits/dim is an upper bound (kind "bound").

    For example:

        def log_prob_bound(self, pixels, gen=None):
            latents, divergence = self.posterior(pixels, gen)  # (B, ...), (B,) nats
            return self.log_likelihood(pixels, latents) - divergence
    """

    @abstractmethod
    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """A lower bound, in expectation over gen, on log P in nats of the discrete pixels (B, C, H, W) uint8: (B,).

        None means a generator seeded with 0.
        """


class ImportanceBound(ABC):
    """Computes a lower bound on log P that tightens with the number of importance samples (kind "bound").

    For example:

        def log_prob_importance(self, pixels, k, gen=None):
            terms = torch.stack([self.log_weight(pixels, gen) for _ in range(k)])  # log p(x, z) / q(z | x): (k, B)
            return terms.logsumexp(0) - math.log(k)
    """

    @abstractmethod
    def log_prob_importance(self, pixels: Tensor, k: int, gen: Generator | None = None) -> Tensor:
        """The bound with k samples in nats of the discrete pixels (B, C, H, W) uint8: (B,). gen as in log_prob_bound.

        On average no lower for a larger k, nor lower than log_prob_bound where the model has both; log P in the limit.
        """


class LikelihoodEstimate(ABC):
    """Computes an estimate of log P, above or below it (kind "estimate"), from the weights and not the sampler.

    For example:

        def log_prob_estimate(self, pixels, gen=None, steps=16):
            y = space.dequantise(pixels, self.data.levels, gen)
            log_density = self.integrate(y, steps)  # of an ODE from images to noise: (B,) nats
            return space.density_to_mass(log_density, self.data.dims, self.data.levels)
    """

    @abstractmethod
    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """An estimate of log P in nats of the discrete pixels (B, C, H, W) uint8: (B,). gen as in log_prob_bound.

        steps: of the numerical method, whose error falls as they grow. Differentiates by itself when called in
        inference mode.
        """


class Encodes(ABC):
    """Maps images to latents.

    For example:

        def encode(self, x):
            return self.encoder(x)
    """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Latents of images x (B, C, H, W) in [-1, 1]: (B, ...)."""


class Decodes(ABC):
    """Maps latents to images.

    For example:

        def noise(self, n, gen):
            return torch.randn(n, 16, generator=gen, device=gen.device)

        def decode(self, z):
            return self.generator(z)
    """

    @abstractmethod
    def noise(self, n: int, gen: Generator) -> Tensor:
        """N latents from the prior: (n, ...)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents z (B, ...)."""


class Reconstructs(Encodes, Decodes):
    """Encodes and decodes: decode(encode(x)) is x or close to it.

    For example:

        def encode(self, x):
            return x.flatten(1).atanh()

        def decode(self, z):
            return z.tanh().unflatten(1, self.data.shape)
    """


class ClassConditional(ABC):  # noqa: B024 - only declares what sample() does
    """sample() draws images of the classes Condition.labels.

    For example:

        def sample(self, n, gen, condition=None):
            noise = torch.randn(n, 16, generator=gen, device=gen.device)
            return self.generator(noise, condition.labels)  # labels: (n,)
    """


class TextConditional(ABC):  # noqa: B024 - only declares what sample() does
    """sample() draws images of the texts Condition.texts.

    For example:

        def sample(self, n, gen, condition=None):
            noise = torch.randn(n, 16, generator=gen, device=gen.device)
            return self.generator(noise, self.text_encoder(condition.texts))  # texts: n strings
    """


class Translates(ABC):
    """Maps images of one domain to the other and back: a is Batch.source, b is Batch.x.

    sample() translates Condition.images from a to b.

        def translate(self, x, direction):
            return self.networks[direction](x)
    """

    @abstractmethod
    def translate(self, x: Tensor, direction: str) -> Tensor:
        """Images x (B, C, H, W) translated to the other domain; direction "a_to_b" or "b_to_a"."""


class Steps(ABC):
    """Samples by evaluating one network many times.

    For example:

        @property
        def denoiser(self):
            return self.network
    """

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network, the same module at each access.

        The harness sums the batch size of its first tensor argument over its calls; divided by the number of images
        drawn, that must be `evaluations`, and is reported where these are None.
        """


ABILITIES: tuple[type, ...] = (
    ExactLikelihood, DequantisedDensity, LikelihoodBound, ImportanceBound, LikelihoodEstimate, Encodes, Decodes,
    Reconstructs, ClassConditional, TextConditional, Translates, Steps,
)  # fmt: skip


def abilities(model: type[Draws]) -> tuple[str, ...]:
    """Names of the abilities that a model class declares."""
    return tuple(a.__name__ for a in ABILITIES if issubclass(model, a))
