"""Test problems for reading: files and arrays whose pixels, findings or refusals are known from how they were made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from genbench import data, lint
from genbench.data.images import open_images
from genbench.data.labels import as_classes, classes_of_dataset, folder_labels
from genbench.errors import DataError, ModelError, Undefined
from genbench.evaluate.statistics import read_statistics, write_statistics
from genbench.metrics import get
from genbench.metrics.frechet import fid_to_moments
from genbench.selftest.base import KnownProblem, Measurement, measured
from genbench.sources.checkpoints import read_state

SIDE = 6


def picture(seed: int, channels: int = 3) -> Image.Image:
    """Random pixels, SIDE x SIDE."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


def in_folder(write: Callable[[Path], object]) -> Tensor:
    """The images (N, C, H, W) of a folder that `write` fills."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        return open_images(Path(name)).load()


def formats(folder: Path) -> None:
    """Half TIFF, half PNG, and what macOS and Windows leave beside them."""
    for i in range(4):
        picture(i).save(folder / f"{i}.{('png', 'tif')[i % 2]}")
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\26\7")


def linked(folder: Path) -> None:
    """Two pictures, one of them behind two links to its folder."""
    outside, shown = folder / "data", folder / "images"
    outside.mkdir()
    shown.mkdir()
    picture(0).save(outside / "0.png")
    picture(1).save(shown / "1.png")
    for name in ("a", "b"):
        (shown / name).symlink_to(outside, target_is_directory=True)


def farthest(image: Image.Image, shown: np.ndarray, **options: Any) -> Measurement:
    """The largest difference of a picture, as read from a PNG, from how it is shown, (H, W, C)."""
    found = in_folder(lambda folder: image.save(folder / "0.png", **options))[0].permute(1, 2, 0).numpy()
    if found.shape != shown.shape:
        return Measurement(float("inf"), 0.0, 0.0)
    return Measurement(float(np.abs(found.astype(int) - shown.astype(int)).max()), 0.0, 0.0)


def turned() -> Measurement:
    """Orientation 6: to be turned by a quarter, clockwise."""
    image, exif = picture(0), Image.Exif()
    exif[0x0112] = 6
    return farthest(image, np.rot90(np.asarray(image), -1), exif=exif)


def deep() -> Measurement:
    """16 bits a channel: v becomes round(v / 257)."""
    values = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 1800 + 130
    return farthest(Image.fromarray(values), np.round(values / 257).astype(np.uint8)[..., None])


def transparent() -> Measurement:
    """Black that is transparent by half is grey on white, in a palette: 255 - 128."""
    image = Image.new("P", (SIDE, SIDE), 0)
    image.putpalette([0, 0, 0])
    return farthest(image, np.full((SIDE, SIDE, 3), 127), transparency=bytes([128]))


def found(code: str, images: Tensor) -> bool:
    """Whether the linter finds this in images of 256 levels."""
    return code in {finding.code for finding in lint.lint(images, 256)}


def shuffled_labels() -> Measurement:
    """Labels of two groups far apart: a warning when shuffled, and none as they are."""
    gen = np.random.default_rng(0)
    labels = np.arange(400) % 2
    rows = (gen.normal(size=(400, 8)) + 9 * labels[:, None]).astype(np.float32)
    codes = [{f.code for f in lint.label_findings(rows, wrong, rows, labels)[0]}
             for wrong in (gen.permutation(labels), labels)]  # fmt: skip
    return Measurement(sum(("labels-random" in part) * (2 - 3 * i) for i, part in enumerate(codes)), 2.0, 0.0)


def named_labels() -> Measurement:
    """Folders 0003, digit, three, 3 and chunk counters: which name classes of the digits."""
    classes = classes_of_dataset("digits", 10)
    named = [["3", "7"], ["three", "seven"], ["000000", "000001"], ["cats", "dogs"]]
    accepted = [as_classes(folder_labels(names), classes)[0] is not None for names in named]
    return Measurement(float(accepted == [True, True, False, False]), 1.0, 0.0)


def without_values() -> Measurement:
    """Metrics that give a number for two sets of equal images, or for four samples."""
    black, rows = np.zeros((200, 8)), np.random.default_rng(0).normal(size=(200, 8))
    sets = [(name, black, black) for name in ("fid", "kid", "precision", "recall", "density", "coverage")]
    numbers = 0
    for name, fake, real in [*sets, ("recall", rows[:4], rows), ("precision", rows, rows[:4])]:
        try:
            numbers += get(name).compute(fake=fake, real=real) is not None
        except Undefined:
            continue
    return Measurement(float(numbers), 0.0, 0.0)


def unclear_axes() -> Measurement:
    """Arrays that fit two layouts and are refused, of three; and one that is read in Fortran order."""
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.npy"
        for shape in ((32, 32, 3), (3, 32, 32), (5, 3, 8, 3)):
            np.save(path, np.zeros(shape, np.uint8))
            try:
                open_images(path)
            except DataError:
                refused += 1
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 6, 3)).astype(">i8")
        np.save(path, np.asfortranarray(pixels))
        same = np.array_equal(data.read_images(path).pixels.permute(0, 2, 3, 1).numpy(), pixels)
    return Measurement(refused + float(same), 4.0, 0.0)


def checkpoints() -> Measurement:
    """Nested and prefixed weights that are read, and NaN, zeros, other shapes and missing tensors that are not."""
    fresh = nn.Linear(3, 2).state_dict()
    good = {k: torch.ones_like(v) for k, v in fresh.items()}
    read = [{"model": good, "optimizer": {"state": {}}}, {f"module.{k}": v for k, v in good.items()}]
    refused = [{**good, "weight": good["weight"] * torch.nan}, {**good, "weight": good["weight"] * 0},
               {**good, "weight": torch.ones(4, 4)}, {"bias": good["bias"]}, {"optimizer": {"state": {}}}]  # fmt: skip
    return Measurement(sum(map(_is_read, read, [fresh] * 2)) - sum(map(_is_read, refused, [fresh] * 5)), 2.0, 0.0)


def _is_read(content: object, fresh: dict[str, Tensor]) -> bool:
    with tempfile.TemporaryDirectory() as name:
        torch.save(content, Path(name) / "weights.pt")
        try:
            read_state(Path(name) / "weights.pt", fresh, "Linear", "", "")
        except ModelError:
            return False
    return True


def statistics() -> Measurement:
    """FID to a file of mu and sigma, and to the rows that it is of."""
    gen = np.random.default_rng(0)
    fake, real = gen.normal(size=(50, 4)), gen.normal(size=(60, 4)) + 1
    with tempfile.TemporaryDirectory() as name:
        write_statistics(Path(name) / "ref.npz", real, None, {})
        kept = read_statistics(Path(name) / "ref.npz")
        assert kept is not None
        value = fid_to_moments(fake=fake, reference=kept.moments()).value
    return Measurement(value, measured("fid", fake=fake, real=real), 1e-9)


def too_dark() -> Measurement:
    """What the linter finds in images of 0..1 stored as whole numbers, with a copy of one another."""
    images = torch.randint(2, (40, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[1] = images[0]
    return Measurement(float(found("range", images) + found("duplicates", images)), 2.0, 0.0)


READING_PROBLEMS = (
    KnownProblem("pictures of 4 in PNG and TIFF", "files of systems are no pictures",
                 lambda: Measurement(len(in_folder(formats)), 4.0, 0.0)),
    KnownProblem("pictures of 2 in a tree of links", "each link is followed once",
                 lambda: Measurement(len(in_folder(linked)), 2.0, 0.0)),
    KnownProblem("orientation 6 and its pixels turned", "EXIF 2.3, tag 0x0112: a quarter clockwise", turned),
    KnownProblem("16 bits of grey as 8", "round(v / 257)", deep),
    KnownProblem("black by half on white, in a palette", "alpha compositing: 255 - 128", transparent),
    KnownProblem("warnings of shuffled and of right labels", "2 - 0 by construction", shuffled_labels),
    KnownProblem("names of folders that are classes", "3, three; not 000000 nor cats", named_labels),
    KnownProblem("numbers for sets that define none", "all images equal; 4 samples", without_values),
    KnownProblem("unclear axes refused, Fortran order read", "3 + 1 by construction", unclear_axes),
    KnownProblem("checkpoints that fit minus faulty ones", "2 - 0 by construction", checkpoints),
    KnownProblem("FID to statistics in a file", "FID to their rows", statistics),
    KnownProblem("findings in dark and repeated images", "2 by construction", too_dark),
)  # fmt: skip
