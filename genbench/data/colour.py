"""What a colour profile, a gamma value or a mode does to the colours that a viewer shows, applied to get sRGB.

Reports of what was done, by code: "profile" (converted to sRGB), "profile-ignored" (unusable), "gamma" (applied),
"primaries" (a PNG's own primaries without a profile: not applied), "cmyk" (inks without a profile: plain inversion).
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
SAME = 2  # grey levels by which a profile may differ from sRGB and still be it
SRGB_GAMMA = 1 / 2.2
SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def has_alpha(file: Image.Image) -> bool:
    """Whether a picture has an alpha channel or a transparent colour."""
    return file.mode in ALPHA_MODES or "transparency" in file.info


def colour_codes(file: Image.Image) -> tuple[str, ...]:
    """What `to_srgb` will do to this picture, of which the header is read."""
    icc = file.info.get("icc_profile")
    if icc:
        kind = profile_kind(icc, _profile_mode(file))
        return () if kind == "same" else ("profile" if kind == "other" else "profile-ignored",)
    codes: tuple[str, ...] = ("gamma",) if exponent(file) != 1.0 else ()
    if "srgb" not in file.info and _other_primaries(file.info.get("chromaticity")):
        codes += ("primaries",)
    return (*codes, "cmyk") if file.mode == "CMYK" else codes


def _other_primaries(found: object) -> bool:
    if not isinstance(found, tuple) or len(found) != len(SRGB_PRIMARIES):
        return False
    return max(abs(a - b) for a, b in zip(found, SRGB_PRIMARIES, strict=True)) > 0.01


def exponent(file: Image.Image) -> float:
    """The power that turns a PNG's values, in 0..1, into sRGB's by its gAMA chunk; 1.0 where there is nothing to do."""
    gamma = file.info.get("gamma")
    if not gamma or file.info.get("icc_profile") or "srgb" in file.info:
        return 1.0
    power = SRGB_GAMMA / float(gamma)
    return 1.0 if abs(power - 1) < 0.05 else power


def to_srgb(image: Image.Image, icc: bytes | None, power: float) -> Image.Image:
    """A loaded picture of 8 bits a channel in mode L, LA, RGB or RGBA, its colours those of sRGB."""
    plain = _plain(image)
    if icc:
        return _by_profile(image, plain, icc)
    if power == 1.0:
        return plain
    table = [round(255 * (k / 255) ** power) for k in range(256)]
    channels = [c if name == "A" else c.point(table) for name, c in zip(plain.getbands(), plain.split(), strict=True)]
    return Image.merge(plain.mode, channels)


def _plain(image: Image.Image) -> Image.Image:
    """In mode L, LA, RGB or RGBA."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    grey, alpha = image.mode in GREY_MODES, has_alpha(image)
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBa", "PA"):
        return image.convert("RGBA")
    wanted = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
    return image if image.mode == wanted and "transparency" not in image.info else image.convert(wanted)


def _profile_mode(file: Image.Image) -> str:
    """The mode whose values the profile describes."""
    if file.mode in GREY_MODES:
        return "L"
    return file.mode if file.mode in ("CMYK", "LAB") else "RGB"


def _by_profile(image: Image.Image, plain: Image.Image, icc: bytes) -> Image.Image:
    mode = _profile_mode(image)
    if profile_kind(icc, mode) != "other":
        return plain
    change = _transform(icc, mode)
    assert change is not None
    shown = ImageCms.applyTransform(image if mode in ("CMYK", "LAB") else plain.convert(mode), change)
    assert shown is not None
    shown = shown.convert("L") if mode == "L" else shown
    if plain.mode in ("LA", "RGBA"):
        shown.putalpha(plain.getchannel("A"))
    return shown


@lru_cache(maxsize=256)
def profile_kind(icc: bytes, mode: str) -> str:
    """What a profile does to values of this mode: "same" (it is sRGB), "other", or "unusable"."""
    change = _transform(icc, mode)
    if change is None:
        return "unusable"
    if mode not in ("L", "RGB"):
        return "other"
    ramp = np.linspace(0, 255, 9).round().astype(np.uint8)
    values = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(27, 27, 3)
    probe = Image.fromarray(values if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    shown = ImageCms.applyTransform(probe, change)
    assert shown is not None
    off = np.abs(np.asarray(shown).astype(int) - np.asarray(probe.convert("RGB")).astype(int)).max()
    return "same" if off <= SAME else "other"


@lru_cache(maxsize=256)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
