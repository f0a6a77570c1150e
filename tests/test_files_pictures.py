"""What changes how a viewer shows a picture is applied, or reported with its share of the set."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from genbench.data.images import Pictures, Sizing
from genbench.errors import DataError
from genbench.lint import Case, inspect, summarise

RAMP = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def read(folder: Path) -> np.ndarray:
    """(N, H, W, C)."""
    return Pictures(folder).load().permute(0, 2, 3, 1).numpy()


def reported(folder: Path) -> dict[str, str]:
    images = Pictures(folder)
    before = images.found
    case = Case(summarise(images.load()), 256, files=images.found)
    assert images.found == before  # the same whether the pictures were decoded or kept features were used
    return {finding.code: finding.found for finding in inspect(case)}


def plain(folder: Path, count: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.fromarray(RAMP).save(folder / f"plain{number}.png")
    return folder


def png(path: Path, rows: np.ndarray, depth: int, colour: int, **chunks: bytes) -> Path:
    """A PNG written by hand: rows (H, W, C) of the stored type, chunks before the pixels, `late_` ones after."""
    height, width = rows.shape[:2]
    stored = rows.astype(">u2" if depth == 16 else np.uint8)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in stored))
    late = {name.removeprefix("late_"): data for name, data in chunks.items() if name.startswith("late_")}
    early = {name: data for name, data in chunks.items() if not name.startswith("late_")}
    parts = [("IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *early.items()]
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in [*parts, ("IDAT", content), *late.items(), ("IEND", b"")]:
            kind = name.encode()
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# --- orientation


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_orientation_of_exif_is_applied(orientation, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(RAMP).save(path, exif=exif(orientation), **options)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert shown.shape[:2] == ((6, 4) if orientation > 4 else (4, 6))
    assert np.array_equal(read(tmp_path)[0], shown)
    assert reported(tmp_path)["orientation"].startswith("1 of 1 pictures are turned or mirrored by their EXIF")


def test_an_orientation_behind_the_pixels_and_one_in_xmp_are_applied(tmp_path):
    tags = exif(6).tobytes().removeprefix(b"Exif\0\0")
    png(tmp_path / "a" / "late.png", RAMP, 8, 2, late_eXIf=tags)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r d:Orientation="6" xmlns:tiff="t" tiff:Orientation="6"/></x:xmpmeta>'
    png(tmp_path / "b" / "xmp.png", RAMP, 8, 2, iTXt=b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    for folder in ("a", "b"):
        assert np.array_equal(read(tmp_path / folder)[0], np.rot90(RAMP, -1)), folder


def test_an_orientation_of_some_pictures_is_reported_with_its_share(tmp_path):
    plain(tmp_path)
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif(3))
    assert reported(tmp_path)["orientation"] == (
        f"1 of 4 pictures are turned or mirrored by their EXIF orientation, which was applied, first "
        f"{tmp_path}/turned.png"
    )


def test_damaged_exif_is_reported_and_never_a_raw_warning(tmp_path):
    plain(tmp_path)
    damaged = exif(6).tobytes()[:-9]
    for number, tags in enumerate((b"Exif\0\0nothing at all", damaged, b"Exif\0\0II*\0\xff\xff\xff\xff")):
        Image.fromarray(RAMP).save(tmp_path / f"x{number}.png", exif=tags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = reported(tmp_path)
    assert {"exif-broken", "warned"} & set(found)


def test_a_very_large_picture_is_reported_and_never_a_raw_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    plain(tmp_path, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = reported(tmp_path)
    assert found["warned"].startswith("1 of 1 pictures were read with a warning: Image size (24 pixels) exceeds limit")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"plain0\.png: not a readable image: Image size \(24 pixels\) exceeds limit"):
        Pictures(tmp_path)


# --- more than 8 bits


DEEP = np.random.default_rng(0).integers(65536, size=(4, 6, 4)).astype(np.uint16)


def eight(values: np.ndarray) -> np.ndarray:
    return np.rint(values / 257).astype(np.uint8)


def tiff(path: Path, rows: np.ndarray) -> Path:
    """An uncompressed little-endian TIFF of 16 bits a channel."""
    height, width, channels = rows.shape
    content, after = rows.astype("<u2").tobytes(), 8 + 2 + 10 * 12 + 4
    bits = after if channels > 2 else int.from_bytes(struct.pack("<2H", 16, 16 if channels == 2 else 0), "little")
    start = after + 2 * channels
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits), (259, 3, 1, 1),
        (262, 3, 1, 2 if channels > 2 else 1), (273, 4, 1, start), (277, 3, 1, channels), (278, 4, 1, height),
        (279, 4, 1, len(content)), (284, 3, 1, 1),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    path.write_bytes(head + struct.pack("<I", 0) + struct.pack(f"<{channels}H", *[16] * channels) + content)
    return path


def ppm(path: Path, rows: np.ndarray, most: int, plain: bool = False) -> Path:
    grey = rows.shape[2] == 1
    kind = {(True, False): "P5", (False, False): "P6", (True, True): "P2", (False, True): "P3"}[grey, plain]
    body = " ".join(map(str, rows.ravel())).encode() if plain else rows.astype(">u2").tobytes()
    path.write_bytes(f"{kind}\n{rows.shape[1]} {rows.shape[0]}\n{most}\n".encode() + body)
    return path


WRITERS = {
    "png grey": (1, lambda p, v: png(p / "x.png", v, 16, 0)),
    "png colour": (3, lambda p, v: png(p / "x.png", v, 16, 2)),
    "tiff grey": (1, lambda p, v: tiff(p / "x.tif", v)),
    "tiff colour": (3, lambda p, v: tiff(p / "x.tif", v)),
    "ppm colour": (3, lambda p, v: ppm(p / "x.ppm", v, 65535)),
    "ppm plain": (3, lambda p, v: ppm(p / "x.ppm", v, 65535, plain=True)),
    "pgm": (1, lambda p, v: ppm(p / "x.pgm", v, 65535)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_sixteen_bits_are_rounded_and_small_values_kept(kind, tmp_path):
    channels, write = WRITERS[kind]
    full, small = DEEP[..., :channels], (DEEP[..., :channels] % 256).astype(np.uint16)
    for name, values, expected in (("full", full, eight(full)), ("small", small, small)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, values)
        assert np.array_equal(read(tmp_path / name)[0], expected), name
    assert "(divided by 257 and rounded)" in reported(tmp_path / "full")["deep"]
    assert "(none above 255: read as 0..255)" in reported(tmp_path / "small")["deep"]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", None])
def test_a_compressed_tiff_of_sixteen_bits_grey(compression, tmp_path):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "x.tif", compression=compression)
    assert np.array_equal(read(tmp_path)[0, ..., 0], eight(DEEP[..., 0]))


def test_sixteen_bits_with_alpha_are_shown_on_white(tmp_path):
    for name, values, colour in (("grey", DEEP[..., :2], 4), ("colour", DEEP, 6)):
        png(tmp_path / name / "x.png", values, 16, colour)
        channels = values.shape[2] - 1
        colour_8, alpha = eight(values[..., :channels]).astype(float), eight(values[..., channels:]) / 255
        expected = colour_8 * alpha + 255 * (1 - alpha)
        pixels = read(tmp_path / name)[0]
        assert pixels.shape[2] == channels
        assert np.abs(pixels - expected).max() <= 1
        assert {"alpha", "deep"} <= set(reported(tmp_path / name))


def test_whether_values_are_small_is_decided_for_the_whole_set(tmp_path):
    png(tmp_path / "a.png", DEEP[..., :1] % 256, 16, 0)
    png(tmp_path / "b.png", DEEP[..., :1], 16, 0)
    assert np.array_equal(read(tmp_path)[0], eight(DEEP[..., :1] % 256))


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 6), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(
        DataError, match=r"x\.tif: pixels are floating-point numbers, allowed: whole numbers of 8 or 16"
    ):
        read(tmp_path)


# --- transparency


def test_transparency_is_shown_on_white_and_reported_with_its_share(tmp_path):
    opaque = np.concatenate([RAMP, np.full((4, 6, 1), 255, np.uint8)], axis=2)
    half = opaque.copy()
    half[0, 0] = (10, 20, 30, 0)
    half[0, 1] = (100, 100, 100, 51)
    for number, image in enumerate((opaque, half, opaque)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    pixels = read(tmp_path)
    assert np.array_equal(pixels[0], RAMP)
    assert pixels[1, 0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 0, 1].tolist() == [224, 224, 224]
    assert reported(tmp_path)["alpha"] == (
        f"1 of 3 pictures are transparent in places and are shown on white, first {tmp_path}/1.png"
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "PA"])
def test_transparency_of_every_kind_is_seen(mode, tmp_path):
    values = np.zeros((4, 6), np.uint8)
    values[:, 3:] = 255
    image = Image.fromarray(values).convert(mode)
    if mode in ("LA", "PA"):
        image.putalpha(Image.fromarray(values))
    key = {"L": 0, "RGB": (0, 0, 0), "P": 0, "1": 0}.get(mode)
    suffix = "tif" if mode == "PA" else "png"
    image.save(tmp_path / f"x.{suffix}", **({} if key is None else {"transparency": key}))
    pixels = read(tmp_path)
    assert pixels.min() == 255
    assert pixels.shape[3] == (3 if mode in ("RGB", "P", "PA") else 1)
    assert "alpha" in reported(tmp_path)


# --- frames


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_frames_is_read_and_reported(suffix, tmp_path):
    plain(tmp_path, 2)
    frames = [Image.new("RGB", (6, 4), (level,) * 3) for level in (40, 200)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **options)
    pixels = read(tmp_path)
    assert (pixels[2] == 40).all()
    assert reported(tmp_path)["frames"] == (
        f"1 of 3 pictures have several frames, of which the first is read, first {tmp_path}/x.{suffix}"
    )


# --- colours


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged, made from Pillow's by its tags."""
    content = bytearray(profile("sRGB"))
    table = {bytes(content[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(content[128:132], "big"), 12)}
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(content)


def test_a_profile_of_srgb_changes_nothing_and_is_not_reported(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", icc_profile=profile("sRGB"))
    assert np.array_equal(read(tmp_path)[0], RAMP)
    assert not {"profile", "profile-ignored"} & set(reported(tmp_path))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_another_profile_is_applied_and_reported(suffix, tmp_path):
    plain(tmp_path, 1)
    image = Image.new("RGB", (6, 4), (200, 30, 60))
    options = {"lossless": True} if suffix == "webp" else {}
    image.save(tmp_path / f"x.{suffix}", icc_profile=swapped_profile(), **options)
    assert np.abs(read(tmp_path)[1, 0, 0].astype(int) - [30, 200, 60]).max() <= 2
    assert reported(tmp_path)["profile"].startswith("1 of 2 pictures have a colour profile other than sRGB and were")


def test_a_profile_applies_to_colours_and_leaves_alpha(tmp_path):
    image = Image.new("RGBA", (6, 4), (200, 30, 60, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "x.png", icc_profile=swapped_profile())
    pixels = read(tmp_path)[0]
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels[1, 1].astype(int) - [30, 200, 60]).max() <= 2


def test_an_unusable_profile_is_reported(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", icc_profile=b"nothing")
    Image.fromarray(RAMP[..., 0]).convert("RGB").save(tmp_path / "y.png", icc_profile=profile("LAB")[:200])
    assert reported(tmp_path)["profile-ignored"].startswith("2 of 2 pictures have a colour profile that cannot be used")


def test_the_gamma_of_a_png_is_applied_unless_it_is_that_of_srgb(tmp_path):
    linear = np.full((4, 6, 1), 128, np.uint8)
    png(tmp_path / "a" / "x.png", linear, 8, 0, gAMA=struct.pack(">I", 100_000))
    png(tmp_path / "b" / "x.png", linear, 8, 0, gAMA=struct.pack(">I", 45_455))
    png(tmp_path / "c" / "x.png", linear, 8, 0, gAMA=struct.pack(">I", 100_000), sRGB=b"\0")
    assert read(tmp_path / "a").max() == round(255 * (128 / 255) ** (1 / 2.2))
    assert "gamma" in reported(tmp_path / "a")
    for name in "bc":
        assert (read(tmp_path / name) == 128).all()
        assert "gamma" not in reported(tmp_path / name)


def test_other_primaries_are_reported(tmp_path):
    wide = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    png(tmp_path / "x.png", RAMP, 8, 2, cHRM=wide)
    assert "which were not applied" in reported(tmp_path)["primaries"]


@pytest.mark.parametrize("mode", ["P", "CMYK", "LAB", "YCbCr", "1", "RGBX"])
def test_every_mode_becomes_the_colours_that_a_viewer_shows(mode, tmp_path):
    image = Image.new("RGB", (16, 16), (255, 0, 0) if mode != "1" else (255, 255, 255))
    shown = (
        ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        if mode == "LAB"
        else image.convert(mode)
    )
    shown.save(tmp_path / ("x.jpg" if mode in ("YCbCr",) else "x.tif"))
    pixel = read(tmp_path)[0, 8, 8].astype(int)
    assert np.abs(pixel - ([255] if mode == "1" else [255, 0, 0])).max() <= 6  # LAB is coded in 8 bits
    assert ("cmyk" in reported(tmp_path)) == (mode == "CMYK")


def test_mixed_kinds_are_reported_with_their_numbers(tmp_path):
    plain(tmp_path, 3)
    for number in range(2):
        Image.fromarray(RAMP[..., 0]).save(tmp_path / f"grey{number}.png")
    assert reported(tmp_path)["modes"] == "the pictures are of several kinds: 3 colour, 2 grey"
    assert read(tmp_path).shape == (5, 4, 6, 3)


def test_text_chunks_and_interlacing_are_no_matter(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat")
    Image.fromarray(RAMP).save(tmp_path / "x.png", pnginfo=info)
    assert np.array_equal(read(tmp_path)[0], RAMP)
    assert "warned" not in reported(tmp_path)


# --- sizes


def test_pictures_of_different_sizes_are_brought_to_one(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.new("L", (5, 5), 255).save(tmp_path / "small.png")
    for how, middle_row in (("crop", [255] * 10), ("stretch", None), ("pad", None)):
        images = Pictures(tmp_path, Sizing(10, how))
        assert images.shape == (1, 10, 10)
        pixels = images.load()[:, 0].numpy()
        assert (pixels[0] == 255).all()
        if middle_row:
            assert pixels[1, 5].tolist() == middle_row
    assert (Pictures(tmp_path, Sizing(10, "pad")).load()[1, 0, :3] == 0).all()
    stretched = Pictures(tmp_path, Sizing(10, "stretch")).load()[1, 0, 5].tolist()
    assert stretched[0] == stretched[9] == 0
    assert stretched[5] == 255
    hashes = {Pictures(tmp_path, Sizing(10, how)).source_hash for how in ("crop", "stretch", "pad")}
    assert len(hashes) == 3


def test_a_picture_is_turned_before_it_is_resized(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", exif=exif(6))
    turned = Image.fromarray(np.rot90(RAMP, -1).copy())
    assert np.array_equal(
        Pictures(tmp_path, Sizing(3)).load()[0].permute(1, 2, 0),
        np.asarray(ImageOps.fit(turned, (3, 3), Image.Resampling.LANCZOS)),
    )


@pytest.mark.parametrize(
    ("size", "how", "text"),
    [(0, "crop", "--size: found 0"), (8, "cut", "--fit: found 'cut', allowed: crop, stretch, pad")],
)
def test_sizes_that_cannot_be_are_one_line(size, how, text):
    with pytest.raises(DataError, match=text):
        Sizing(size, how)
