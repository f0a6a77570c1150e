"""Training: the only code with optimisers. Players take turns, each on its own loss and its own parameters.

The budget is images seen, so that families are compared at equal data. A checkpoint holds all that the rest of the
run depends on: on a CPU, an interrupted and continued run gives the same weights as an uninterrupted one. A step never
waits for the device (tests/test_waits.py); only points of the curves and checkpoints do.

Several processes train one model: each has the rows of every batch that are its own, and the same weights. Up to
rounding, the losses and weights are those of one process, whatever the number of processes; a checkpoint is written by
the first of them and contains nothing that depends on their number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genbench import returned
from genbench.contract import Batch, Loss, Model, Recipe
from genbench.errors import CellFailure, Stopped
from genbench.keys import stream_seed
from genbench.machine import pinned_globals
from genbench.processes.group import ALONE, Processes, Shares
from genbench.progress import Progress, Report, Throttle, noting, silent, stop_requested
from genbench.space import seeded
from genbench.train.adam import FusedAdamW
from genbench.train.batches import ALL, Batches
from genbench.train.checkpoint import read_checkpoint, write_checkpoint
from genbench.train.ema import MovingAverage
from genbench.train.gradients import Gradients
from genbench.train.presets import stage_lengths

TRAIN_VERSION = 2
CURVE_POINTS = 200
REPORT_SECONDS = 0.5
CHECKPOINT_SECONDS = 2.0
CHECKPOINT_SHARE = 0.02


@dataclass(frozen=True)
class FitOptions:
    """How long and how precisely to train: images seen, seed, "fp32" or "bf16", torch.compile of the networks."""

    images: int
    seed: int
    precision: str = "fp32"
    compile: bool = False


@dataclass(frozen=True)
class CurvePoint:
    """The mean of one loss term over the steps since the point before."""

    stage: str
    step: int
    images: int
    seconds: float
    name: str
    value: float


@dataclass
class Fitted:
    """The result of a training: steps, images seen, working seconds (of all parts of a continued run), loss curves.

    note: what a reader should know about this training, "" for nothing. at_once: images at once in a step after memory
    did not suffice for a batch, else None.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    curves: list[CurvePoint] = field(default_factory=list)
    note: str = ""
    at_once: int | None = None


@pinned_globals()
def fit(
    model: Model,
    batches: Batches,
    recipe: Recipe,
    options: FitOptions,
    scratch: Path | None = None,
    report: Report = silent,
    group: Processes = ALONE,
) -> Fitted:
    """Trains the model in place and leaves it in eval mode with its averaged weights.

    scratch: a folder for checkpoints; a checkpoint found there is continued. group: the processes that train the model
    together; the first of them keeps checkpoints, reports and has the result. Raises CellFailure when a loss is not
    finite, naming the player, term and step, and when the trained weights are not finite.
    """
    model.to(model.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.compile:
        for child in model.children():
            child.compile()
    training = Training(model, batches, recipe, options, group)
    training.resume(None if scratch is None else scratch / "checkpoint.pt")
    with tensor_cores(model.device):
        training.run(scratch, report)
    if group.rank:
        return training.fitted
    training.average.copy_to(model)
    returned.weights(model, "after training")
    model.settle(seeded(stream_seed(options.seed, "settle"), model.device))
    returned.weights(model, "after settle()")
    model.eval()
    training.fitted.at_once = training.gradients.at_once
    return training.fitted


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """On CUDA, allows float32 matrix products to use TF32 while training (convolutions do by default)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def numeric_settings(device: torch.device | str) -> dict[str, dict[str, Any]]:
    """For the protocol: the settings of CUDA's libraries that float32 results depend on, by "train" and "draw".

    Empty on other devices. matmul: "highest" is float32, "high" allows TF32. cudnn_benchmark is left off: it selects
    algorithms by timing them, so that two runs could use different ones.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return {}
    with tensor_cores(device):
        training = _settings_in_effect()
    return {"train": training, "draw": _settings_in_effect()}


def _settings_in_effect() -> dict[str, Any]:
    cudnn = torch.backends.cudnn
    return {
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn_tf32": cudnn.allow_tf32,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


class Training:
    """The state of a training run and its loop, in one process or in each of a group."""

    def __init__(
        self, model: Model, batches: Batches, recipe: Recipe, options: FitOptions, group: Processes = ALONE
    ) -> None:
        """Raises CellFailure for a batch of fewer images than processes, and for compiling in several."""
        if recipe.batch < group.size:
            raise CellFailure(
                f"train.batch: found {recipe.batch}, allowed: at least {group.size}, one for each process"
            )
        if options.compile and not group.alone:
            raise CellFailure(f"compile: found true, allowed: false with {group.size} processes")
        self.group = group
        self.model, self.batches, self.recipe, self.options = model, batches, recipe, options
        self.gen = seeded(stream_seed(options.seed, "train"), model.device)
        self.fitted = Fitted()
        self.players = returned.players(model)
        self.optimisers = {name: self._optimiser(parameters) for name, parameters in self.players.items()}
        self.average = MovingAverage(model, recipe.ema)
        lengths = stage_lengths(recipe, options.images, model.stages)
        self.stage_ends = _ends(lengths)
        self.total_images = recipe.batch * sum(k * s.batches for k, s in zip(lengths, model.stages, strict=True))
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.gradients = Gradients(model, self.players, self.gen, options.precision, Shares(group, recipe.batch))

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return self.stage_ends[-1]

    @property
    def stage_step(self) -> tuple[int, int]:
        """The stage of the next step, and how many of its steps have been made."""
        index = next(i for i, end in enumerate(self.stage_ends) if self.fitted.steps < end)
        return index, self.fitted.steps - [0, *self.stage_ends][index]

    def run(self, scratch: Path | None, report: Report) -> None:
        """Steps until the budget is spent; keeps checkpoints in scratch."""
        show, keep = Throttle(REPORT_SECONDS), Throttle(CHECKPOINT_SECONDS)
        every, self.gradients.tell = max(1, self.total_steps // CURVE_POINTS), noting(report, "train")
        self.model.train()
        clock = time.perf_counter()
        while self.fitted.steps < self.total_steps:
            self.step()
            now = time.perf_counter()
            self.fitted.seconds, clock = self.fitted.seconds + now - clock, now
            if self.fitted.steps % every == 0 or self.fitted.steps == self.total_steps:
                self.flush()
            if scratch is not None and keep.due():
                written = time.perf_counter()
                self.checkpoint(scratch / "checkpoint.pt")
                cost = time.perf_counter() - written
                keep.seconds = max(CHECKPOINT_SECONDS, cost / CHECKPOINT_SHARE)
            if show.due():
                report(self._progress())
            if stop_requested():
                if scratch is not None:
                    self.checkpoint(scratch / "checkpoint.pt")
                raise Stopped
        self.fitted.seconds += time.perf_counter() - clock  # the last curve point waited for the device
        report(self._progress())

    def step(self) -> None:
        """Every player's turn, on one batch unless a player has a second turn."""
        index, step = self.stage_step
        batch, moved = self.first_batch() if self.fitted.steps == 0 else self.next_batch(), set[str]()
        for player in self.model.stages[index].turns:
            batch = self.next_batch() if player in moved else batch
            moved.add(player)
            self.turn(batch, player, self.model.stages[index].name, step)
        self.average.update(self.model, step)
        self.fitted.steps += 1

    def first_batch(self) -> Batch:
        """The first images, with which the model is prepared: in every process with those of the whole batch."""
        batch = self.next_batch(ALL)
        self.model.prepare(batch, self.gen)
        self.group.agree([*self.model.parameters(), *self.model.buffers()])
        self.average = MovingAverage(self.model, self.recipe.ema)
        return batch if self.group.alone else batch.rows(*self.group.rows(len(batch)))

    def next_batch(self, rows: slice | None = None) -> Batch:
        """The next images, in the layout that convolutions are fastest in; the whole batch is counted as seen.

        rows: which of them; None: this process's.
        """
        rows = slice(*self.group.rows(self.recipe.batch)) if rows is None else rows
        batch = self.batches.next(self.recipe.batch, self.gen, rows)
        self.fitted.images += self.recipe.batch
        x, source = batch.x, batch.source
        source = None if source is None else source.contiguous(memory_format=torch.channels_last)
        return replace(batch, x=x.contiguous(memory_format=torch.channels_last), source=source)

    def turn(self, batch: Batch, player: str, stage: str, step: int) -> None:
        """One update of one player."""
        optimiser, parameters = self.optimisers[player], self.players[player]
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate(player)
        loss = self.gradients.compute(batch, player, stage, step)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        optimiser.step()
        self._log(player, loss)

    def learning_rate(self, player: str) -> float:
        """The step size now: linear warm-up, then the recipe's decay, both from the start of the stage to its end."""
        recipe, (index, step) = self.recipe, self.stage_step
        length = self.stage_ends[index] - [0, *self.stage_ends][index]
        rate = dict(recipe.lrs).get(player, recipe.lr)
        if step < recipe.warmup:
            return rate * (step + 1) / recipe.warmup
        if recipe.decay == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * step / length))
        if recipe.decay == "linear":
            return rate * min(1.0, 2 * (1 - step / length))
        return rate

    def flush(self) -> None:
        """Turns the sums since the last point into points of the curves; CellFailure if one is not finite."""
        index = next(i for i, end in enumerate(self.stage_ends) if self.fitted.steps <= end)
        fitted, stage = self.fitted, self.model.stages[index].name
        totals = torch.stack(list(self.sums.values())).tolist() if self.sums else []  # waits for the device once
        for name, total in zip(self.sums, totals, strict=True):
            value = total / self.counts[name]
            if not math.isfinite(value):
                raise CellFailure(f"loss '{name}' became {value} by step {fitted.steps} ({fitted.images:,} images)")
            point = CurvePoint(stage, fitted.steps, fitted.images, round(fitted.seconds, 3), name, value)
            fitted.curves.append(point)
        self.sums, self.counts = {}, {}

    def checkpoint(self, path: Path) -> None:
        """Writes the whole state, atomically."""
        self.flush()
        write_checkpoint(path, self.state())

    def resume(self, path: Path | None) -> None:
        """Continues from the state of a checkpoint, if there is one; a damaged one is deleted and noted."""
        state = self.group.from_first(None if path is None else self._read(path))
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.average.load(state["average"])
        self.batches.taken = state["taken"]
        self.gen.set_state(state["gen"].cpu())
        points = [CurvePoint(*point) for point in state["curves"]]
        self.fitted = Fitted(state["steps"], state["images"], state["seconds"], points)
        self.gradients.load(state.get("at_once", {}))

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        state = read_checkpoint(path, self.model.device if self.group.alone else torch.device("cpu"))
        if state is None:
            path.unlink()
            self.fitted.note = "its checkpoint was damaged, so that it was trained from the start"
        return state

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain data."""
        fitted = self.fitted
        return {
            "model": self.model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "average": self.average.state(),
            "taken": self.batches.taken,
            "gen": self.gen.get_state(),
            "steps": fitted.steps,
            "images": fitted.images,
            "seconds": fitted.seconds,
            "at_once": self.gradients.state(),
            "curves": [(p.stage, p.step, p.images, p.seconds, p.name, p.value) for p in fitted.curves],
        }

    def _optimiser(self, parameters: list[nn.Parameter]) -> FusedAdamW:
        return FusedAdamW(parameters, self.recipe.lr, self.recipe.betas, self.recipe.weight_decay)

    def _log(self, player: str, loss: Loss) -> None:
        terms = loss.terms or {player: loss.total}
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def _progress(self) -> Progress:
        fitted = self.fitted
        recent = {p.name: p.value for p in fitted.curves[-8:]}
        rate = fitted.images / fitted.seconds if fitted.seconds else 0.0
        return Progress("train", fitted.images, self.total_images, "images", rate, recent)


def _ends(lengths: list[int]) -> list[int]:
    return [sum(lengths[: i + 1]) for i in range(len(lengths))]
