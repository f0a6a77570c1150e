"""What a generative model is to genbench: a loss for each player, a way to draw, and the abilities it declares.

A model turns a batch into a loss and a generator into images. It owns no optimiser, no device, no file, no print and
no global random number: all of that is the harness's. An optional ability (a likelihood, a decoder, ...) is an
abstract base class; naming it in the class line is the declaration, and metrics ask for it with `issubclass`.

Shapes: B images, C channels, H height, W width. Pixels are uint8 grey-level indices 0 .. levels-1; model inputs and
samples are floats in [-1, 1] (`genbench.space` converts).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class DataSpec:
    """Shape and alphabet of a dataset: (channels, height, width), grey levels, number of classes (0: no labels)."""

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


@dataclass(frozen=True)
class Condition:
    """What samples are asked to show: labels (n,) int64, texts (n strings), or images (n, C, H, W) in [-1, 1]."""

    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None
    images: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and its named parts for the log (detached scalars)."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A part of training: the players' turns within one step, and its share of the budget of images.

    A player that moves again within the step sees a fresh batch.
    """

    name: str
    turns: tuple[str, ...]
    share: float = 1.0

    @property
    def batches(self) -> int:
        """Batches of images that one step takes."""
        return max(self.turns.count(player) for player in self.turns)


@dataclass(frozen=True)
class Recipe:
    """How a model is optimised by default; a suite's `train:` overrides single fields.

    lr: Adam step size. lrs: step sizes of single players, where they differ. betas: Adam's. batch: images a step.
    warmup: steps of linear warm-up. decay: "constant", "cosine" (to 0 at the end of the
    budget), or "linear" (constant for half of the budget, then straight to 0).
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


@dataclass(frozen=True)
class NoOptions:
    """The Config or Sampler of a model that has nothing to choose."""


class Model(nn.Module, ABC):
    """A deep generative model.

    Config: frozen dataclass of sizes and constants; changing it means training again.
    Sampler: frozen dataclass of what may be chosen when drawing (steps, eta, temperature, ...), weights unchanged.
    stages: the training algorithm as data; the trainer differentiates each turn's loss for that player's parameters.
    family: "gan", "vae", "flow", "diffusion" or another word, shown beside the name.
    """

    family: ClassVar[str] = ""
    Config: ClassVar[type] = NoOptions
    Sampler: ClassVar[type] = NoOptions
    stages: ClassVar[tuple[Stage, ...]] = (Stage("fit", turns=("all",)),)

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Keeps the data's shape, the config (default: the preset for this data) and the sampler's options."""
        super().__init__()
        self.data = data
        self.config = self.preset(data) if config is None else config
        self.sampler = self.Sampler() if sampler is None else sampler

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The Config that suits images of this size; a suite's `config:` overrides single fields."""
        return cls.Config()

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The optimiser settings that suit images of this size; a suite's `train:` overrides single fields."""
        return Recipe()

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each turn updates, by player."""
        return {"all": list(self.parameters())}

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Data-dependent initialisation, called once with the first batch before the first step; default none."""

    def settle(self, gen: Generator) -> None:
        """Called once after training, averaged weights in place: measures what must follow them; default nothing."""

    @abstractmethod
    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """What `player` minimises on this batch; step counts from 0 within the stage."""

    @abstractmethod
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """N images (n, C, H, W), float in [-1, 1]; all randomness from gen, which lives on the model's device."""

    @property
    def caveat(self) -> str:
        """What a reader of its numbers must know about its samples, as a sentence for the page; "" for nothing."""
        return ""

    @property
    def evaluations(self) -> int:
        """Network evaluations of one image when sampling (NFE).

        Counted as rows: classifier-free guidance is two evaluations a step, whether it calls the network twice or once
        with a doubled batch.
        """
        return 1

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class ExactLikelihood(ABC):
    """Has a normalised density: bits/dim of the dequantised pixels is exact (kind "=")."""

    @abstractmethod
    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log p in nats of the discrete pixels (B, C, H, W) uint8 under uniform dequantisation: (B,).

        gen gives the dequantisation noise; None means a generator seeded with 0.
        """


class LikelihoodBound(ABC):
    """Has a lower bound on log p: bits/dim is an upper bound (kind "<=")."""

    @abstractmethod
    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """A lower bound on log P in nats of the discrete pixels (B, C, H, W) uint8: (B,). gen as in log_prob."""


class ImportanceBound(ABC):
    """Has a lower bound on log P that tightens with the number of importance samples (kind "<=")."""

    @abstractmethod
    def log_prob_importance(self, pixels: Tensor, k: int, gen: Generator | None = None) -> Tensor:
        """The bound with k samples in nats of the discrete pixels (B, C, H, W) uint8: (B,). gen as in log_prob.

        On average no lower for a larger k, nor lower than log_prob_bound where the model has both; log P in the limit.
        """


class LikelihoodEstimate(ABC):
    """Has an estimate of log P on either side of it (kind "~"), which depends on the weights and not on the sampler."""

    @abstractmethod
    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """An estimate of log P in nats of the discrete pixels (B, C, H, W) uint8: (B,). gen as in log_prob.

        steps: of the numerical method, whose error falls as they grow. Differentiates by itself when called in
        inference mode.
        """


class Encodes(ABC):
    """Maps images to latents."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Latents of images x (B, C, H, W) in [-1, 1]: (B, ...)."""


class Decodes(ABC):
    """Maps latents to images."""

    @abstractmethod
    def noise(self, n: int, gen: Generator) -> Tensor:
        """N latents from the prior: (n, ...)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents z (B, ...)."""


class Reconstructs(Encodes, Decodes):
    """Encodes and decodes: an image comes back as itself or nearly."""


class ClassConditional(ABC):  # noqa: B024 - a declaration: sample() obeys Condition.labels
    """sample() obeys Condition.labels."""


class TextConditional(ABC):  # noqa: B024 - a declaration: sample() obeys Condition.texts
    """sample() obeys Condition.texts."""


class Translates(ABC):
    """Maps images of one domain to the other and back: a is Batch.source, b is Batch.x; sample() is a to b.

    sample() translates Condition.images.
    """

    @abstractmethod
    def translate(self, x: Tensor, direction: str) -> Tensor:
        """Images x (B, C, H, W) of one domain shown as the other's; direction "a_to_b" or "b_to_a"."""


class Steps(ABC):
    """Samples by evaluating one network many times."""

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network, the same module at each access.

        The harness sums the batch size of its first tensor argument over its calls; divided by the number of images
        drawn, that must be `evaluations`.
        """


ABILITIES: tuple[type, ...] = (
    ExactLikelihood, LikelihoodBound, ImportanceBound, LikelihoodEstimate, Encodes, Decodes, Reconstructs,
    ClassConditional, TextConditional, Translates, Steps,
)  # fmt: skip


def abilities(model: type[Model]) -> tuple[str, ...]:
    """Names of the abilities that a model class declares."""
    return tuple(a.__name__ for a in ABILITIES if issubclass(model, a))


def override(options: Any, changes: dict[str, Any]) -> Any:
    """A frozen dataclass with some fields changed; lists become tuples, as YAML has none."""
    return replace(options, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()})
