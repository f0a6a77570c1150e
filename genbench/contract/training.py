"""Training as data: a loss, the turns of the players, and the default settings of the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and named scalars for the log, which are detached here: `Loss(a + b, {"a": a, "b": b})`."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
