"""What genbench requires of a generative model: a loss for each player, a way to draw, and declared abilities.

A model turns a batch into a loss and a generator into images. It contains no optimiser, no choice of device, no file
access, no print and no global random numbers: the harness does all of that. An optional ability (a likelihood, a
decoder, ...) is an abstract base class; a model declares it by inheriting, and metrics test it with `issubclass`.

Shapes: B images, C channels, H height, W width. Pixels are uint8 grey-level indices 0 .. levels-1; model inputs and
samples are floats in [-1, 1] (`genbench.space` converts).

A training may divide each batch among processes. A loss that is a mean over images needs no change for that, nor does
batch normalisation of torch.nn or F. Where images of a batch depend on each other in another way, a model asks for what
the other processes have with across_processes, own_rows and mean_across_processes (genbench.processes.group).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor, nn

from genbench.errors import ModelError
from genbench.options import NoOptions, check_options, check_values
from genbench.processes.group import across_processes as across_processes
from genbench.processes.group import mean_across_processes as mean_across_processes
from genbench.processes.group import own_rows as own_rows

Count = Annotated[int, Ge(1)]
Weight = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class DataSpec:
    """Shape and value range of a dataset: (channels, height, width), grey levels, number of classes (0: no labels)."""

    channels: int
    height: int
    width: int
    levels: int = 256
    classes: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def dims(self) -> int:
        """Number of pixel values in one image, C * H * W."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Batch:
    """Real images: x (B, C, H, W) float in [-1, 1], pixels (B, C, H, W) uint8, labels (B,) int64 or None.

    texts: a caption of each image, where the data has captions. source: in a translation task, images (B, C, H, W) in
    [-1, 1] of the domain to translate from, unpaired with x.
    """

    x: Tensor
    pixels: Tensor
    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None
    source: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, start: int, stop: int) -> Batch:
        """The images start..stop of the batch, with what belongs to them."""
        parts: dict[str, Any] = {name: part if part is None else part[start:stop] for name, part in vars(self).items()}
        return Batch(**parts)


@dataclass(frozen=True)
class Condition:
    """What samples must show: labels (n,) int64, texts (n strings), or images (n, C, H, W) in [-1, 1]."""

    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None
    images: Tensor | None = None

    def rows(self, start: int, stop: int) -> Condition:
        """What the samples start..stop must show."""
        parts: dict[str, Any] = {name: part if part is None else part[start:stop] for name, part in vars(self).items()}
        return Condition(**parts)


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and named scalars for the log, which are detached here: `Loss(a + b, {"a": a, "b": b})`."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", {name: term.detach() for name, term in self.terms.items()})


@dataclass(frozen=True)
class DiffusersParts:
    """A diffusion model as a pipeline of diffusers.

    network: arguments of UNet2DModel. state: its weights. scheduler: the name of a class, and `settings` its arguments.
    pipeline: the name of a class, and `call` the arguments with which it draws as the model does.
    """

    network: dict[str, Any]
    state: dict[str, Tensor]
    scheduler: str
    settings: dict[str, Any]
    pipeline: str
    call: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A part of training: the players' turns within one step, and its share of the budget of images.

    A player that takes another turn within the step receives a fresh batch.
    """

    name: str
    turns: tuple[str, ...]
    share: float = 1.0

    @property
    def batches(self) -> int:
        """Batches of images that one step uses."""
        return max(self.turns.count(player) for player in self.turns)


@dataclass(frozen=True)
class Recipe:
    """How a model is optimised by default; a suite's `train:` overrides single fields.

    lr: Adam step size. lrs: step sizes of single players, where they differ. betas: Adam's. batch: images per step.
    warmup: steps of linear warm-up. decay: "constant", "cosine" (to 0), or "linear" (constant for half of the steps,
    then linearly to 0). Both begin anew with each stage and end with it.
    clip: largest global gradient norm, 0 for none. weight_decay: decoupled. ema: decay of the weights' moving average,
    0 for none, warmed up as min(ema, (1 + step) / (10 + step)). flip: mirror images at random.
    images: images seen in the whole training when the suite sets no budget.
    """

    lr: float = 2e-4
    lrs: tuple[tuple[str, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    batch: int = 128
    warmup: int = 0
    decay: str = "constant"
    clip: float = 0.0
    weight_decay: float = 0.0
    ema: float = 0.0
    flip: bool = False
    images: int = 100_000


class Draws(nn.Module, ABC):
    """Anything that draws images: the base of Model, and enough for a network that genbench does not train.

    Config: frozen dataclass of sizes and constants; changing it means training again.
    Sampler: frozen dataclass of the options of drawing (steps, eta, temperature, ...), which need no new weights.
    Both declare bounds and choices in their annotations (genbench.options). A rule between several fields is checked
    in __post_init__, which raises ValueError("field: found ..., allowed: ..."); a rule between an option and the data
    is checked in the model's __init__, which raises ModelError("Model: config.field: found ..., allowed: ...").
    family: "gan", "vae", "flow", "diffusion" or another word, shown beside the name.

        class Exported(Draws):
            @classmethod
            def files(cls, config):
                return ("generator.pt",)

            def __init__(self, data, config=None, sampler=None):
                super().__init__(data, config, sampler)
                self.graph = torch.jit.load(self.beside("generator.pt"))

            def sample(self, n, gen, condition=None):
                return self.graph(torch.randn(n, 64, generator=gen, device=gen.device))
    """

    family: ClassVar[str] = ""
    Config: ClassVar[type] = NoOptions
    Sampler: ClassVar[type] = NoOptions

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Stores the data's shape, the config (default: the preset for this data) and the sampler's options.

        Raises ModelError for an option outside its bounds.
        """
        super().__init__()
        self.data = data
        self.config = self.preset(data) if config is None else config
        self.sampler = self.Sampler() if sampler is None else sampler
        for part, options in (("config", self.config), ("sampler", self.sampler)):
            try:
                check_options(options)
            except ValueError as error:
                raise ModelError(f"{type(self).__name__}: {part}.{error}") from None

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The default Config for images of this size; a suite's `config:` overrides single fields."""
        return cls.Config()

    @classmethod
    def files(cls, config: Any) -> tuple[str | Path, ...]:
        """Files and folders that the class reads when it is built or draws, relative to its own file; default: none.

        Their content is part of the keys of weights and samples: a replaced file is measured again.
        """
        return ()

    def adopted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Weights of another library's network of the same architecture, under the names of this model's state_dict.

        settings: that library's config of the network, empty where it is not known. Weights with other names are
        returned as they are, which is the default. Raises ModelError for a network of another architecture.
        """
        return state

    def for_diffusers(self) -> DiffusersParts | None:
        """The model as a pipeline of diffusers; None, the default, for one that diffusers does not have.

        Raises ModelError for options that diffusers does not have.
        """
        return None

    @classmethod
    def beside(cls, name: str | Path) -> Path:
        """The path of a file relative to the file of the class."""
        return Path(inspect.getfile(cls)).absolute().parent / name

    @abstractmethod
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """N images (n, C, H, W), float in [-1, 1]; all randomness from gen, which lives on the model's device."""

    @property
    def caveat(self) -> str:
        """A sentence for the page: what a reader of the numbers must know about the samples, or ""."""
        return ""

    @property
    def evaluations(self) -> int | None:
        """Network evaluations of one image when sampling (NFE); None where they depend on the image (only for Steps).

        Counted as rows: classifier-free guidance is two evaluations a step, whether it calls the network twice or once
        with a doubled batch.
        """
        return 1

    def __repr__(self) -> str:
        """One line; `print(list(model.children()))` shows the layers."""
        shape, count = "x".join(map(str, self.data.shape)), self.parameter_count
        size = "" if count is None else f", {count:,} parameters"
        return f"{type(self).__name__}({shape}, {self.data.levels} levels{size}, {self.config}, {self.sampler})"

    @property
    def parameter_count(self) -> int | None:
        """Number of parameters, all players together; None where it is not known, as of a graph that is wrapped.

        A class with weights that are not torch's parameters overrides it. By default the number is unknown for a class
        that reads files, and for one that has a single number, which often only stands for the device.
        """
        count = sum(p.numel() for p in self.parameters())
        return None if count <= 1 or type(self).files(self.config) else count

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for a model without parameters."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))


class Model(Draws):
    """A deep generative model that genbench trains.

    stages: the training algorithm as data; the trainer differentiates each turn's loss for that player's parameters.

        class MeanImage(Model):
            def __init__(self, data, config=None, sampler=None):
                super().__init__(data, config, sampler)
                self.mean = nn.Parameter(torch.zeros(data.shape))

            def loss(self, batch, player, step, gen):
                return Loss((batch.x - self.mean).square().mean())

            def sample(self, n, gen, condition=None):
                return self.mean.expand(n, -1, -1, -1)
    """

    stages: ClassVar[tuple[Stage, ...]] = (Stage("fit", turns=("all",)),)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The default optimiser settings for images of this size; a suite's `train:` overrides single fields."""
        return Recipe()

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """Config and recipe of `preset: small`, for about 15 minutes of a CPU core; default: `preset` and `recipe`."""
        return cls.preset(data), cls.recipe(data)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each turn updates, by player."""
        return {"all": list(self.parameters())}

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Data-dependent initialisation, called once with the first batch before the first step; default: nothing.

        Always with the whole batch: where several processes train, each of them calls it with the same images.
        """

    def settle(self, gen: Generator) -> None:
        """Called once after training with the averaged weights, e.g. to measure batch statistics; default: nothing."""

    @abstractmethod
    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """What `player` minimises on this batch; step counts from 0 within the stage."""


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


def override(options: Any, changes: dict[str, Any]) -> Any:
    """A frozen dataclass with some fields changed; lists become tuples, which YAML does not have.

    Raises ValueError for an unknown field and for a value that does not fit its annotation.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    check_values(type(options), values)
    return replace(options, **values)
