"""Generators exported as one graph from noise to images: what TorchScript, torch.export and ONNX have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Generator, Tensor

from genbench.adapters.base import Adapted
from genbench.contract import Condition, Count, DataSpec
from genbench.errors import CellFailure, ModelError

MOST_OUTSIDE = 0.5  # share of values outside of the declared range from which the declaration is taken to be wrong


@dataclass(frozen=True)
class GraphConfig:
    """How a graph is called, and what its output means.

    noise: shape of the latent of one image; () takes it from the graph, where the graph states it. distribution: of the
    latent: "normal", "uniform" on `interval`, or "truncated": normal, restricted to [-truncation, truncation]. range:
    what black and white are in the output. labels: how a class is passed to a graph with two inputs, as its number or
    as a row of zeros and a one; None takes it from the type of the second input. batch: images in one call at most.
    """

    noise: tuple[Count, ...] = ()
    distribution: Literal["normal", "uniform", "truncated"] = "normal"
    interval: tuple[float, float] = (-1.0, 1.0)
    truncation: Annotated[float, Gt(0)] = 2.0
    range: tuple[float, float] = (-1.0, 1.0)
    labels: Literal["index", "one_hot"] | None = None
    batch: Count = 100

    def __post_init__(self) -> None:
        for name in ("interval", "range"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name}: found [{low}, {high}], allowed: two increasing numbers")


class Graph(Adapted):
    """A graph from noise (n, ...) and, with a second input, classes (n,) to images.

    stated_noise: shape of one latent in the graph, () where it is not stated. stated_labels: as config.labels.
    fixed_batch: images of every call where the graph accepts no other number, else 0.
    """

    Config = GraphConfig
    stated_noise: ClassVar[tuple[int, ...]] = ()
    stated_labels: ClassVar[str] = "index"
    fixed_batch: ClassVar[int] = 0

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Raises ModelError when the shape of the noise is stated neither in the graph nor in the config."""
        super().__init__(data, config, sampler)
        self.shape = self.config.noise or self.stated_noise
        if not self.shape:
            raise ModelError(f"{type(self).__name__}: config.noise: missing, allowed: the shape of one latent, as [64]")

    @abstractmethod
    def call(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """The graph's output for noise (b, ...) and, where it has a second input, classes: (b, ...)."""

    def noise(self, n: int, gen: Generator) -> Tensor:
        """N latents: (n, *config.noise)."""
        return draw_noise((n, *self.shape), self.config, gen)

    def decode(self, z: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] of latents z (n, ...)."""
        return self.images(z, None)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W), of condition.labels where the graph has a second input."""
        labels = None if condition is None else condition.labels
        return self.images(self.noise(n, gen), labels)

    @torch.no_grad()
    def images(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] of latents and classes, a batch at a time."""
        size = self.fixed_batch or self.config.batch
        parts = [self._batch(z[i : i + size], None if labels is None else labels[i : i + size])
                 for i in range(0, len(z), size)]  # fmt: skip
        return torch.cat(parts)

    def _batch(self, z: Tensor, labels: Tensor | None) -> Tensor:
        missing = max(0, self.fixed_batch - len(z))
        given = None if labels is None else self._label_input(labels)
        filled = [None if t is None else torch.cat([t, t[:1].expand(missing, *t.shape[1:])]) for t in (z, given)]
        assert filled[0] is not None
        output = self.call(filled[0], filled[1])
        return self.in_unit_range(as_images(output, len(z) + missing, self.data, type(self).__name__)[: len(z)])

    def _label_input(self, labels: Tensor) -> Tensor:
        if (self.config.labels or self.stated_labels) == "one_hot":
            return F.one_hot(labels, self.data.classes).float()
        return labels

    def in_unit_range(self, x: Tensor) -> Tensor:
        """Output values as values in [-1, 1]. Raises CellFailure when half of them are outside of config.range."""
        low, high = self.config.range
        slack = 0.01 * (high - low)
        outside = float(((x < low - slack) | (x > high + slack)).float().mean())
        if outside > MOST_OUTSIDE:
            found = f"values from {float(x.min()):.4g} to {float(x.max()):.4g}"
            raise CellFailure(f"{type(self).__name__}: the graph's output has {found}, config.range is [{low}, {high}]")
        return (x.float() - low) * (2 / (high - low)) - 1


def draw_noise(shape: tuple[int, ...], config: GraphConfig, gen: Generator) -> Tensor:
    """Numbers of the config's distribution."""
    if config.distribution == "normal":
        return torch.randn(shape, generator=gen, device=gen.device)
    uniform = torch.rand(shape, generator=gen, device=gen.device)
    if config.distribution == "uniform":
        low, high = config.interval
        return low + (high - low) * uniform
    edge = torch.special.ndtr(torch.tensor(config.truncation, dtype=torch.float64)).item()
    share = (1 - edge) + (2 * edge - 1) * uniform.double()
    return torch.special.ndtri(share).float().clamp(-config.truncation, config.truncation)


def as_images(x: Any, n: int, spec: DataSpec, name: str) -> Tensor:
    """An output as (n, C, H, W): channels last, without the axis of one channel, and flat rows are accepted.

    Raises CellFailure for any other shape, and for values that are no numbers.
    """
    channels, height, width = spec.shape
    if isinstance(x, Tensor) and not x.is_complex():
        if x.shape == (n, *spec.shape):
            return x
        if x.shape == (n, height, width, channels):
            return x.permute(0, 3, 1, 2)
        if x.shape == (n, spec.dims) or (x.shape == (n, height, width) and channels == 1):
            return x.reshape(n, *spec.shape)
    found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a value of type {type(x).__name__}"
    raise CellFailure(f"{name}: the graph's output has {found}, required: images {(n, *spec.shape)}")
