"""Datasets: fixed splits, fingerprints that notice a changed pixel, readers, and messages that name what to do."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genbench import data
from genbench.contract import DataSpec
from genbench.data import digits, fashion_mnist
from genbench.data.idx import read_idx
from genbench.data.images import Pictures, Sizing
from genbench.errors import DataError

needs_fashion = pytest.mark.skipif(
    not any((place / name).is_file() for place in fashion_mnist.PUBLISHED.places() for name in fashion_mnist.FILES),
    reason="fashion-mnist is not on this machine",
)


@pytest.fixture(scope="module")
def loaded() -> data.Dataset:
    return data.load({"name": "digits"})


def message(entry: dict[str, object], folder: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        data.load(entry, folder)
    return str(caught.value)


def write_array(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def random_images(*shape: int, seed: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(high, size=shape, dtype=np.uint8)


def write_pictures(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


# --- digits


def test_digits_are_scikit_learns_1797_images_of_17_levels(loaded: data.Dataset) -> None:
    assert loaded.spec == DataSpec(1, 8, 8, levels=17, classes=10)
    assert (len(loaded.train), len(loaded.test)) == (1437, 360)
    assert loaded.train.pixels.dtype == torch.uint8
    assert loaded.train.labels is not None
    assert loaded.train.labels.dtype == torch.int64
    assert (int(loaded.train.pixels.min()), int(loaded.train.pixels.max())) == (0, 16)


def test_digits_split_is_disjoint_complete_and_stratified(loaded: data.Dataset) -> None:
    assert loaded.train.labels is not None
    assert loaded.test.labels is not None
    labels = torch.cat([loaded.train.labels, loaded.test.labels]).tolist()
    train, test = digits.split_numbers(labels)
    assert sorted(train + test) == list(range(1797))
    held_out, total = loaded.test.labels.bincount(), torch.tensor(labels).bincount()
    assert (held_out - total / 5).abs().max() < 1


def test_digits_splits_share_no_image(loaded: data.Dataset) -> None:
    train = {image.numpy().tobytes() for image in loaded.train.pixels}
    assert not any(image.numpy().tobytes() in train for image in loaded.test.pixels)


def test_fingerprint_is_the_declared_one_and_notices_one_pixel_and_one_label(loaded: data.Dataset) -> None:
    train, test = loaded.train, loaded.test
    assert loaded.fingerprint == data.fingerprint(train, test) == data.describe({"name": "digits"})[1]
    assert data.sizes({"name": "digits"}) == (len(train), len(test))
    pixels = test.pixels.clone()
    pixels[7, 0, 3, 3] ^= 1
    assert data.fingerprint(train, data.Split(pixels, test.labels)) != loaded.fingerprint
    assert train.labels is not None
    assert data.fingerprint(data.Split(train.pixels, train.labels.roll(1)), test) != loaded.fingerprint
    assert data.fingerprint(data.Split(train.pixels), test) != loaded.fingerprint


def test_other_digits_than_the_declared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    true = digits.FINGERPRINT
    monkeypatch.setattr(digits, "FINGERPRINT", "0" * 64)
    assert message({"name": "digits"}) == (
        f"digits: scikit-learn's load_digits(): found pixels of SHA-256 {true}, allowed: {'0' * 64}"
    )


# --- fashion-mnist


@needs_fashion
def test_fashion_mnist_has_its_published_splits_and_the_declared_fingerprint() -> None:
    loaded = data.load({"name": "fashion-mnist"})
    assert loaded.spec == DataSpec(1, 28, 28, levels=256, classes=10)
    assert loaded.train.labels is not None
    assert loaded.test.labels is not None
    assert loaded.train.labels.bincount().tolist() == [6000] * 10
    assert loaded.test.labels.bincount().tolist() == [1000] * 10
    assert data.fingerprint(loaded.train, loaded.test) == data.describe({"name": "fashion-mnist"})[1]
    assert loaded.train.pixels.float().mean() / 255 == pytest.approx(0.2860, abs=1e-4)  # the figure in general use


def test_missing_fashion_mnist_says_where_it_was_looked_for_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("GENBENCH_DOWNLOAD", raising=False)
    elsewhere = replace(fashion_mnist.PUBLISHED, layouts=("FashionMNIST/raw",))
    monkeypatch.setattr(fashion_mnist, "PUBLISHED", elsewhere)
    expected = elsewhere.missing()
    assert expected.startswith(
        f"fashion-mnist: not found in any of {tmp_path}/fashion-mnist, {tmp_path}, {tmp_path}/FashionMNIST/raw: "
        "train-images-idx3-ubyte.gz (26.4 MB, MD5 8d4fb7e6c68d591d4c3dfef9ec88bf0d),"
    )
    assert message({"name": "fashion-mnist"}) == expected
    assert message({"name": "fashion-mnist", "download": False}) == expected
    with pytest.raises(DataError, match="allow a download"):
        data.describe({"name": "fashion-mnist"})


def test_a_download_is_tried_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "PUBLISHED", replace(fashion_mnist.PUBLISHED, layouts=()))
    assert data.describe({"name": "fashion-mnist", "download": True})[0] == fashion_mnist.SPEC
    monkeypatch.setenv("GENBENCH_DOWNLOAD", "1")
    assert data.describe({"name": "fashion-mnist"})[0] == fashion_mnist.SPEC


@pytest.mark.parametrize("place", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_a_changed_file_is_refused_by_name_and_hash(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name in fashion_mnist.FILES:
        (tmp_path / place / name).write_bytes(gzip.compress(b"other"))
    first = "train-images-idx3-ubyte.gz"
    assert message({"name": "fashion-mnist"}) == (
        f"{tmp_path / place / first}: found content of SHA-256 "
        "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, "
        f"allowed: {fashion_mnist.FILES[first]}"
    )


def test_idx_is_read_by_its_header(tmp_path: Path) -> None:
    values = random_images(5, 3, 2)
    content = bytes([0, 0, 8, 3]) + struct.pack(">3i", 5, 3, 2) + values.tobytes()
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content))
    read = read_idx(path, hashlib.sha256(content).hexdigest())
    assert np.array_equal(read.numpy(), values)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"x\.gz: cannot be read"):
        read_idx(path, "")


# --- npz and npy


@pytest.mark.parametrize("shape", [(30, 6, 5), (30, 6, 5, 1), (30, 1, 6, 5), (30, 6, 5, 3), (30, 3, 6, 5)])
def test_every_layout_of_an_array_becomes_channels_first(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = random_images(*shape)
    split = data.read_images(write_array(tmp_path / "x.npz", images=images))
    channels = 3 if 3 in shape else 1
    assert split.pixels.shape == (30, channels, 6, 5)
    expected = images.transpose(0, 3, 1, 2) if shape[-1] in (1, 3) else images.reshape(30, channels, 6, 5)
    assert np.array_equal(split.pixels.numpy(), expected)


def test_an_npz_dataset_holds_out_a_tenth_whatever_the_order_of_its_images(tmp_path: Path) -> None:
    images, labels = random_images(40, 4, 4, high=17), np.arange(40) % 4
    order = np.random.default_rng(1).permutation(40)
    write_array(tmp_path / "a.npz", images=images, labels=labels)
    write_array(tmp_path / "b.npz", images=images[order], labels=labels[order])
    a, b = (data.load({"name": "npz", "path": p, "levels": 17}, tmp_path) for p in ("a.npz", "b.npz"))
    assert a.spec == DataSpec(1, 4, 4, levels=17, classes=4)
    assert (len(a.train), len(a.test)) == (36, 4)
    held_out = [{image.numpy().tobytes() for image in dataset.test.pixels} for dataset in (a, b)]
    assert held_out[0] == held_out[1]
    assert held_out[0].isdisjoint({image.numpy().tobytes() for image in a.train.pixels})
    labelled = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert a.test.labels is not None
    assert [labelled[image.numpy().tobytes()] for image in a.test.pixels] == a.test.labels.tolist()
    assert data.describe({"name": "npz", "path": "a.npz", "levels": 17}, tmp_path) == (a.spec, a.fingerprint)


def test_black_and_white_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    images = random_images(40, 4, 4, high=2)
    write_array(tmp_path / "x.npz", images=images)
    first, second = (data.load({"name": "npz", "path": "x.npz", "levels": 2}, tmp_path) for _ in range(2))
    assert first.spec == DataSpec(1, 4, 4, levels=2)
    assert torch.equal(first.test.pixels, second.test.pixels)
    taken = [image.numpy().tobytes() for split in (first.train, first.test) for image in split.pixels]
    assert sorted(taken) == sorted(image.tobytes() for image in images)


def test_an_npy_is_read_and_arr_0_stands_for_images(tmp_path: Path) -> None:
    images = random_images(4, 2, 2)
    np.save(tmp_path / "x.npy", images)
    assert np.array_equal(data.read_images(tmp_path / "x.npy").pixels[:, 0], images)
    assert np.array_equal(data.read_images(write_array(tmp_path / "x.npz", arr_0=images)).pixels[:, 0], images)


BAD_ARRAYS = {
    "float": (
        {"images": np.zeros((4, 8, 8))},
        "images of float64 from 0 to 0; allowed: uint8 grey-level indices, e.g. numpy.rint(x * 255).astype('uint8')",
    ),
    "keys": ({"x": np.zeros(3)}, "holds x, allowed: images, samples or arr_0, and labels"),
    "flat": (
        {"images": np.zeros((4, 64), np.uint8)},
        "images of shape (4, 64), allowed: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3",
    ),
    "empty": (
        {"images": np.zeros((0, 8, 8), np.uint8)},
        "images of shape (0, 1, 8, 8), allowed: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3",
    ),
    "labels": (
        {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, np.int64)},
        "labels of int64 and shape (3,), lowest 0, allowed: integers from 0, shape (4,), names, or one-hot rows (4, K)",
    ),
    "value": ({"images": np.full((4, 8, 8), 17, np.uint8)}, "pixel value 17, allowed: grey-level indices 0 to 16"),
    "shape": (
        {"images": np.zeros((4, 9, 8), np.uint8)},
        "images of (channels, height, width) (1, 9, 8), allowed: (1, 8, 8)",
    ),
    "pickle": (
        {"images": np.array([None, 1])},
        "holds Python objects, allowed: uint8 grey-level indices",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    arrays, expected = BAD_ARRAYS[case]
    path = write_array(tmp_path / "theirs.npz", **arrays)
    with pytest.raises(DataError) as caught:
        data.read_images(path, digits.SPEC)
    assert str(caught.value) == f"{path}: {expected}"


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.npz", tmp_path / "x.pt"
    for path in (broken, other):
        path.write_bytes(b"PK\x03\x04 nothing")
    for path, expected in {
        tmp_path / "none.npz": "not found",
        broken: "not a readable array file: File is not a zip file",
        other: "found '.pt', allowed: a folder of images, .npz or .npy",
    }.items():
        with pytest.raises(DataError) as caught:
            data.read_images(path)
        assert str(caught.value) == f"{path}: {expected}"


# --- folder


def test_a_nested_folder_of_pictures_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    images = random_images(20, 6, 6)
    write_pictures(tmp_path / "all", images[:10])
    write_pictures(tmp_path / "all" / "more", images[10:])
    dataset = data.load({"name": "folder", "path": "all"}, tmp_path)
    assert dataset.spec == DataSpec(1, 6, 6)
    assert (len(dataset.train), len(dataset.test)) == (18, 2)
    assert np.array_equal(data.read_images(tmp_path / "all").pixels[:, 0], images)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpeg"])
def test_every_kind_of_picture_is_read(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 100, 50)).save(tmp_path / f"x.{suffix}", lossless=True, quality=100)
    pixels = data.read_images(tmp_path).pixels
    assert pixels.shape == (1, 3, 6, 8)
    assert (pixels.float().mean((0, 2, 3)) - torch.tensor([200.0, 100, 50])).abs().max() < 3


def test_size_resizes_and_keeps_the_middle_square(tmp_path: Path) -> None:
    wide = random_images(2, 10, 30)
    write_pictures(tmp_path / "x", wide)
    assert np.array_equal(Pictures(tmp_path / "x", Sizing(10)).load()[:, 0], wide[:, :, 10:20])
    write_pictures(tmp_path / "plain", np.full((2, 12, 20), 77, np.uint8))
    assert (Pictures(tmp_path / "plain", Sizing(5)).load() == torch.full((2, 1, 5, 5), 77)).all()


def test_pictures_saved_in_colour_stand_beside_a_grey_dataset(tmp_path: Path) -> None:
    images = random_images(3, 8, 8, high=17)
    write_pictures(tmp_path / "x", np.repeat(images[..., None], 3, axis=3))
    assert np.array_equal(data.read_images(tmp_path / "x", digits.SPEC).pixels[:, 0], images)
    write_pictures(tmp_path / "colour", random_images(3, 8, 8, 3, high=17))
    with pytest.raises(DataError, match=r"a picture in colour, allowed: grey"):
        data.read_images(tmp_path / "colour", digits.SPEC)


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    entry = {"name": "folder", "path": "empty"}
    assert message(entry, tmp_path) == (
        f"{tmp_path}/empty: no images in this folder; allowed: the formats that Pillow reads"
    )
    assert message({"name": "folder", "path": "no"}, tmp_path) == f"{tmp_path}/no: no such folder of images"
    mixed = write_pictures(tmp_path / "mixed", random_images(2, 4, 4))
    Image.new("L", (5, 4)).save(mixed / "z.png")
    assert message({"name": "folder", "path": "mixed"}, tmp_path) == (
        f"{mixed}/z.png: 4x5 pixels (height x width), but {mixed}/000.png has 4x4; all of a set must agree, or be "
        "resized: `size:` in a suite, `--size` of score"
    )
    (mixed / "000.png").write_bytes((mixed / "000.png").read_bytes()[:40])
    assert message({"name": "folder", "path": "mixed"}, tmp_path).startswith(f"{mixed}/000.png: not a readable image: ")
    one = write_pictures(tmp_path / "one", random_images(1, 4, 4))
    assert message({"name": "folder", "path": "one"}, tmp_path) == (
        f"{one}: 1 image, allowed: at least 2, one to train on and one to hold out"
    )


# --- names and keys


def test_unknown_names_and_keys_are_refused_with_the_nearest() -> None:
    every = (
        "digits, fashion-mnist, cifar10, mnist, cifar100, svhn, stl10, celeba, imagenet, edges, folder, domains, hf, "
        "npz"
    )
    assert data.names() == tuple(every.split(", "))
    assert (
        message({"name": "digit"})
        == f"unknown dataset 'digit'; did you mean 'digits'? allowed: {every}, or file.py:Object"
    )
    assert message({"name": "zzz"}) == f"unknown dataset 'zzz'; allowed: {every}, or file.py:Object"
    assert message({"name": "npz", "path": "x", "levls": 17}) == (
        "dataset.levls: unknown key; did you mean 'levels'? allowed: name, path, levels"
    )
    assert message({"name": "npz"}) == "dataset.path: missing key, allowed: a path"
