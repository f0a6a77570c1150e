"""CIFAR-10: the archive read record by record after its hash, and the one line for each way it can be missing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_cifar10 import BATCHES, records, write_archive, write_cifar10

from genbench import data
from genbench.data import cifar10
from genbench.errors import DataError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("GENBENCH_DOWNLOAD", raising=False)
    return tmp_path


def message(**entry: Any) -> str:
    with pytest.raises(DataError) as caught:
        data.load({"name": "cifar10", **entry})
    return str(caught.value)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_pixel_is_where_the_format_says(home):
    pixels = torch.arange(2 * 3072).remainder(251).to(torch.uint8).reshape(2, 3, 32, 32).numpy()
    content = records(np.array([3, 9]), pixels)
    assert len(content) == 2 * 3073
    assert (content[0], content[3073]) == (3, 9)
    assert content[1 + 1024 * 2 + 32 * 5 + 7] == pixels[0, 2, 5, 7]  # blue, row 5, column 7
    path = write_archive(home / "x.tar.gz", {"data_batch_1.bin": content, "test_batch.bin": content[3073:]})
    found = data.load({"name": "cifar10", "path": str(path)})
    assert np.array_equal(found.train.pixels.numpy(), pixels)
    assert found.train.labels.tolist() == [3, 9]
    assert np.array_equal(found.test.pixels.numpy(), pixels[1:])
    assert found.spec.shape == found.train.pixels.shape[1:] == (3, 32, 32)


def test_batches_follow_their_names_not_their_place_in_the_archive(home):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(256, size=(1, 3, 32, 32), dtype=np.uint8) for name in BATCHES}
    files = {f"{name}.bin": records(np.array([i]), images[name]) for i, name in enumerate(BATCHES)}
    found = data.load({"name": "cifar10", "path": str(write_archive(home / "x.tar.gz", dict(reversed(files.items()))))})
    assert found.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.test.labels.tolist() == [5]
    assert np.array_equal(found.train.pixels[2].numpy(), images["data_batch_3"][0])


@pytest.mark.parametrize("folder", ["", "cifar10"])
def test_the_published_archive_is_found_and_checked(home, folder, monkeypatch):
    path = write_cifar10(home / folder / cifar10.NAME)
    true = cifar10.SHA256
    assert message() == (f"{path}: found a file of SHA-256 {sha256(path)}, allowed: {true} (from {cifar10.URL})")
    small = replace(cifar10.PUBLISHED.files[0], sha256=sha256(path))
    monkeypatch.setattr(cifar10, "PUBLISHED", replace(cifar10.PUBLISHED, files=(small,)))
    found = data.load({"name": "cifar10"})
    assert (len(found.train), len(found.test)) == (100, 20)
    assert data.describe({"name": "cifar10"}) == (found.spec, found.fingerprint)
    assert len(set(found.captions)) == found.spec.classes == 10


def test_one_named_by_path_is_known_by_its_hash(home):
    path = write_cifar10(home / "part.tar.gz")
    entry = {"name": "cifar10", "path": "part.tar.gz"}
    assert data.load(entry, home).fingerprint == data.describe(entry, home)[1] == sha256(path)
    assert data.describe(entry, home)[1] != cifar10.SHA256
    assert data.sizes(entry, home) == (len(data.load(entry, home).train), len(data.load(entry, home).test))


def test_without_it_one_line_says_which_file_its_hash_where_it_goes_and_the_command(home):
    expected = (
        f"cifar10: not found in any of {home}/cifar10, {home}: cifar-10-binary.tar.gz (170 MB, SHA-256 "
        f"{cifar10.SHA256}); fetch with `curl -L --create-dirs -o {home}/cifar10/cifar-10-binary.tar.gz "
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz`, set GENBENCH_DATA to their folder, or allow a "
        "download with `download: true` or GENBENCH_DOWNLOAD=1"
    )
    assert message() == message(download=False) == expected
    with pytest.raises(DataError, match="allow a download"):
        data.describe({"name": "cifar10"})


def test_a_download_is_tried_only_when_allowed_and_checked_again(home, monkeypatch):
    asked = []

    def fetch(url: str, root: str, filename: str, md5: str | None) -> None:
        asked.append((url, md5))
        write_cifar10(Path(root) / filename)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    assert data.describe({"name": "cifar10", "download": True}) == (cifar10.SPEC, cifar10.SHA256)
    assert not asked
    assert message(download=True).startswith(f"{home}/cifar10/cifar-10-binary.tar.gz: found a file of SHA-256")
    assert asked == [(cifar10.URL, None)]


def test_a_failed_download_is_one_line(home, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    monkeypatch.setenv("GENBENCH_DOWNLOAD", "1")
    assert message() == f"cifar10: download of {cifar10.URL} to {home}/cifar10 failed: no network"


def test_what_is_not_in_its_form_is_refused_in_one_line(home):
    good = records(np.zeros(2, np.uint8), np.zeros((2, 3, 32, 32), np.uint8))
    path = write_archive(home / "x.tar.gz", {"data_batch_1.bin": good[:-1], "test_batch.bin": good})
    assert message(path=str(path)) == (
        f"{path}: data_batch_*.bin: found batches of 6,145 bytes, allowed: one or more records of 3,073 bytes"
    )
    write_archive(path, {"data_batch_1.bin": good})
    assert message(path=str(path)) == f"{path}: test_batch.bin: not in the archive"
    write_archive(path, {"data_batch_1.bin": b"\x0a" + good[1:], "test_batch.bin": good})
    assert message(path=str(path)) == f"{path}: data_batch_*.bin: found class 10, allowed: 0..9"
    path.write_bytes(path.read_bytes()[:-30])
    assert message(path=str(path)).startswith(f"{path}: not a readable tar archive: ")
    assert message(path=str(home / "no.tar.gz")) == f"{home}/no.tar.gz: cannot be read: No such file or directory"
