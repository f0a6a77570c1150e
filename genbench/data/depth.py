"""Pictures of more than 8 bits a channel, with the values that they store: Pillow alone keeps the high byte of colour.

A set whose deep pictures hold nothing above 255 stores 0..255 in 16 bits, and is read as that; else v becomes
round(v / 257), which maps 0..65535 to 0..255.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genbench.errors import DataError

GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
MOST = 65535


def is_deep(file: Image.Image) -> bool:
    """Whether a picture, its header read, has more than 8 bits a channel."""
    if file.mode in ("I", "F", *GREY_16):
        return True
    if file.format == "TIFF":
        bits = getattr(file, "tag_v2", {}).get(258, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if file.format == "PPM":
        return _ppm_maximum(file) > 255
    if file.format == "JPEG2000":
        return _jpeg2000_bits(file) > 8
    return "16" in _rawmode(file)


def deep_values(file: Image.Image, path: Path) -> NDArray[np.uint16]:
    """The stored values (H, W, C), C = 1 to 4; DataError for kinds of files whose low bits cannot be read."""
    if file.mode == "F":
        raise DataError(f"{path}: pixels are floating-point numbers, allowed: whole numbers of 8 or 16 bits a channel")
    if file.mode in GREY_16 or file.mode == "I":
        values = np.asarray(file)
        if values.min() < 0 or values.max() > MOST:
            found = f"values {values.min()} to {values.max()}"
            raise DataError(f"{path}: {found}, allowed: whole numbers of 8 or 16 bits a channel")
        return values.astype(np.uint16)[..., None]
    if file.format == "PPM":
        return _ppm_values(file, path)
    if file.format == "PNG" and file.mode in ("LA", "RGBA") and _rawmode(file) == "LA;16B":
        return _grey_with_alpha(file)
    return _both_bytes(file, path)


def eight_bits(values: NDArray[np.uint16], top: int) -> NDArray[np.uint8]:
    """Values as grey levels 0..255; top: the largest value of the whole set."""
    return (values if top <= 255 else np.rint(values / 257)).astype(np.uint8)


def _tile(file: Image.Image) -> Any:
    tiles = getattr(file, "tile", None)
    return tiles[0] if tiles else None


def _rawmode(file: Image.Image) -> str:
    tile = _tile(file)
    args = None if tile is None else tile[3]
    first = args[0] if isinstance(args, tuple) and args else args
    if tile is not None and tile[0] == "SGI16":
        return "16"
    return first if isinstance(first, str) else ""


def _both_bytes(file: Image.Image, path: Path) -> NDArray[np.uint16]:
    """High and low bytes, each decoded by itself: an unpacker of the other byte order reads the low ones."""
    high = np.asarray(file)
    with Image.open(path, formats=[str(file.format)]) as again:
        again.tile = [type(tile)(*tile[:3], _with_other_byte(tile[3], path)) for tile in again.tile]
        low = np.asarray(again)
    return (high.astype(np.uint16) << 8) | low


def _with_other_byte(args: Any, path: Path) -> Any:
    rawmode = args if isinstance(args, str) else args[0]
    name, _, kind = rawmode.partition(";")
    if kind not in OTHER_BYTE:
        raise DataError(f"{path}: more than 8 bits a channel in a coding that is not read, allowed: 16-bit PNG or TIFF")
    other = f"{name};{OTHER_BYTE[kind]}"
    return other if isinstance(args, str) else (other, *args[1:])


def _grey_with_alpha(file: Image.Image) -> NDArray[np.uint16]:
    """A 16-bit PNG of grey and alpha: its four bytes a pixel are read as four channels."""
    file._mode = "RGBA"
    file.tile = [type(t)(*t[:3], "RGBA") for t in file.tile]  # type: ignore[attr-defined]
    four = np.asarray(file).astype(np.uint16)
    return np.stack([four[..., 0] << 8 | four[..., 1], four[..., 2] << 8 | four[..., 3]], axis=-1)


def _ppm_maximum(file: Image.Image) -> int:
    tile = _tile(file)
    args = None if tile is None else tile[3]
    return int(args[1]) if isinstance(args, tuple) and len(args) > 1 and str(tile[0]).startswith("ppm") else 255


def _ppm_values(file: Image.Image, path: Path) -> NDArray[np.uint16]:
    offset, count = _tile(file)[2], file.height * file.width * len(file.getbands())
    content = path.read_bytes()[offset:]
    if _tile(file)[0] == "ppm_plain":
        values = np.array(content.split()[:count], dtype=np.int64)
    else:
        values = np.frombuffer(content, ">u2", min(count, len(content) // 2)).astype(np.int64)
    if len(values) < count:
        raise DataError(f"{path}: not a readable image: it ends after {len(values)} of {count} values")
    scaled = values if values.max() <= 255 else np.rint(values * (MOST / _ppm_maximum(file)))
    return scaled.astype(np.uint16).reshape(file.height, file.width, -1)


def _jpeg2000_bits(file: Image.Image) -> int:
    """Bits of the first component, by the codestream's SIZ marker."""
    pointer = file.fp  # type: ignore[attr-defined]
    place = pointer.tell()
    pointer.seek(0)
    head = pointer.read(4096)
    pointer.seek(place)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 8
