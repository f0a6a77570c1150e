"""Training as data: a loss, the turns of the players, and the default settings of the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from genbench.errors import ModelError
from genbench.options import Count, Weight


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and named scalars for the log, which are detached here: `Loss(a + b, {"a": a, "b": b})`."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.terms, dict) and all(isinstance(term, Tensor) for term in self.terms.values())):
            raise ModelError("Loss: terms: found something else, required: a dict from names to tensors")
        object.__setattr__(self, "terms", {name: term.detach() for name, term in self.terms.items()})


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

    lr: Annotated[float, Gt(0)] = 2e-4
    lrs: tuple[tuple[str, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    batch: Count = 128
    warmup: Annotated[int, Ge(0)] = 0
    decay: Literal["constant", "cosine", "linear"] = "constant"
    clip: Weight = 0.0
    weight_decay: Weight = 0.0
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    flip: bool = False
    images: Annotated[int, Ge(1), Lt(2**53)] = 100_000
