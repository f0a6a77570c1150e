"""The subject of the conformance checks: fresh models of one class, their inputs, and the wording of faults."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from genbench import returned
from genbench.contract import (
    Batch,
    ClassConditional,
    Condition,
    DataSpec,
    Loss,
    Model,
    TextConditional,
    Translates,
)
from genbench.draw.counting import EvaluationCount
from genbench.errors import CellFailure
from genbench.sources.build import build
from genbench.space import seeded, to_unit_range

BATCH = 8
DRAWN = 3
PERTURBATION = 0.01  # noise added to weights, because a layer that starts at zero hides the layers before it


class Subject:
    """A model class and a shape of data: builds models of the class, and makes inputs for them.

    kind may be a class that only draws; checks of training then do not apply (Check.needs).
    """

    def __init__(
        self,
        kind: type[Model],
        data: DataSpec,
        config: dict[str, Any] | None,
        sampler: dict[str, Any] | None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.kind, self.data, self.config, self.sampler = kind, data, config or {}, sampler or {}
        self.device = torch.device(device)
        self.original = self.build(0)
        self.likelihoods: dict[str, Tensor] = {}  # genbench.check.abilities.first_value

    def seeded(self, seed: int) -> Generator:
        """A new generator on the device of the models."""
        return seeded(seed, self.device)

    def resized(self, data: DataSpec) -> Subject:
        """The same model class for other images."""
        return Subject(self.kind, data, self.config, self.sampler, self.device)

    def on_cpu(self) -> Subject:
        """The same on the CPU, which has float64; other devices may not have it."""
        if self.device.type == "cpu":
            return self
        return Subject(self.kind, self.data, self.config, self.sampler)

    @cached_property
    def batch(self) -> Batch:
        """Uniform random pixels with captions, labels where the data has them, and images of another domain."""
        classes = self.data.classes
        labels = torch.randint(0, classes, (BATCH,), generator=seeded(1)).to(self.device) if classes else None
        pixels = self.random_pixels(1)
        x, source = (to_unit_range(p, self.data.levels) for p in (pixels, self.random_pixels(7)))
        return Batch(x, pixels, labels, ("a picture of dogs",) * BATCH, source)

    @cached_property
    def unseen(self) -> Tensor:
        """Uniform random pixels other than those of `batch`, with which models are prepared."""
        return self.random_pixels(6)

    def random_pixels(self, seed: int) -> Tensor:
        """BATCH images (BATCH, C, H, W) of independent uniform grey levels, uint8."""
        shape = (BATCH, *self.data.shape)
        return torch.randint(0, self.data.levels, shape, generator=seeded(seed)).to(torch.uint8).to(self.device)

    def build(self, seed: int) -> Model:
        """A model in training mode, prepared with the batch as by the trainer, with perturbed weights."""
        with fixed_global_randomness():
            model = build(self.kind, self.data, self.config, self.sampler, seed).train().to(self.device)
            if issubclass(self.kind, Model):  # a class that only draws is not trained
                model.prepare(self.batch, self.seeded(seed))
            gen = seeded(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_((PERTURBATION * torch.randn(parameter.shape, generator=gen)).to(self.device))
        return model

    def model(self) -> Model:
        """A copy of the model of seed 0, in training mode."""
        return copy.deepcopy(self.original)

    def losses(self, model: Model) -> Iterator[tuple[str, Loss]]:
        """The player and the loss of each turn; each turn gets a new generator."""
        for stage in model.stages:
            for player in stage.turns:
                yield player, model.loss(self.batch, player, 0, self.seeded(2))

    def condition(self, n: int, shift: int = 0) -> Condition | None:
        """The condition of n samples, None for an unconditional model; another shift gives another condition."""
        if issubclass(self.kind, ClassConditional):
            labels = (torch.arange(n) + shift) % max(self.data.classes, 1)
            return Condition(labels=labels.to(self.device))
        if issubclass(self.kind, TextConditional):
            return Condition(texts=tuple(f"a picture of {('dogs', 'cats')[(i + shift) % 2]}" for i in range(n)))
        if issubclass(self.kind, Translates):
            return Condition(images=to_unit_range(self.random_pixels(8 + shift), self.data.levels)[:n])
        return None

    def draw(self, n: int = DRAWN, seed: int = 3, model: Model | None = None, shift: int = 0) -> Tensor:
        """Samples (n, C, H, W) of the model (default: a fresh one) in eval mode, drawn as by the harness."""
        model = (self.model() if model is None else model).eval()
        with torch.inference_mode(), fixed_global_randomness():
            return self._sample(model, n, seed, shift)

    def _sample(self, model: Model, n: int, seed: int, shift: int) -> Tensor:
        x = model.sample(n, self.seeded(seed), self.condition(n, shift))
        return x if isinstance(x, Tensor) else returned.checked_images(model, x, n)

    @cached_property
    def single(self) -> SingleDraw:
        """One sample with seed 3, as by `draw`."""
        model = self.model().eval()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with torch.inference_mode(), fixed_global_randomness() as used:
            return SingleDraw(self._sample(model, 1, 3, 0), model, before, used())

    @cached_property
    def drawn(self) -> Tensor:
        """DRAWN samples with seed 3."""
        return self.draw()

    @cached_property
    def counted(self) -> tuple[Tensor, EvaluationCount]:
        """The same samples drawn again, and the network evaluations; CellFailure where `denoiser` is no network."""
        model = self.model().eval()
        with EvaluationCount(model) as count:
            return self.draw(model=model), count

    @cached_property
    def repeat_gap(self) -> float:
        """Largest difference between two draws with seed 3."""
        try:
            again = self.counted[0]
        except CellFailure:  # reported by the check of the evaluations
            again = self.draw()
        return difference(self.drawn, again)


class SingleDraw(NamedTuple):
    """A sample (1, C, H, W) and what drawing it did beside that.

    model: that drew it, in the state that sample() left. before: its state_dict before. used_global: whether sample()
    used torch's global generators.
    """

    images: Tensor
    model: Model
    before: dict[str, Tensor]
    used_global: bool


@contextmanager
def fixed_global_randomness() -> Iterator[Callable[[], bool]]:
    """Seeds the global generators and restores them afterwards; a model that uses them then fails one check only.

    Yields a function that returns whether they were used since.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.default_generator.manual_seed(0)
        torch.cuda.manual_seed_all(0)
        before = global_states()
        yield lambda: not all(map(torch.equal, before, global_states()))


def global_states() -> list[Tensor]:
    """The states of torch's global generators, of the CPU and of each GPU."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference, infinite when the shapes differ; non-finite values count as equal to themselves."""
    if a.shape != b.shape:
        return math.inf
    return float((a.nan_to_num(0.0) - b.nan_to_num(0.0)).abs().max())


def shape_fault(what: str, x: Tensor, expected: tuple[int, ...]) -> str:
    """A message when the shape is not the expected one, else ""."""
    if tuple(x.shape) == expected:
        return ""
    return f"{what} has shape {tuple(x.shape)}; expected {expected}"


def range_fault(what: str, x: Tensor) -> str:
    """A message when finite values are outside [-1, 1], else ""."""
    x = x[torch.isfinite(x)].float()
    if len(x) == 0 or float(x.abs().max()) <= 1 + 1e-4:
        return ""
    limits = f"{float(x.min()):.4g} .. {float(x.max()):.4g}"
    return f"{what} span {limits}; expected [-1, 1]: is a tanh or clamp missing, or the scale wrong?"
