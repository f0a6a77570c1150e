"""Test problems for what a picture's file says beside its pixels: gamma, inks, a profile, frames, several kinds."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from genbench import lint
from genbench.data.images import open_images
from genbench.selftest.base import KnownProblem, Measurement
from genbench.selftest.reading import SIDE, farthest, picture


def uniform(mode: str, colour: tuple[int, ...]) -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, (SIDE, SIDE), colour)


def in_colour(colour: tuple[int, int, int]) -> np.ndarray:
    """What a picture of one colour is shown as (H, W, 3)."""
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def linear() -> Measurement:
    """A PNG that states a gamma of 1: v becomes 255 (v / 255)^(1 / 2.2)."""
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    level = round(255 * (128 / 255) ** (1 / 2.2))
    return farthest(uniform("RGB", (128, 128, 128)), in_colour((level,) * 3), pnginfo=info)


def inks() -> Measurement:
    """Inks without a profile: (255 - c) (255 - k) / 255."""
    with tempfile.TemporaryDirectory() as name:
        uniform("CMYK", (255, 51, 0, 102)).save(Path(name) / "0.tif")
        pixels = open_images(Path(name)).load()[0].permute(1, 2, 0).numpy()
    wanted = [(255 - ink) * (255 - 102) / 255 for ink in (255, 51, 0)]
    return Measurement(float(np.abs(pixels - np.array(wanted)).max()), 0.0, 1.0)  # rounded twice


def swapped() -> Measurement:
    """SRGB with the primaries of red and green exchanged: so are the values, but for the profile's rounding."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {bytes(content[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(content[128:132], "big"), 12)}
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    read = farthest(uniform("RGB", (200, 30, 60)), in_colour((30, 200, 60)), icc_profile=bytes(content))
    return Measurement(read.measured, 0.0, 2.0)


def frames() -> Measurement:
    """An animated PNG: the first frame."""
    first, second = picture(0), picture(1)
    return farthest(first, np.asarray(first), save_all=True, append_images=[second])


def kinds(folder: Path) -> None:
    """Two pictures in colour, one in grey, one in inks of black alone."""
    for number in range(2):
        picture(number).save(folder / f"{number}.png")
    picture(2, channels=1).save(folder / "2.png")
    uniform("CMYK", (0, 0, 0, 55)).save(folder / "3.tif")


def mixed() -> Measurement:
    """Grey beside colour is read as three equal channels; findings: several kinds, and inks."""
    with tempfile.TemporaryDirectory() as name:
        kinds(Path(name))
        images = open_images(Path(name))
        pixels = images.load()
        case = lint.Case(lint.summarise(pixels), 256, files=images.found)
    codes = {finding.code for finding in lint.inspect(case)}
    equal = bool((pixels[2] == pixels[2][:1]).all()) and pixels.shape == (4, 3, SIDE, SIDE)
    return Measurement(float(equal) + len(codes & {"modes", "cmyk"}), 3.0, 0.0)


COLOUR_PROBLEMS = (
    KnownProblem("gamma 1 as that of sRGB", "PNG, gAMA: a power of 1 / 2.2", linear),
    KnownProblem("inks without a profile", "(255 - c) (255 - k) / 255", inks),
    KnownProblem("profile with red and green exchanged", "ICC.1: the colorants' tags", swapped),
    KnownProblem("first of two frames", "its pixels", frames),
    KnownProblem("grey, colour and inks in one set", "3 by construction", mixed),
)
