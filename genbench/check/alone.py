"""Does an image depend on the others of its block? Shown by giving every image of it random numbers of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genbench.check.other_device import Operation
from genbench.check.subject import DRAWN, Subject, difference, fixed_global_randomness
from genbench.contract import Condition
from genbench.space import seeded

FIRST_STREAM = 100
ALIKE = 1e-4
LOOKED_AT = 1  # of the DRAWN images


class NoiseOfEachImage(TorchDispatchMode):
    """Random numbers for n images come from n streams, of which the first has the number `first`.

    shared: whether something was drawn whose first axis is not the images, so that nothing can be said.
    """

    def __init__(self, n: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.streams = [seeded(FIRST_STREAM + first + i, device) for i in range(n)]
        self.shared = False

    def __torch_dispatch__(self, op: Operation, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call for each image where an operation takes a generator."""
        kwargs = kwargs or {}
        if not isinstance(kwargs.get("generator"), Generator):
            return op(*args, **kwargs)
        place = next((i for i, a in enumerate(args) if isinstance(a, Tensor | list | tuple)), None)
        if place is None or not self.is_of_all(args[place]):
            self.shared = True
            return op(*args, **kwargs)
        parts = []
        for i, stream in enumerate(self.streams):
            part = args[place][i : i + 1] if isinstance(args[place], Tensor) else [1, *args[place][1:]]
            parts.append(op(*args[:place], part, *args[place + 1 :], **{**kwargs, "generator": stream}))
        return args[place] if op._schema.name.endswith("_") else torch.cat(parts)

    def is_of_all(self, what: Any) -> bool:
        """Whether a tensor or a shape has the images on its first axis."""
        shape = what.shape if isinstance(what, Tensor) else what
        return len(shape) > 0 and shape[0] == len(self.streams)


def images_stand_alone(subject: Subject) -> str:
    """The same image comes with others or alone, if its noise and what is asked of it stay the same.

    Silent where noise is drawn in another shape than image by image, and where sampling fails another check.
    """
    device = subject.device
    together, alone = NoiseOfEachImage(DRAWN, device=device), NoiseOfEachImage(1, LOOKED_AT, device)
    whole = subject.condition(DRAWN)
    drawn, single = (
        drawn_images(subject, together, whole),
        drawn_images(subject, alone, None if whole is None else asked_of(whole)),
    )
    sound = drawn.shape == (DRAWN, *subject.data.shape) and single.shape == (1, *subject.data.shape)
    if together.shared or alone.shared or subject.repeat_gap > 0 or not sound or not torch.isfinite(drawn).all():
        return ""
    gap = difference(drawn[LOOKED_AT : LOOKED_AT + 1], single)
    if gap <= ALIKE:
        return ""
    return (
        f"an image drawn alone is {gap:.3g} from the same image drawn with {DRAWN - 1} others; expected the same: "
        "batch norm not in eval mode, or a label or text of another image?"
    )


def asked_of(whole: Condition) -> Condition:
    """What the image looked at is asked to show."""
    one = slice(LOOKED_AT, LOOKED_AT + 1)
    labels, images = (None if t is None else t[one] for t in (whole.labels, whole.images))
    return Condition(labels, None if whole.texts is None else whole.texts[one], images)


def drawn_images(subject: Subject, noise: NoiseOfEachImage, condition: Condition | None) -> Tensor:
    """Samples of a fresh model, one for each stream of the noise."""
    model = subject.model().eval()
    with torch.inference_mode(), fixed_global_randomness(), noise:
        return model.sample(len(noise.streams), subject.seeded(3), condition)
