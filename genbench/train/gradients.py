"""Gradients of the players' losses: for a whole batch, for its parts where memory does not suffice for it, or for this
process's rows of it together with other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from genbench import returned
from genbench.contract import Batch, Loss, Model
from genbench.errors import CellFailure
from genbench.halving import FEW, AtOnce, holds, in_parts, tolerance
from genbench.processes.group import Shares
from genbench.reasons import out_of_memory
from genbench.train.synchronised import one_batch

LEAST_GAP = 1e-3  # relative: rounding moves a sum of large terms by less, and images that depend on each other by more


class Gradients:
    """Computes gradients, and remembers for each stage and player how many images fit into memory at once.

    A batch is divided only where the gradient is a mean over its images: that is tested with a few of them, again
    whenever the loss has other terms, and in every step where it names no terms. tell: is told what was halved.
    shares: the processes that have the other rows of a batch; their parts are not divided further.
    """

    def __init__(
        self,
        model: Model,
        players: dict[str, list[nn.Parameter]],
        gen: Generator,
        precision: str,
        shares: Shares,
    ) -> None:
        self.model, self.players, self.gen, self.precision = model, players, gen, precision
        self.shares, self.group = shares, shares.group
        self.tell: Callable[[str], None] = lambda text: None
        self._sizes: dict[str, AtOnce] = {}
        self._tested: set[tuple[str, ...]] = set()

    @property
    def at_once(self) -> int | None:
        """The fewest images that were computed at once; None where no batch was divided."""
        return min(self.state().values(), default=None)

    def state(self) -> dict[str, int]:
        """What fits into memory, by stage and player, for a checkpoint."""
        return {name: sizes.size for name, sizes in self._sizes.items() if sizes.size is not None}

    def load(self, state: dict[str, int]) -> None:
        """Continues with what `state` returned."""
        self._sizes = {name: AtOnce(self._told, size) for name, size in state.items()}

    def compute(self, batch: Batch, player: str, stage: str, step: int) -> Loss:
        """Puts the gradient of the player's loss into its parameters. Raises CellFailure as halving.AtOnce.run.

        With several processes, batch has this process's rows; gradient and loss are those of the whole batch. That is
        tested in the first step, and again whenever the loss has other terms; CellFailure where it does not hold.
        """
        if not self.group.alone:
            loss = self._together(batch, player, step)
            if (stage, player, *loss.terms) not in self._tested:
                self._tested.add((stage, player, *loss.terms))
                self._require_the_whole(batch, player, step)
            return loss
        turn = f"{stage}/{player}"
        sizes = self._sizes.setdefault(turn, AtOnce(self._told))
        loss = sizes.run(
            len(batch), lambda size: self._differentiate(batch, player, step, size), lambda: True, self.gen
        )
        if sizes.size is not None and (not loss.terms or (turn, *loss.terms) not in self._tested):
            self._require_a_mean(batch.rows(0, min(FEW, len(batch))), player, step, len(batch))
            self._tested.add((turn, *loss.terms))
        return loss

    def _together(self, rows: Batch, player: str, step: int) -> Loss:
        try:
            with one_batch(self.shares):
                loss = self._differentiate(rows, player, step, len(rows), self.shares.weight)
        except Exception as error:
            if reason := out_of_memory(error):
                advice = "use more processes or a smaller batch"
                raise CellFailure(f"{reason}; with {len(rows)} images in each process: {advice}") from None
            raise
        names, gradients = list(loss.terms), [p.grad for p in self.players[player] if p.grad is not None]
        values = [value.detach().clone() for value in (loss.total, *loss.terms.values())]
        self.group.average_([*gradients, *values])
        return Loss(values[0], dict(zip(names, values[1:], strict=True)))

    def _require_the_whole(self, rows: Batch, player: str, step: int) -> None:
        """Raises CellFailure unless process 0 computes the same alone from all rows; changes nothing."""
        after, kept = self._state(), [p.grad for p in self.players[player]]
        several = self._result(player, self._together(rows, player, step))
        parts = self.group.collected(rows)
        reason = ""
        if parts:
            self._restore(after)
            reason = self._disagreement(several, joined_rows(parts), player, step)
        self._restore(after)
        for parameter, gradient in zip(self.players[player], kept, strict=True):
            parameter.grad = gradient
        if reason := self.group.from_first(reason):
            raise CellFailure(reason)

    def _disagreement(self, several: dict[str, Tensor], whole: Batch, player: str, step: int) -> str:
        try:
            alone = self._result(player, self._differentiate(whole, player, step, len(whole)))
        except Exception as error:
            if out_of_memory(error):
                return ""  # a single process cannot compute it
            raise
        allowed = max(LEAST_GAP, tolerance(self.model.device, self.precision))
        for name, value in alone.items():
            gap = float((several[name] - value).norm())
            if not gap <= allowed * float(value.norm()) + 1e-6:
                return (
                    f"{name} of player '{player}' in {self.group.size} processes differs by {gap:.2g} from that of the "
                    f"whole batch, whose norm is {float(value.norm()):.2g}: the loss must be a mean over images, and "
                    "where images depend on each other, the model must ask for the others (across_processes)"
                )
        return ""

    def _result(self, player: str, loss: Loss) -> dict[str, Tensor]:
        """The loss, the player's gradient, and the buffers by name."""
        gradients = [p.grad.flatten().double() for p in self.players[player] if p.grad is not None]
        buffers = {f"buffer '{name}'": value.double().clone() for name, value in self.model.named_buffers()}
        return {"the loss": loss.total.detach().double(), "the gradient": torch.cat(gradients), **buffers}

    def _state(self) -> tuple[Tensor, list[Tensor]]:
        return self.gen.get_state(), [value.clone() for value in self.model.buffers()]

    def _restore(self, state: tuple[Tensor, list[Tensor]]) -> None:
        self.gen.set_state(state[0])
        for buffer, value in zip(self.model.buffers(), state[1], strict=True):
            buffer.copy_(value)

    def _told(self, text: str) -> None:
        self.tell(text)

    def _differentiate(self, batch: Batch, player: str, step: int, size: int, weight: float = 1.0) -> Loss:
        """Gradient and loss of a batch, at most `size` images at once, both multiplied by the weight."""
        for parameter in self.players[player]:
            parameter.grad = None

        def part(start: int, stop: int) -> Loss:
            images = batch if stop - start == len(batch) else batch.rows(start, stop)
            loss = returned.loss(self.model, self._loss(images, player, step), player)
            if not loss.total.requires_grad:
                raise CellFailure(f"the loss of player '{player}' depends on no parameter, required: on its own")
            share = weight * (stop - start) / len(batch)
            if share == 1:
                loss.total.backward(inputs=self.players[player])
                return loss
            (loss.total * share).backward(inputs=self.players[player])
            return Loss(loss.total.detach() * share, {name: term * share for name, term in loss.terms.items()})

        return _summed(in_parts(part, len(batch), size, self.gen))

    def _loss(self, batch: Batch, player: str, step: int) -> Loss:
        """The player's loss in the requested precision."""
        if self.precision == "fp32":
            return self.model.loss(batch, player, step, self.gen)
        with torch.autocast(self.model.device.type, torch.bfloat16):
            return self.model.loss(batch, player, step, self.gen)

    def _require_a_mean(self, few: Batch, player: str, step: int, size: int) -> None:
        """Raises CellFailure where parts have another gradient than the whole, or computing it changes the model."""
        kept, state = [p.grad for p in self.players[player]], self.gen.get_state()
        divisible = holds(lambda: self._is_a_mean(few, player, step))
        self.gen.set_state(state)
        for parameter, gradient in zip(self.players[player], kept, strict=True):
            parameter.grad = gradient
        if not divisible:
            raise CellFailure(
                f"out of memory with {size} images at once, and the batch cannot be divided: the gradient of player "
                f"'{player}' is no mean over images, or computing it changes the model's state (as batch norm does)"
            )

    def _is_a_mean(self, few: Batch, player: str, step: int) -> bool:
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        state = self.gen.get_state()
        whole = self._gradient(few, player, step, len(few))
        self.gen.set_state(state)
        parts = self._gradient(few, player, step, len(few) - 1)
        allowed = tolerance(self.model.device, self.precision) * whole.norm()
        same_state = all(torch.equal(value, before[name]) for name, value in self.model.state_dict().items())
        return same_state and whole.shape == parts.shape and bool((whole - parts).norm() <= allowed)

    def _gradient(self, few: Batch, player: str, step: int, size: int) -> Tensor:
        self._differentiate(few, player, step, size)
        return torch.cat([p.grad.flatten().float() for p in self.players[player] if p.grad is not None])


def joined_rows(parts: Sequence[Batch]) -> Batch:
    """The rows of all parts, in order, as one batch."""

    def whole(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if values[0] is None:
            return None
        texts = isinstance(values[0], tuple)
        return tuple(text for own in values for text in own) if texts else torch.cat(values)

    return Batch(**{name: whole(name) for name in vars(parts[0])})


def _summed(parts: list[Loss]) -> Loss:
    """The loss of a batch from its parts, each multiplied by its share of the images."""
    if len(parts) == 1:
        return parts[0]
    terms = {name: torch.stack([part.terms[name] for part in parts]).sum() for name in parts[0].terms}
    return Loss(torch.stack([part.total for part in parts]).sum(), terms)
