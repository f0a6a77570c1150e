"""What a picture's header says, before its pixels are decoded: its size as shown, its colours, and what to report.

A picture is what Pillow recognises by content, or, for formats without a signature, by content and suffix. EPS, WMF and
other formats that need another program are not read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from genbench.data.colour import GREY_MODES, colour_codes, exponent, has_alpha
from genbench.data.depth import is_deep
from genbench.data.image_set import refuse_huge
from genbench.errors import DataError

BY_CONTENT = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI", "PSD")
NOT_READ = ("EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "PDF", "PALM")
RAW = (".dng", ".nef", ".cr2", ".arw", ".orf", ".rw2", ".pef", ".srw")  # camera files: Pillow sees their thumbnail
LOSSY = ("JPEG", "MPO", "DDS", "BLP", "FTEX", "PCD", "AVIF")
HEAD = 4096  # bytes of a WebP file in which its kind of coding is named
ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
          Image.DecompressionBombError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """size: (width, height) as shown. kind: "grey", "colour", "palette", "inks" or "LAB". orientation: still to be
    applied. power: of the gamma still to be applied. deep: more than 8 bits a channel. codes: what to report.
    """

    size: tuple[int, int]
    kind: str
    alpha: bool
    deep: bool
    orientation: int
    power: float
    codes: tuple[str, ...]

    @property
    def grey(self) -> bool:
        """Whether the picture has one channel."""
        return self.kind == "grey"


PLAIN: dict[tuple[object, ...], Head] = {}  # equal heads are one object: a set has few different ones


@lru_cache(maxsize=512)
def formats_for(suffix: str) -> tuple[str, ...]:
    """The formats to try for a file of this suffix, its own first."""
    if suffix in RAW:
        return ()
    own = Image.registered_extensions().get(suffix, "")
    return (*([own] if own and own not in NOT_READ and own in Image.OPEN else []), *BY_CONTENT)


def is_picture_suffix(suffix: str) -> bool:
    """Whether files of this suffix must be readable pictures."""
    return suffix not in RAW and Image.registered_extensions().get(suffix, NOT_READ[0]) not in NOT_READ


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture, its header read and its pixels not yet. Raises DataError for a broken one."""
    try:
        with Image.open(path, formats=formats_for(path.suffix.lower())) as file:
            yield file
    except UnidentifiedImageError:
        size = path.stat().st_size
        found = "an empty file" if not size else f"{size:,} bytes that are no picture in a format that is read"
        raise DataError(f"{path}: not a readable image: {found}") from None
    except BROKEN as error:
        raise DataError(f"{path}: not a readable image: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """An exception's message in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def read_heads(paths: list[Path]) -> tuple[list[tuple[Path, Head]], list[Path], dict[str, list[str]]]:
    """The pictures with their headers, the files that are none, and Pillow's warnings, each with its files.

    Raises DataError for a file that cannot be read, or is no picture and is called one.
    """
    pictures, others, said = [], [], dict[str, list[str]]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in paths:
            head = read_head(path)
            if head is None:
                others.append(path)
            else:
                pictures.append((path, head))
            note_warnings(caught, path, said)
    return pictures, others, said


def note_warnings(caught: list[warnings.WarningMessage], path: Path, said: dict[str, list[str]]) -> None:
    """Moves what was caught to `said`, by its first line."""
    for warning in caught:
        if issubclass(warning.category, DeprecationWarning):
            continue
        said.setdefault(str(warning.message).strip().splitlines()[0], []).append(str(path))
    caught.clear()


def read_head(path: Path) -> Head | None:
    """The header of a picture, its pixels not decoded; None for a file that is none and is not called one."""
    suffix = path.suffix.lower()
    if not is_picture_suffix(suffix):
        try:
            if not formats_for(suffix):
                return None
            with Image.open(path, formats=formats_for(suffix)):
                pass
        except (UnidentifiedImageError, *BROKEN):
            return None
    with opened(path) as file:
        return _head(file, path)


def _head(file: Image.Image, path: Path) -> Head:
    refuse_huge(3 * file.size[0] * file.size[1], path)
    late = file.format == "PNG" and _text_after_pixels(file)
    if late:
        file.load()
    orientation, codes = _orientation(file)
    codes += ("lossy",) if _lossy(file, path) else ()
    codes += ("frames",) if _has_frames(file) else ()
    codes += colour_codes(file)
    deep, alpha = is_deep(file), has_alpha(file)
    codes += ("deep",) if deep else ()
    width, height = file.size
    size = (height, width) if orientation in SIDEWAYS else (width, height)
    fields = (size, _kind(file), alpha, deep, orientation, exponent(file), codes)
    return PLAIN.setdefault(fields, Head(*fields))


def _kind(file: Image.Image) -> str:
    if file.mode in GREY_MODES or file.mode == "F" or _grey_in_four_bytes(file):
        return "grey"
    return {"P": "palette", "PA": "palette", "CMYK": "inks", "LAB": "LAB"}.get(file.mode, "colour")


def _grey_in_four_bytes(file: Image.Image) -> bool:
    """Whether a PNG holds 16-bit grey and alpha, which Pillow calls RGBA."""
    tiles = getattr(file, "tile", None) or []
    return file.format == "PNG" and any(tile[3] == "LA;16B" for tile in tiles)


def _orientation(file: Image.Image) -> tuple[int, tuple[str, ...]]:
    """The orientation still to be applied, 1 for none; Pillow turns TIFF and AVIF files itself."""
    try:
        if file.format == "TIFF":
            return 1, ("orientation",) if getattr(file, "tag_v2", {}).get(ORIENTATION, 1) in range(2, 9) else ()
        if not {"exif", "XML:com.adobe.xmp", "xmp", "Raw profile type exif"} & set(file.info):
            return 1, ()
        turned = Image.Image.getexif(file).get(ORIENTATION, 1)  # PNG's own would decode the pixels
    except Exception:  # whatever a damaged block of tags makes its reader raise
        return 1, ("exif-broken",)
    return (turned, ("orientation",)) if turned in range(2, 9) else (1, ())


def _text_after_pixels(file: Image.Image) -> bool:
    """Whether a PNG has tags or text behind its pixels, where an orientation may be."""
    pointer = file.fp  # type: ignore[attr-defined]
    place, seen = pointer.tell(), False
    pointer.seek(8)
    while len(chunk := pointer.read(8)) == 8:
        name = chunk[4:]
        if seen and name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            break
        seen = seen or name == b"IDAT"
        pointer.seek(int.from_bytes(chunk[:4], "big") + 4, 1)
    pointer.seek(place)
    return len(chunk) == 8


def _has_frames(file: Image.Image) -> bool:
    """Whether there is a frame behind the first; the layers of a PSD are none."""
    return file.format != "PSD" and bool(getattr(file, "is_animated", False))


def _lossy(file: Image.Image, path: Path) -> bool:
    if file.format == "WEBP":
        return webp_is_lossy(path)
    if file.format == "TIFF":
        return file.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return file.format in LOSSY


def webp_is_lossy(path: Path) -> bool:
    """Whether a WebP file holds no chunk of lossless coding."""
    with path.open("rb") as file:
        return b"VP8L" not in file.read(HEAD)
