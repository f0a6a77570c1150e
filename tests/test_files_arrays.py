"""Arrays of images in every layout and type that holds grey levels; what is unclear is asked, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from genbench.data.arrays import channels_first
from genbench.data.images import open_images
from genbench.errors import DataError
from genbench.lint import Case, inspect, summarise

PIXELS = np.random.default_rng(0).integers(256, size=(11, 6, 5), dtype=np.uint8)


def saved(path: Path, images: np.ndarray, **more: np.ndarray) -> Path:
    if path.suffix.lower() == ".npy":
        with path.open("wb") as file:
            np.save(file, images)
    else:
        with path.open("wb") as file:
            np.savez_compressed(file, images=images, **more)
    return path


def read(path: Path) -> np.ndarray:
    return open_images(path).load()[:, 0].numpy()


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_images(path).load()
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "X.NPY", "X.NPZ", "x.Npz"])
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i8", ">u2", "<i2", "<f4", ">f8", "<f2", ">i4", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_grey_levels_of_every_type_and_order_are_read(order, kind, name, tmp_path):
    path = saved(tmp_path / name, np.array(PIXELS.astype(kind), order=order))
    assert np.array_equal(read(path), PIXELS)
    parts = list(open_images(path).rows(4))
    assert [len(part) for part in parts] == [4, 4, 3]


def test_arrays_in_memory_are_read_alike():
    for kind in ("<i8", ">f4", ">u2"):
        assert np.array_equal(channels_first(PIXELS.astype(kind), "fake")[:, 0].numpy(), PIXELS)
    with pytest.raises(DataError, match="fake: images of float32 from 0 to"):
        channels_first(np.linspace(0, 0.5, 40, dtype=np.float32).reshape(5, 2, 4), "fake")


@pytest.mark.parametrize("shape", [(11, 6, 5, 1), (11, 1, 6, 5)])
def test_a_channel_axis_of_one_is_read_at_either_end(shape, tmp_path):
    assert np.array_equal(read(saved(tmp_path / "x.npy", PIXELS.reshape(shape))), PIXELS)


def test_sixteen_bits_are_rounded_and_reported(tmp_path):
    deep = PIXELS.astype(np.uint16) * 257
    images = open_images(saved(tmp_path / "x.npz", deep))
    assert np.array_equal(images.load()[:, 0].numpy(), PIXELS)
    findings = inspect(Case(summarise(images.load()), 256, files=images.found))
    assert "values of uint16 up to 65535 were divided by 257 and rounded" in {f.found for f in findings}


@pytest.mark.parametrize(("shape", "text"), [
    ((32, 32, 3), "shape (32, 32, 3) is one image of 32x32 in 3 channels, or 32 images of 32x3: unclear; save it as "
                  "(1, 32, 32, 3) or (32, 1, 32, 3)"),
    ((32, 32, 1), "shape (32, 32, 1) is one image of 32x32 in 1 channels, or 32 images of 32x1: unclear; "),
    ((3, 32, 24), "shape (3, 32, 24) is one image of 32x24 in 3 channels, or 3 images of 32x24: unclear; save it as "
                  "(1, 3, 32, 24) or (3, 1, 32, 24)"),
    ((28, 28, 100), "shape (28, 28, 100) is 100 images of 28x28, or 28 images of 28x100: unclear; save it as "
                    "(100, 1, 28, 28) or (28, 1, 28, 100)"),
    ((9, 3, 8, 3), "images of shape (9, 3, 8, 3), which fits both (N, C, H, W) and (N, H, W, C)"),
    ((9, 1, 8, 3), "images of shape (9, 1, 8, 3), which fits both"),
    ((32, 32), "images of shape (32, 32), allowed: (N, H, W)"),
    ((8, 8, 4, 4, 1), "images of shape (8, 8, 4, 4, 1), allowed: (N, H, W)"),
    ((32, 32, 3, 100), "images of shape (32, 32, 3, 100), allowed: (N, H, W)"),
    ((9, 8, 8, 4), "images of shape (9, 8, 8, 4), allowed: (N, H, W)"),
])  # fmt: skip
def test_shapes_that_are_unclear_or_none_are_asked(shape, text, tmp_path):
    assert message(saved(tmp_path / "x.npy", np.zeros(shape, np.uint8))).startswith(text)


def test_one_image_with_all_axes_is_read(tmp_path):
    assert open_images(saved(tmp_path / "x.npy", np.zeros((1, 32, 32, 3), np.uint8))).shape == (3, 32, 32)
    assert open_images(saved(tmp_path / "y.npy", np.zeros((64, 64, 64), np.uint8))).count == 64


UNIT = PIXELS / 255


@pytest.mark.parametrize(("images", "text"), [
    (PIXELS > 9, "images of bool from 0 to 1; allowed: uint8 grey-level indices, e.g. x.astype('uint8') * 255"),
    (UNIT.astype("f4"), "images of float32 from 0 to 1; allowed: uint8 grey-level indices, e.g. numpy.rint(x * 255)"),
    (UNIT * 2 - 1, "images of float64 from -1 to 1; allowed: uint8 grey-level indices, e.g. numpy.rint((x + 1)"),
    (np.rint(UNIT), "images of float64 from 0 to 1; allowed: uint8 grey-level indices, e.g. numpy.rint(x * 255)"),
    (PIXELS + 0.25, "images of float64 from 0.25 to 255.2; allowed: uint8 grey-level indices"),
    (UNIT * 200, "images of float64 from 0 to 200; allowed: uint8 grey-level indices, e.g. numpy.rint(x).astype"),
    (np.where(PIXELS > 250, np.inf, PIXELS), " values not finite; allowed: uint8 grey-level indices"),
    (PIXELS.astype(np.int16) - 128, "images of int16 from -128 to 127; allowed: uint8 grey-level indices"),
    (PIXELS.astype(np.int64) * 300, "images of int64 from 0 to 76500; allowed: uint8 grey-level indices"),
    (PIXELS.astype(complex), "images of complex128; allowed: uint8 grey-level indices"),
    (PIXELS.astype("U3"), "; allowed: uint8 grey-level indices"),
])  # fmt: skip
def test_other_values_are_refused_with_what_to_do(images, text, tmp_path):
    assert text in message(saved(tmp_path / "x.npz", images))


def test_a_cut_array_in_fortran_order_is_one_line(tmp_path):
    path = saved(tmp_path / "x.npy", np.asfortranarray(PIXELS))
    path.write_bytes(path.read_bytes()[:-7])
    assert message(path) == "ends after 323 of 330 bytes of values"


def test_a_large_array_in_fortran_order_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("genbench.data.arrays.WHOLE_IN_MEMORY", 300)
    assert "in Fortran order, which cannot be read in parts; save numpy.ascontiguousarray(x)" in message(
        saved(tmp_path / "x.npy", np.asfortranarray(PIXELS))
    )


def test_an_array_is_known_by_its_content(tmp_path):
    path = saved(tmp_path / "x.npy", PIXELS)
    assert np.array_equal(read(path.rename(tmp_path / "x")), PIXELS)


# --- labels

NUMBERS = np.arange(11) % 3


@pytest.mark.parametrize("labels", [
    NUMBERS, NUMBERS.astype("f4"), NUMBERS.astype(">i2"), NUMBERS[:, None], np.eye(3)[NUMBERS],
    np.eye(3, dtype=bool)[NUMBERS], np.eye(3, dtype=np.uint8)[NUMBERS],
], ids=["int", "float", "big-endian", "column", "one-hot", "bool one-hot", "uint8 one-hot"])  # fmt: skip
@pytest.mark.parametrize("key", ["labels", "label", "y", "targets"])
def test_labels_of_every_kind_are_read(key, labels, tmp_path):
    path = saved(tmp_path / "x.npz", PIXELS, **{key: labels})
    assert open_images(path).labels.tolist() == NUMBERS.tolist()


def test_one_hot_labels_beside_images_without_a_name(tmp_path):
    np.savez(tmp_path / "x.npz", PIXELS, np.eye(3)[NUMBERS])
    assert open_images(tmp_path / "x.npz").labels.tolist() == NUMBERS.tolist()


def test_names_are_labels(tmp_path):
    images = open_images(saved(tmp_path / "x.npz", PIXELS, labels=np.array(["cat", "ant", "bee"])[NUMBERS]))
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == np.array([2, 0, 1])[NUMBERS].tolist()


@pytest.mark.parametrize("labels", [
    NUMBERS[:-1], NUMBERS - 1, NUMBERS + 0.5, np.full(11, np.nan), np.full((11, 3), 1 / 3), np.ones((11, 3)),
    NUMBERS > 1, np.zeros((11, 2, 2)), NUMBERS.astype(complex),
])  # fmt: skip
def test_other_labels_are_refused_in_one_line(labels, tmp_path):
    text = message(saved(tmp_path / "x.npz", PIXELS, labels=labels))
    assert text.startswith(f"labels of {labels.dtype} and shape {labels.shape}")
    assert text.endswith("allowed: integers from 0, shape (11,), names, or one-hot rows (11, K)")


def test_an_array_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.npz", np.zeros((3_000, 32, 32), np.uint8))
    assert open_images(path).count == 3_000
    monkeypatch.setattr("genbench.data.arrays.FREE", 1 << 20)
    assert re.fullmatch(r"found images.npy of 3,072,\d+ bytes when unpacked, allowed: at most 1,[67].*", message(path))
