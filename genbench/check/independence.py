"""Checks that an image does not depend on the rest of its block, with a separate random stream for each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from genbench.check.other_device import Operation
from genbench.check.subject import DRAWN, Subject, difference, fixed_global_randomness
from genbench.contract import Condition
from genbench.dispatch import Intercepts
from genbench.space import seeded

FIRST_SEED = 100
TOLERANCE = 1e-4
TESTED = 1  # index among the DRAWN images


class NoiseOfEachImage(Intercepts):
    """Replaces the generator in every operation by n streams, one for each image; the first has the number `first`.

    shared: whether an operation drew numbers whose first axis is not the images, so that the check is not possible.
    """

    def __init__(self, n: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.streams = [seeded(FIRST_SEED + first + i, device) for i in range(n)]
        self.shared = False

    def __torch_dispatch__(self, op: Operation, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Splits an operation with a generator into one call for each image."""
        kwargs = kwargs or {}
        if not isinstance(kwargs.get("generator"), Generator):
            return op(*args, **kwargs)
        sized = next((i for i, a in enumerate(args) if isinstance(a, Tensor | list | tuple)), None)
        if sized is None or not self.has_an_axis_of_images(args[sized]):
            self.shared = True
            return op(*args, **kwargs)
        parts = []
        for i, stream in enumerate(self.streams):
            part = args[sized][i : i + 1] if isinstance(args[sized], Tensor) else [1, *args[sized][1:]]
            parts.append(op(*args[:sized], part, *args[sized + 1 :], **{**kwargs, "generator": stream}))
        return args[sized] if op._schema.name.endswith("_") else torch.cat(parts)

    def has_an_axis_of_images(self, tensor_or_shape: Any) -> bool:
        """Whether the first axis of a tensor or a shape has the length of the block."""
        shape = tensor_or_shape.shape if isinstance(tensor_or_shape, Tensor) else tensor_or_shape
        return len(shape) > 0 and shape[0] == len(self.streams)


def images_are_independent(subject: Subject) -> str:
    """An image drawn with others and drawn alone is the same, with the same noise and condition.

    Passes where noise has no axis of images, and where sampling fails another check.
    """
    device = subject.device
    together, alone = NoiseOfEachImage(DRAWN, device=device), NoiseOfEachImage(1, TESTED, device)
    whole = subject.condition(DRAWN)
    drawn = drawn_images(subject, together, whole)
    single = drawn_images(subject, alone, None if whole is None else whole.rows(TESTED, TESTED + 1))
    sound = drawn.shape == (DRAWN, *subject.data.shape) and single.shape == (1, *subject.data.shape)
    if together.shared or alone.shared or subject.repeat_gap > 0 or not sound or not torch.isfinite(drawn).all():
        return ""
    gap = difference(drawn[TESTED : TESTED + 1], single)
    if gap <= TOLERANCE:
        return ""
    return (
        f"an image drawn alone differs by {gap:.3g} from the same image drawn with {DRAWN - 1} others; expected the "
        "same: is batch norm not in eval mode, or is the label or text of another image used?"
    )


def drawn_images(subject: Subject, noise: NoiseOfEachImage, condition: Condition | None) -> Tensor:
    """Draws from a fresh model, one image for each stream of the noise."""
    model = subject.model().eval()
    with torch.inference_mode(), fixed_global_randomness(), noise:
        return model.sample(len(noise.streams), subject.seeded(3), condition)
