"""Every file below a folder is either a picture that is read, or is reported."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genbench.data.images import Pictures
from genbench.data.walk import list_files
from genbench.errors import DataError
from genbench.lint import Case, inspect, summarise


def write(folder: Path, count: int, suffix: str = "png", start: int = 0, **options: object) -> Path:
    """Pictures whose every pixel is the picture's number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.new("L", (6, 4), number).save(folder / f"{number:03}.{suffix}", **options)
    return folder


def numbers(images: Pictures) -> list[int]:
    return images.load()[:, 0, 0, 0].tolist()


def reported(images: Pictures) -> dict[str, str]:
    case = Case(summarise(images.load()), 256, files=images.found)
    return {finding.code: finding.text for finding in inspect(case)}


LOSSLESS = ("png", "tif", "tiff", "bmp", "webp", "gif", "ppm", "pgm", "tga", "pcx", "jp2", "sgi", "ico", "dds")


@pytest.mark.parametrize("suffix", [*LOSSLESS, "PNG", "TIF", "jpe", "jfif", "avif"])
def test_pictures_of_every_format_that_pillow_writes_are_read(suffix, tmp_path):
    options = {"webp": {"lossless": True}, "jp2": {"irreversible": False}, "avif": {"quality": 100}}.get(suffix, {})
    for number in (40, 200):
        size = (16, 16)
        image = Image.new(
            "RGB" if suffix in ("dds", "ico") else "L", size, (number,) * 3 if suffix in ("dds", "ico") else number
        )
        image.save(tmp_path / f"{number:03}.{suffix}", **options)
    pixels = Pictures(tmp_path).load()
    assert len(pixels) == 2
    assert np.abs(pixels[:, 0, 0, 0].numpy().astype(int) - [40, 200]).max() <= (0 if suffix.lower() in LOSSLESS else 2)


def test_two_suffixes_in_one_folder_are_all_read(tmp_path):
    write(write(tmp_path / "x", 5, "tif"), 5, "png", start=5)
    assert numbers(Pictures(tmp_path / "x")) == list(range(10))


def test_numbers_in_names_are_sorted_by_value(tmp_path):
    names = ["1/9.png", "1/10.png", "2/1.png", "10/1.png", "a2/x-2.png", "a2/x-10b1.png", "a2/x-10b02.png", "a10/1.png"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (6, 4), number).save(tmp_path / name)
    assert numbers(Pictures(tmp_path)) == list(range(len(names)))


def test_a_picture_is_known_by_its_content(tmp_path):
    write(tmp_path, 3)
    (tmp_path / "000.png").rename(tmp_path / "000")
    (tmp_path / "001.png").rename(tmp_path / "001.dat")
    assert numbers(Pictures(tmp_path)) == [0, 1, 2]


def test_files_of_systems_are_passed_over(tmp_path):
    write(tmp_path / "x", 4)
    for name in ("._000.png", ".DS_Store", "Thumbs.db", "desktop.ini", "THUMBS.DB"):
        (tmp_path / "x" / name).write_bytes(b"\x00\x05\x16\x07 nothing")
    write(tmp_path / "x" / "__MACOSX" / "deep", 2)
    write(tmp_path / "x" / "@eaDir", 2)
    images = Pictures(tmp_path / "x")
    assert numbers(images) == [0, 1, 2, 3]
    assert {"others", "hidden"}.isdisjoint(reported(images))


def test_hidden_pictures_are_reported(tmp_path):
    write(tmp_path, 4)
    (tmp_path / "000.png").rename(tmp_path / ".000.png")
    assert reported(Pictures(tmp_path))["hidden"] == (
        f"1 files (1 .png) are hidden and are not scored, first {tmp_path}/.000.png: "
        "the value is that of the other files alone"
    )


def test_other_files_are_counted_by_suffix(tmp_path):
    write(tmp_path, 4)
    for name in ("a.txt", "b.TXT", "c.json", "README", "d.pdf", "e.eps", "f.dng", "g.h5", "h.svg"):
        (tmp_path / name).write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    found = reported(Pictures(tmp_path))["others"]
    assert found.startswith("9 files (2 .txt, 1 without suffix, 1 .json, 1 .pdf, 1 .eps) are no pictures and are not")


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("damage", ["empty", "text", "header", "half"])
def test_a_damaged_picture_is_named_in_one_line(damage, suffix, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}")
    bad = tmp_path / f"b.{suffix}"
    whole = bad.read_bytes()
    bad.write_bytes(
        {"empty": b"", "text": b"404: not found", "header": whole[:20], "half": whole[: len(whole) // 2]}[damage]
    )
    with pytest.raises(DataError) as caught:
        Pictures(tmp_path).load()
    assert str(caught.value).startswith(f"{bad}: not a readable image: ")
    assert "\n" not in str(caught.value)


def test_damaged_headers_never_raise_anything_else(tmp_path):
    rng, messages = random.Random(0), []
    heads = [tmp_path / f"head.{suffix}" for suffix in ("png", "tif", "gif", "ico", "tga", "pcx", "dds", "webp", "jpg")]
    for head in heads:
        Image.new("RGB", (16, 16)).save(head)
    for trial in range(300):
        head = rng.choice(heads)
        content = bytearray(head.read_bytes())
        for _ in range(4):
            content[rng.randrange(min(len(content), 300))] = rng.randrange(256)
        folder = tmp_path / "t" / str(trial)
        folder.mkdir(parents=True)
        (folder / f"x{head.suffix}").write_bytes(content)
        try:
            Pictures(folder).load()
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert not [message for message in messages if "\n" in message]


def test_a_folder_without_pictures_names_what_it_holds(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no images in this folder; found 1 other files: \.npz; allowed: the formats"):
        Pictures(tmp_path)


# --- links


def test_a_folder_of_a_link_to_the_images_is_read(tmp_path):
    write(tmp_path / "real", 3)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "images").symlink_to(tmp_path / "real")
    images = Pictures(tmp_path / "x")
    assert numbers(images) == [0, 1, 2]
    assert reported(images).keys().isdisjoint({"repeated", "broken-links", "others"})
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert numbers(Pictures(tmp_path / "link")) == [0, 1, 2]


def test_a_tree_linked_in_part_loses_nothing(tmp_path):
    write(tmp_path / "elsewhere" / "dogs", 3, start=3)
    write(tmp_path / "loose", 1, start=6)
    write(tmp_path / "x" / "cats", 3)
    (tmp_path / "x" / "dogs").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "x" / "cats" / "more.png").symlink_to(tmp_path / "loose" / "006.png")
    images = Pictures(tmp_path / "x")
    assert sorted(numbers(images)) == [0, 1, 2, 3, 4, 5, 6]
    assert images.classes == ("cats", "dogs")


def test_links_in_a_circle_end_and_are_reported(tmp_path):
    write(tmp_path / "x" / "deep", 3)
    (tmp_path / "x" / "deep" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "deep" / "self").symlink_to(".")
    (tmp_path / "x" / "above").symlink_to(tmp_path)
    images = Pictures(tmp_path / "x")
    assert numbers(images) == [0, 1, 2]
    assert reported(images)["repeated"].startswith("3 files (3 without suffix) are links to what is read already")


def test_a_file_linked_twice_counts_once(tmp_path):
    write(tmp_path / "x", 2)
    write(tmp_path / "y", 1, start=9)
    (tmp_path / "x" / "0.png").symlink_to(tmp_path / "x" / "000.png")
    for name in ("8.png", "9.png"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "y" / "009.png")
    images = Pictures(tmp_path / "x")
    assert numbers(images) == [0, 1, 9]
    assert [path.name for path in list_files(tmp_path / "x").repeated] == ["0.png", "9.png"]


def test_a_link_that_leads_nowhere_is_reported(tmp_path):
    write(tmp_path, 2)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    found = reported(Pictures(tmp_path))["broken-links"]
    assert found == (
        f"1 files (1 .png) are links that lead nowhere, first {tmp_path}/gone.png: "
        "the images they stood for are not scored"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path):
    write(tmp_path / "x" / "closed", 2)
    (tmp_path / "x" / "closed").chmod(0)
    with pytest.raises(DataError, match="closed: this folder cannot be read: Permission denied"):
        Pictures(tmp_path / "x")
