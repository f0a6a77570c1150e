"""Published archives as torchvision reads them: the same small files, opened by its classes and by genbench."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest
import torchvision.datasets as theirs
from test_data_published import load, place, place_imagenet
from torchvision.datasets import imagenet as their_imagenet

from genbench.data import Dataset

ANNOTATIONS = ("bbox_celeba", "landmarks_align_celeba", "attr_celeba")  # not read by genbench


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("GENBENCH_DOWNLOAD", raising=False)
    for kind in (theirs.SVHN, theirs.STL10, theirs.CelebA):  # the small files have other hashes
        monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(their_imagenet, "_verify_archive", lambda root, file, md5: None)
    return tmp_path


def same(ours: Dataset, theirs_by_split: dict[str, list[tuple]]) -> None:
    """Pixels (H, W[, C]) and labels, image by image in the same order."""
    for split, pairs in theirs_by_split.items():
        images, labels = zip(*pairs, strict=True)
        part = getattr(ours, split)
        pixels = np.stack([np.asarray(image).reshape(*np.shape(image)[:2], -1) for image in images])
        assert np.array_equal(part.pixels.numpy(), pixels.transpose(0, 3, 1, 2))
        assert labels[0] is None or part.labels.tolist() == list(map(int, labels))


def test_mnist(home, monkeypatch):
    folder = place("mnist", home, monkeypatch, "MNIST/raw")
    for file in folder.glob("*.gz"):  # torchvision's download unpacks beside the archives
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    same(load("mnist"), {split: list(theirs.MNIST(home, train=split == "train")) for split in ("train", "test")})


def test_svhn(home, monkeypatch):
    folder = place("svhn", home, monkeypatch)
    same(load("svhn"), {split: list(theirs.SVHN(folder, split)) for split in ("train", "test")})


def test_stl10(home, monkeypatch):
    folder = place("stl10", home, monkeypatch)
    shutil.unpack_archive(folder / "stl10_binary.tar.gz", folder)
    same(load("stl10"), {split: list(theirs.STL10(folder, split)) for split in ("train", "test")})


def test_celeba(home, monkeypatch):
    folder = place("celeba", home, monkeypatch)
    shutil.unpack_archive(folder / "img_align_celeba.zip", folder)
    names = [line.split()[0] for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    for file, numbers in (("identity_CelebA", "1"), *((f"list_{kind}", "1 1") for kind in ANNOTATIONS)):
        head = "" if file.startswith("identity") else f"{len(names)}\na b\n"
        (folder / f"{file}.txt").write_text(head + "".join(f"{name} {numbers}\n" for name in names))
    images = {s: [(image, None) for image, _ in theirs.CelebA(home, s)] for s in ("train", "test")}
    same(load("celeba", size=[218, 178]), images)


def test_imagenet(home, monkeypatch):
    place_imagenet(home, monkeypatch)
    ours = load("imagenet", path=str(home), size=20, fit="stretch")
    for split, part in (("train", ours.train), ("val", ours.test)):
        pairs = list(theirs.ImageNet(home, split))
        assert sorted(part.labels.tolist()) == sorted(label for _, label in pairs)
        reds = {label: {round(np.asarray(x)[..., 0].mean()) for x, own in pairs if own == label} for label in (0, 1)}
        for image, label in zip(part.pixels, part.labels.tolist(), strict=True):
            assert round(float(image[0].float().mean())) in reds[label]
