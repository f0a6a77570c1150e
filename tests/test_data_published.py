"""mnist, cifar100, svhn, stl10, celeba and imagenet from small files in their published formats; what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from genbench import data
from genbench.contract import DataSpec
from genbench.data import celeba, cifar100, imagenet, mnist, stl10, svhn
from genbench.errors import DataError

MODULES = {"mnist": mnist, "cifar100": cifar100, "svhn": svhn, "stl10": stl10, "celeba": celeba}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("GENBENCH_DOWNLOAD", raising=False)
    return tmp_path


def random(*shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(high, size=shape, dtype=np.uint8)


def idx(values: np.ndarray) -> bytes:
    return gzip.compress(
        bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()
    )


def tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def mat(x: np.ndarray, y: np.ndarray) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"X": x.transpose(2, 3, 1, 0), "y": y[:, None]})
    return stream.getvalue()


def cifar100_records(x: np.ndarray, fine: np.ndarray) -> bytes:
    rows = np.concatenate([(fine[:, None] // 5), fine[:, None], x.reshape(len(x), -1)], axis=1)
    return rows.astype(np.uint8).tobytes()


def jpeg(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (178, 218), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def faces() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for i in range(6):
            archive.writestr(f"img_align_celeba/{i + 1:06}.jpg", jpeg(10 * i))
    return stream.getvalue()


X, Y = {n: random(n, 3, 32, 32) for n in (6, 4)}, {6: np.array([1, 2, 3, 10, 9, 1]), 4: np.array([10, 5, 4, 1])}
BIG = {n: random(n, 3, 96, 96) for n in (6, 4)}
GREY = {n: random(n, 28, 28) for n in (6, 4)}
PARTITION = "".join(f"{i + 1:06}.jpg {part}\n" for i, part in enumerate((0, 0, 0, 1, 2, 2)))
FILES: dict[str, dict[str, bytes]] = {
    "mnist": {
        "train-images-idx3-ubyte.gz": idx(GREY[6]), "train-labels-idx1-ubyte.gz": idx((Y[6] % 10).astype(np.uint8)),
        "t10k-images-idx3-ubyte.gz": idx(GREY[4]), "t10k-labels-idx1-ubyte.gz": idx((Y[4] % 10).astype(np.uint8)),
    },
    "cifar100": {
        cifar100.NAME: tar({
            "x/train.bin": cifar100_records(X[6], Y[6] * 9), "x/test.bin": cifar100_records(X[4], Y[4]),
        }),
    },
    "svhn": {"train_32x32.mat": mat(X[6], Y[6]), "test_32x32.mat": mat(X[4], Y[4])},
    "stl10": {
        stl10.NAME: tar({
            "stl10_binary/train_X.bin": BIG[6].transpose(0, 1, 3, 2).tobytes(),
            "stl10_binary/train_y.bin": Y[6].astype(np.uint8).tobytes(), "stl10_binary/unlabeled_X.bin": bytes(9),
            "stl10_binary/test_X.bin": BIG[4].transpose(0, 1, 3, 2).tobytes(),
            "stl10_binary/test_y.bin": Y[4].astype(np.uint8).tobytes(),
        }),
    },
    "celeba": {celeba.IMAGES: faces(), celeba.PARTITION: PARTITION.encode()},
}  # fmt: skip


def place(name: str, home: Path, monkeypatch: pytest.MonkeyPatch, layout: str = "") -> Path:
    """Writes the small files and makes them the published ones."""
    module, folder = MODULES[name], home / (layout or name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in FILES[name].items():
        (folder / file).write_bytes(content)
    published = module.PUBLISHED
    assert [file.name for file in published.files] == list(FILES[name])
    small = tuple(replace(f, md5=hashlib.md5(FILES[name][f.name]).hexdigest()) for f in published.files)
    monkeypatch.setattr(module, "PUBLISHED", replace(published, files=small))
    return folder


def load(name: str, **options: Any) -> data.Dataset:
    found = data.load({"name": name, **options})
    assert data.describe({"name": name, **options}) == (found.spec, found.fingerprint)
    return found


IMAGES = {
    "mnist": (GREY[6][:, None], GREY[4][:, None]), "cifar100": (X[6], X[4]), "svhn": (X[6], X[4]),
    "stl10": (BIG[6], BIG[4]),
}  # fmt: skip
LABELS = {
    "mnist": (Y[6] % 10, Y[4] % 10), "cifar100": (Y[6] * 9, Y[4]), "svhn": (Y[6] % 10, Y[4] % 10),
    "stl10": (Y[6] - 1, Y[4] - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_every_pixel_and_label_is_where_the_format_says(name, home, monkeypatch):
    place(name, home, monkeypatch)
    found = load(name)
    assert found.spec == DataSpec(*IMAGES[name][0].shape[1:], classes=100 if name == "cifar100" else 10)
    for split, images, labels in zip((found.train, found.test), IMAGES[name], LABELS[name], strict=True):
        assert np.array_equal(split.pixels.numpy(), images)
        assert split.labels.tolist() == labels.tolist()
    assert len(set(found.captions)) == found.spec.classes


def test_sizes_are_those_of_the_published_files():
    counts = {
        "mnist": (60_000, 10_000), "cifar100": (50_000, 10_000), "svhn": (73_257, 26_032), "stl10": (5_000, 8_000),
        "fashion-mnist": (60_000, 10_000), "cifar10": (50_000, 10_000),
    }  # fmt: skip
    assert {name: data.sizes({"name": name}) for name in counts} == counts


def test_celeba_has_the_partition_of_its_file_and_any_size(home, monkeypatch):
    place("celeba", home, monkeypatch)
    found = load("celeba", size=[20, 16])
    assert found.spec == DataSpec(3, 20, 16)
    assert found.train.pixels[:, 0, 5, 5].tolist() == [0, 10, 20]
    assert found.test.pixels[:, 0, 5, 5].tolist() == [40, 50]
    assert load("celeba").spec == DataSpec(3, 64, 64)


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_dataset_is_one_line_with_files_sizes_hashes_place_and_command(name, home):
    with pytest.raises(DataError) as caught:
        data.load({"name": name})
    text = str(caught.value)
    assert text.startswith(f"{name}: not found in any of {home}/{name}, {home}")
    for file in MODULES[name].PUBLISHED.files:
        assert f"{file.name} (" in text
        assert f"MD5 {file.md5}" in text
        assert name == "celeba" or f"curl -L --create-dirs -o {home}/{name}/{file.name} {file.url}" in text
    assert "\n" not in text
    looked = text.partition("not found in any of ")[2].partition(": ")[0].split(", ")
    assert len(looked) == len(set(looked)) >= 2


@pytest.mark.parametrize("name", MODULES)
def test_a_damaged_file_is_refused_by_its_hash(name, home, monkeypatch):
    folder = place(name, home, monkeypatch)
    last = list(FILES[name])[-1]
    (folder / last).write_bytes(FILES[name][last] + b"x")
    with pytest.raises(DataError, match=f"{last}: found a file of MD5 [0-9a-f]*, allowed: "):
        data.load({"name": name})


def test_torchvisions_folder_is_searched_too(home, monkeypatch):
    place("mnist", home, monkeypatch, "MNIST/raw")
    assert len(load("mnist").train) == 6


def test_a_download_goes_to_the_first_place(home, monkeypatch):
    place("mnist", home, monkeypatch, "elsewhere")

    def fetch(url: str, root: str, name: str, md5: str | None) -> None:
        Path(root).mkdir(exist_ok=True)
        (Path(root) / name).write_bytes(FILES["mnist"][name])

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    assert len(load("mnist", download=True).train) == 6
    assert (home / "mnist" / "t10k-labels-idx1-ubyte.gz").is_file()


def test_contents_that_are_not_in_their_format_are_refused(home, monkeypatch):
    short, x_only = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9])), tar({"train_X.bin": bytes(9)})
    cases = {
        "mnist": ("t10k-images-idx3-ubyte.gz", short, "found 8 bytes for an array"),
        "cifar100": (cifar100.NAME, tar({"train.bin": bytes(5)}), "train.bin: found batches of 5 bytes"),
        "svhn": ("test_32x32.mat", mat(X[4], Y[4] + 1), "y: found classes 2 to 11, allowed: 1 to 10"),
        "stl10": (stl10.NAME, x_only, "train_y.bin, test_X.bin, test_y.bin: not in the archive"),
        "celeba": (celeba.PARTITION, b"000009.jpg 0\n", "1 images of list_eval_partition.txt are missing"),
    }  # fmt: skip
    for name, (file, content, message) in cases.items():
        monkeypatch.setitem(FILES, name, {**FILES[name], file: content})
        place(name, home, monkeypatch)
        with pytest.raises(DataError, match=message):
            data.load({"name": name})


def test_imagenets_folders_are_splits_of_classes_in_the_order_of_their_names(home):
    for split in ("train", "val"):
        for number, name in enumerate(("n02", "n01")):
            (home / "ILSVRC" / split / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (30 + i, 20), (100 * number, 0, 0)).save(home / "ILSVRC" / split / name / f"{i}.JPEG")
    found = load("imagenet", path=str(home / "ILSVRC"), size=8)
    assert found.spec == DataSpec(3, 8, 8, classes=2)
    for split in (found.train, found.test):
        assert split.labels.tolist() == [0, 0, 1, 1]
        assert (split.pixels[:2, 0] > split.pixels[2:, 0]).all()
    with pytest.raises(
        DataError, match=r"imagenet: .*: no folders train and val, and no ILSVRC2012_img_train.tar \(148"
    ):
        data.load({"name": "imagenet", "path": str(home)})


def photograph(value: int, side: int = 20) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side + value % 3, side), (value, 0, 0)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def plain_tar(files: dict[str, bytes]) -> bytes:
    return gzip.decompress(tar(files))


KIT = "ILSVRC2012_devkit_t12/data"


def place_imagenet(home: Path, monkeypatch: pytest.MonkeyPatch, truth: str = "1\n2\n1\n") -> None:
    """The three archives with two classes: an archive of archives, of images, and of what the images show."""
    classes = {"n02": 200, "n01": 100}  # ILSVRC2012_ID 1 and 2
    inner = {
        name: plain_tar({f"{name}_{i}.JPEG": photograph(red + i) for i in range(3)}) for name, red in classes.items()
    }
    table = np.array(
        [(1, "n02", "one", "a one", 0), (2, "n01", "two", "a two", 0), (3, "n00", "both", "one or two", 2)],
        dtype=[("ILSVRC2012_ID", int), ("WNID", object), ("words", object), ("gloss", object), ("num_children", int)],
    )
    stream = io.BytesIO()
    savemat(stream, {"synsets": table})
    images = {3: photograph(201), 1: photograph(202), 2: photograph(101)}  # not in the order of names
    contents = {
        imagenet.TRAIN: plain_tar({f"{name}.tar": content for name, content in inner.items()}),
        imagenet.VAL: plain_tar({f"ILSVRC2012_val_{i:08}.JPEG": image for i, image in images.items()}),
        imagenet.DEVKIT: tar({f"{KIT}/meta.mat": stream.getvalue(), f"{KIT}/{imagenet.TRUTH}": truth.encode()}),
    }
    for file, content in contents.items():
        (home / file.name).write_bytes(content)
    small = tuple(replace(file, md5=hashlib.md5(content).hexdigest()) for file, content in contents.items())
    monkeypatch.setattr(imagenet, "ARCHIVES", small)


def test_imagenets_archives_are_read_as_streams(home, monkeypatch):
    monkeypatch.setattr(imagenet, "AT_ONCE", 2)
    place_imagenet(home, monkeypatch)
    found = load("imagenet", path=str(home), size=8)
    assert found.spec == DataSpec(3, 8, 8, classes=2)
    assert found.train.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.test.labels.tolist() == [1, 0, 1]
    for split in (found.train, found.test):
        reds = split.pixels[:, 0].float().mean((1, 2))
        assert ((reds > 150) == (split.labels == 1)).all()
    assert {path.name for path in home.iterdir() if path.is_file()} == {file.name for file in imagenet.ARCHIVES}


def test_imagenets_archives_that_disagree_are_refused(home, monkeypatch):
    place_imagenet(home, monkeypatch, truth="1\n2\n")
    with pytest.raises(DataError, match=r"found 3 images in ILSVRC2012_img_val.tar, .* has classes of 2"):
        load("imagenet", path=str(home), size=8)
    place_imagenet(home, monkeypatch, truth="1\n3\n1\n")
    with pytest.raises(DataError, match=r"has images of n00, of which ILSVRC2012_img_train.tar has none"):
        load("imagenet", path=str(home), size=8)
    (home / imagenet.VAL.name).write_bytes(b"other")
    with pytest.raises(DataError, match=r"ILSVRC2012_img_val.tar: found a file of MD5 .*, allowed: "):
        load("imagenet", path=str(home), size=8)
