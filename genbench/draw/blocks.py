"""Draws samples in fixed blocks with one seed for each, so that image i depends only on (weights, sampler, seed, i)."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from genbench import returned
from genbench.contract import Condition, Draws
from genbench.draw.counting import EvaluationCount
from genbench.files import UNREADABLE, whole
from genbench.halving import FEW, AtOnce, in_parts, tolerance
from genbench.keys import stream_seed
from genbench.machine import pinned_globals
from genbench.processes.group import Processes
from genbench.progress import Progress, Report, noting, silent
from genbench.space import seeded, to_pixels

DRAW_VERSION = 2


@dataclass(frozen=True)
class Drawn:
    """Samples of a model.

    pixels: grey levels (n, C, H, W) uint8 on the CPU. evaluations: network evaluations of one image. non_finite: number
    of images with a value that is not finite (such a pixel becomes level 0). seconds: duration of drawing. labels (n,):
    the requested classes, None where there were none. at_once: the most images computed at once after memory did not
    suffice for a block, else None. texts: the requested text of each image, None where there were none.
    """

    pixels: Tensor
    evaluations: float
    non_finite: int
    seconds: float
    labels: Tensor | None = None
    at_once: int | None = None
    texts: tuple[str, ...] | None = None


class DrawnBlock(NamedTuple):
    """Grey levels (n, C, H, W) uint8 in the CPU's memory, the number of images with a non-finite value, and the network
    evaluations of one image.
    """

    pixels: Tensor
    non_finite: int
    evaluations: float


@dataclass(frozen=True)
class Conditions:
    """What each sample is requested to show, block by block; no condition where every field is None.

    labels (N,): each sample gets one of them at random, so that classes are as frequent as here. captions: a text for
    each class; if there are any, the condition is the text. texts: sample i is requested to show text i // each mod M;
    text_labels (M,): the class that each of them names, None for none. images (M, C, H, W) in [-1, 1]: sample i is made
    from image i mod M.
    """

    labels: Tensor | None = None
    captions: tuple[str, ...] = ()
    images: Tensor | None = None
    texts: tuple[str, ...] = ()
    text_labels: Tensor | None = None
    each: int = 1

    def block(self, index: int, seed: int, size: int) -> Condition | None:
        """The condition of block number `index` of `size` samples."""
        if self.images is not None:
            return Condition(images=self.images[_numbers(index, size) % len(self.images)])
        texts = self.block_texts(index, seed, size)
        if texts is not None:
            return Condition(texts=texts)
        labels = self.block_labels(index, seed, size)
        return None if labels is None else Condition(labels)

    def block_texts(self, index: int, seed: int, size: int) -> tuple[str, ...] | None:
        """The texts that block number `index` requests, None for none."""
        if self.texts:
            return tuple(self.texts[i] for i in self._text_numbers(index, size).tolist())
        labels = self.block_labels(index, seed, size)
        return None if labels is None or not self.captions else tuple(self.captions[k] for k in labels.tolist())

    def block_labels(self, index: int, seed: int, size: int) -> Tensor | None:
        """The classes (size,) that block number `index` requests, by label or by text."""
        if self.texts:
            return None if self.text_labels is None else self.text_labels[self._text_numbers(index, size)]
        if self.labels is None:
            return None
        gen = seeded(stream_seed(seed, "wishes", index))  # another name would change every conditional sample
        return self.labels[torch.randint(len(self.labels), (size,), generator=gen)]

    def _text_numbers(self, index: int, size: int) -> Tensor:
        return _numbers(index, size) // self.each % len(self.texts)

    def first_labels(self, n: int, seed: int, size: int) -> Tensor | None:
        """The classes (n,) that the first n samples request."""
        blocks = [self.block_labels(index, seed, size) for index in range(-(-n // size))]
        known = [labels for labels in blocks if labels is not None]
        return torch.cat(known)[:n] if known else None

    def first_texts(self, n: int, seed: int, size: int) -> tuple[str, ...] | None:
        """The texts that the first n samples request, None for none."""
        blocks = [self.block_texts(index, seed, size) for index in range(-(-n // size))]
        known = [text for texts in blocks if texts is not None for text in texts]
        return tuple(known[:n]) if known else None


def _numbers(index: int, size: int) -> Tensor:
    """The numbers of the samples of a block."""
    return torch.arange(index * size, (index + 1) * size)


UNCONDITIONAL = Conditions()


def draw(
    model: Draws,
    n: int,
    seed: int,
    *,
    block: int = 500,
    precision: str = "fp32",
    conditions: Conditions = UNCONDITIONAL,
    scratch: Path | None = None,
    report: Report = silent,
) -> Drawn:
    """Draws n samples in eval mode. scratch: a folder for finished blocks, from which a killed run continues.

    Raises CellFailure for samples of another shape or type, and when most images are not finite.
    """
    model.eval()
    blocks: list[DrawnBlock] = []
    at_once, start = AtOnce(noting(report, "draw")), time.perf_counter()
    for index in range(-(-n // block)):
        blocks.append(_kept_block(model, index, seed, block, precision, conditions, scratch, at_once))
        done, seconds = min(n, (index + 1) * block), time.perf_counter() - start
        report(Progress("draw", done, n, "images", done / seconds))
    bad = sum(b.non_finite for b in blocks)
    returned.check_non_finite(model, bad, len(blocks) * block)
    pixels, evaluations = torch.cat([b.pixels for b in blocks])[:n], sum(b.evaluations for b in blocks) / len(blocks)
    asked = conditions.first_labels(n, seed, block), at_once.size, conditions.first_texts(n, seed, block)
    return Drawn(pixels, evaluations, bad, time.perf_counter() - start, *asked)


def draw_share(
    model: Draws,
    n: int,
    seed: int,
    group: Processes,
    scratch: Path,
    *,
    block: int = 500,
    precision: str = "fp32",
    conditions: Conditions = UNCONDITIONAL,
    report: Report = silent,
) -> None:
    """Draws those of the blocks of n samples that are this process's into scratch, where `draw` finds them."""
    model.eval()
    at_once, start = AtOnce(noting(report, "draw")), time.perf_counter()
    for done, index in enumerate(range(group.rank, -(-n // block), group.size), start=1):
        _kept_block(model, index, seed, block, precision, conditions, scratch, at_once)
        drawn = min(n, done * block * group.size)
        report(Progress("draw", drawn, n, "images", drawn / (time.perf_counter() - start)))


def _kept_block(
    model: Draws, index: int, seed: int, block: int, precision: str, conditions: Conditions, scratch: Path | None,
    at_once: AtOnce,
) -> DrawnBlock:  # fmt: skip
    condition = on_device(conditions.block(index, seed, block), model.device)
    path = None if scratch is None else scratch / f"block-{index}.npz"
    kept = None if path is None else _read_block(path, at_once)
    if kept is not None:
        return kept
    drawn = draw_block(model, index, seed, block, precision, condition, at_once)
    if path is not None:
        with whole(path) as partial, partial.open("wb") as file:
            np.savez(file, **drawn._asdict() | {"pixels": drawn.pixels.numpy(), "at_once": at_once.size or 0})
    return drawn


def _read_block(path: Path, at_once: AtOnce) -> DrawnBlock | None:
    """A block that an earlier run drew; None where it is absent or damaged (the archive has checksums)."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as kept:
            block = DrawnBlock(torch.from_numpy(kept["pixels"]), int(kept["non_finite"]), float(kept["evaluations"]))
            at_once.size = int(kept["at_once"]) or at_once.size
            return block
    except UNREADABLE:
        return None


def on_device(condition: Condition | None, device: torch.device) -> Condition | None:
    """The condition with its tensors on a device."""
    if condition is None:
        return None
    labels, images = (None if t is None else t.to(device) for t in (condition.labels, condition.images))
    return Condition(labels, condition.texts, images)


@pinned_globals()
@torch.inference_mode()
def draw_block(
    model: Draws,
    index: int,
    seed: int,
    block: int,
    precision: str = "fp32",
    condition: Condition | None = None,
    at_once: AtOnce | None = None,
) -> DrawnBlock:
    """Draws block number `index` of `block` images, at once.

    at_once: how many images to compute at once, fewer where memory does not suffice. None: running out of it raises.
    """
    gen = seeded(stream_seed(seed, "draw", index), model.device)

    def part(start: int, stop: int) -> DrawnBlock:
        x, evaluations = _sampled(model, start, stop, gen, condition, precision)
        return DrawnBlock(to_pixels(x, model.data.levels).cpu(), non_finite_images(x), evaluations)

    if at_once is None:
        return part(0, block)
    parts = at_once.run(
        block,
        lambda size: in_parts(part, block, size, gen),
        lambda: _divisible(model, seed, min(FEW, block), condition, precision),
        gen,
    )
    evaluations = sum(p.evaluations * len(p.pixels) for p in parts) / block
    return DrawnBlock(torch.cat([p.pixels for p in parts]), sum(p.non_finite for p in parts), evaluations)


def _sampled(
    model: Draws, start: int, stop: int, gen: Generator, condition: Condition | None, precision: str
) -> tuple[Tensor, float]:
    """Images start..stop of a block (n, C, H, W), and the network evaluations of one of them."""
    n, wanted = stop - start, None if condition is None else condition.rows(start, stop)
    autocast = torch.autocast(model.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    with autocast, EvaluationCount(model) as count:
        x = returned.checked_images(model, model.sample(n, gen, wanted), n)
    return x, count.per_image(n)


def _divisible(model: Draws, seed: int, few: int, condition: Condition | None, precision: str) -> bool:
    """Whether a few images are the same when they are drawn at once and in parts."""

    def images(size: int) -> Tensor:
        gen = seeded(stream_seed(seed, "draw", 0), model.device)
        parts = in_parts(lambda a, b: _sampled(model, a, b, gen, condition, precision)[0], few, size, gen)
        return torch.cat(parts).float()

    allowed = tolerance(model.device, precision)
    return torch.allclose(images(few), images(few - 1), rtol=0, atol=allowed, equal_nan=True)


def non_finite_images(x: Tensor) -> int:
    """Number of images of x (n, C, H, W) with a value that is not finite."""
    if math.isfinite(x.sum().item()):  # one cheap test, as nearly always all values are finite
        return 0
    return int((~torch.isfinite(x)).flatten(1).any(1).sum())
