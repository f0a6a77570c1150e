"""What the linter remembers of a set of images, gathered batch by batch: a few numbers an image, never its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SUMMARY_VERSION = 2
LOOKED_AT = 2_000  # images, evenly spread, of which the spectrum and the edges are taken
SMALLEST = 16  # pixels a side, below which neither says anything
TILES = 4  # a thumbnail is the mean grey of 4 x 4 tiles


@dataclass(frozen=True, eq=False)
class Summary:
    """A set of N images (C, H, W).

    shape: (N, C, H, W). pixel_hash: SHA-256 (hex) over shape and pixels, in order. lowest, highest: grey levels.
    constant: images of one grey level. grey: images of equal channels (0 where C = 1). hashes: (N,) uint64, one an
    image. thumbs: (N, 16) float32. detail: (n,) share of the power of n images at above half the highest frequency,
    in either direction. edges: (n, 8) how much steeper a step between neighbouring pixels is than the steps on its
    sides, by its position modulo 8, over the mean step. Both are empty where the images are too small.
    """

    shape: tuple[int, int, int, int]
    pixel_hash: str
    lowest: int
    highest: int
    constant: int
    grey: int
    hashes: NDArray[np.uint64]
    thumbs: NDArray[np.float32]
    detail: NDArray[np.float32]
    edges: NDArray[np.float32]

    @property
    def count(self) -> int:
        """N."""
        return self.shape[0]

    def save(self, path: Path) -> None:
        """Writes an .npz."""
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        np.savez(path, **arrays)


def load_summary(path: Path) -> Summary:
    """The summary that `save` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        whole: dict[str, Any] = {name: int(kept[name]) for name in ("lowest", "highest", "constant", "grey")}
        arrays: dict[str, Any] = {name: kept[name] for name in ("hashes", "thumbs", "detail", "edges")}
        count, channels, height, width = kept["shape"].tolist()
        return Summary((count, channels, height, width), str(kept["pixel_hash"]), **whole, **arrays)


class Gather:
    """Takes the images of one set in order, a batch at a time; count is known beforehand."""

    def __init__(self, count: int, shape: tuple[int, int, int]) -> None:
        self.shape = (count, *shape)
        self.state = hashlib.sha256(f"{self.shape}".encode())
        self.lowest, self.highest, self.constant, self.grey = 255, 0, 0, 0
        self.seen = 0
        self.hashes: list[NDArray[np.uint64]] = []
        self.thumbs: list[Tensor] = []
        self.detail: list[Tensor] = []
        self.edges: list[Tensor] = []
        self.every = -(-count // LOOKED_AT)

    def add(self, pixels: Tensor) -> None:
        """The next images (B, C, H, W) uint8."""
        start, pixels = self.seen, pixels.cpu().contiguous()
        self.seen += len(pixels)
        self._read(pixels)
        chosen = pixels[(-start) % self.every :: self.every].float().mean(1)
        if min(self.shape[2:]) >= SMALLEST and len(chosen):
            self.detail.append(high_share(chosen))
            self.edges.append(step_excess(chosen))

    def _read(self, pixels: Tensor) -> None:
        rows = pixels.flatten(1).numpy()
        self.state.update(rows.data)
        self.hashes.append(row_hashes(rows))
        lowest, highest = rows.min(1), rows.max(1)
        self.lowest, self.highest = min(self.lowest, int(lowest.min())), max(self.highest, int(highest.max()))
        self.constant += int((lowest == highest).sum())
        if pixels.shape[1] > 1:
            self.grey += grey_images(pixels)
        self.thumbs.append(F.adaptive_avg_pool2d(pixels.float(), TILES).mean(1).flatten(1))

    def summary(self) -> Summary:
        """What was gathered."""
        return Summary(
            self.shape,
            self.state.hexdigest(),
            self.lowest,
            self.highest,
            self.constant,
            self.grey,
            np.concatenate(self.hashes),
            _stacked(self.thumbs, TILES * TILES),
            _stacked(self.detail, 0),
            _stacked(self.edges, 8),
        )


def row_hashes(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A number for each row (N, P): the sum of its 8-byte words times fixed random odd numbers, modulo 2^64.

    Equal rows have equal numbers. Each word is mixed with its upper half first, so that two different rows have equal
    numbers with a probability of 2^-40 or less, also where they differ in the highest bits of words only.
    """
    words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view("<u8") if rows.shape[1] % 8 else rows.view("<u8")
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], dtype=np.uint64) | np.uint64(1)
    sums: NDArray[np.uint64] = (words ^ (words >> np.uint64(32))) @ factors
    return sums


def grey_images(pixels: Tensor) -> int:
    """How many images (B, C, H, W) have equal channels; the first row of pixels decides for most."""
    maybe = pixels[(pixels[:, :, 0] == pixels[:, :1, 0]).flatten(1).all(1)]
    return int((maybe == maybe[:, :1]).flatten(1).all(1).sum())


def summarise(pixels: Tensor, batch: int = 500) -> Summary:
    """The summary of images (N, C, H, W) uint8 in memory."""
    gather = Gather(len(pixels), (pixels.shape[1], pixels.shape[2], pixels.shape[3]))
    for part in pixels.split(batch):
        gather.add(part)
    return gather.summary()


def _stacked(parts: list[Tensor], columns: int) -> NDArray[np.float32]:
    empty = np.zeros((0, columns) if columns else 0, np.float32)
    return torch.cat(parts).numpy() if parts else empty


def high_share(grey: Tensor) -> Tensor:
    """Share of the power of images (B, H, W), mean removed, above half the highest frequency in either direction: (B,).

    A Hann window keeps the jump from one side of an image to the other out of the spectrum.
    """
    height, width = grey.shape[1:]
    window = (
        torch.hann_window(height + 2, periodic=False)[1:-1, None] * torch.hann_window(width + 2, periodic=False)[1:-1]
    )
    power = torch.fft.rfft2((grey - grey.mean((1, 2), keepdim=True)) * window).abs().square()
    across, down = torch.fft.rfftfreq(width), torch.fft.fftfreq(height).abs()[:, None]
    high = torch.maximum(down, across) > 0.25  # cycles a pixel; the highest is 0.5
    return power[:, high].sum(1) / power.sum((1, 2)).clamp_min(1e-12)


def step_excess(grey: Tensor) -> Tensor:
    """By position modulo 8, a step |x_(j+1) - x_j| minus the mean of its two neighbours, over the mean step: (B, 8).

    Down and across averaged, images (B, H, W). Steps at position 7 are those between blocks of 8 x 8.
    """
    return (_excess(grey) + _excess(grey.transpose(1, 2))) / 2


def _excess(grey: Tensor) -> Tensor:
    steps = grey.diff(dim=2).abs().mean(1)  # (B, W - 1)
    excess = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    position = (torch.arange(excess.shape[1]) + 1) % 8
    by_position = torch.stack([excess[:, position == p].mean(1) for p in range(8)], dim=1)
    return by_position / steps.mean(1, keepdim=True).clamp_min(1e-12)
