"""`cifar10`: 60,000 colour photographs of ten things, 32x32, 256 levels (Krizhevsky 2009, "Learning Multiple Layers").

The archive is the binary one, cifar-10-binary.tar.gz: records of one byte of class and 3,072 bytes of image, in order
red, green, blue, row by row. The Python archive holds the same images as pickles; genbench unpickles nothing that came
from outside, so the archive without pickles is the one it reads, from memory, after its hash. The split is the
source's: 50,000 train, 10,000 test.

It is looked for in $GENBENCH_DATA, else in the user's cache folder, and downloaded (through torchvision) only when the
user asks for it. A file found there must be the published one. `path` names another archive of the same form, such as
a part of it to try a suite out: it is taken whatever its hash, and its hash is the dataset's fingerprint.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split, download_allowed, download_folder
from genbench.data.captions import CAPTIONS
from genbench.errors import DataError

SPEC = DataSpec(channels=3, height=32, width=32, levels=256, classes=10)
NAME = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{NAME}"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # torchvision's downloader knows no other kind of hash
RECORD = 1 + SPEC.dims
TRAIN, TEST = "data_batch_", "test_batch"


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError for an archive that is missing, another one, or broken."""
    if entry.get("path"):
        content = read(place)
        expected = hashlib.sha256(content).hexdigest()
    else:
        archive = find(entry) or download()
        content, expected = read(archive), SHA256
        check_hash(archive, hashlib.sha256(content).hexdigest())
    train, test = splits(content, place if entry.get("path") else NAME)
    return Dataset("cifar10", SPEC, train, test, expected, CAPTIONS["cifar10"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint: of the published archive as declared (`load` verifies it), of one named by path its own.

    Raises DataError when the archive is not there and may not be downloaded.
    """
    if entry.get("path"):
        return SPEC, archive_hash(place)
    find(entry)
    return SPEC, SHA256


def find(entry: dict[str, Any]) -> Path | None:
    """The archive; None when there is none and a download is allowed, else DataError says how to get it."""
    for place in places():
        if (place / NAME).is_file():
            return place / NAME
    if download_allowed(bool(entry.get("download"))):
        return None
    home = places()[0]
    raise DataError(
        f"cifar10: {NAME} (SHA-256 {SHA256}) not found in any of {', '.join(map(str, places()))}; fetch it with `curl "
        f"--create-dirs -o {home / NAME} {URL}`, set GENBENCH_DATA to its folder, or allow a download with "
        "`download: true` or GENBENCH_DOWNLOAD=1"
    )


def places() -> list[Path]:
    """Folders to look in, in order; a download goes to the first."""
    return [download_folder() / "cifar10", download_folder()]


def download() -> Path:
    """Fetches the archive through torchvision; returns its path."""
    from torchvision.datasets.utils import download_url  # 4 s to import: only for a download

    home = places()[0]
    try:
        download_url(URL, str(home), NAME, MD5)
    except (OSError, RuntimeError) as error:
        raise DataError(f"cifar10: download of {URL} to {home} failed: {error}") from error
    return home / NAME


def read(path: Path) -> bytes:
    """The archive's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def check_hash(path: Path, found: str) -> None:
    """Refuses an archive under the published name that is not the published one."""
    if found != SHA256:
        raise DataError(
            f"{path}: found an archive of SHA-256 {found}, allowed: {SHA256} (from {URL}); "
            "another one must be named by `path`"
        )


def archive_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, computed once a process while the file stays as it is."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _file_hash(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _file_hash(path: Path, _modified: int, _size: int) -> str:
    return hashlib.sha256(read(path)).hexdigest()


def splits(content: bytes, name: Path | str) -> tuple[Split, Split]:
    """Train and test split of an archive: the batches of each in the order of their names."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
            files = {Path(m.name).name: archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
            batches = {n: f.read() for n, f in sorted(files.items()) if f is not None and n.endswith(".bin")}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: not a readable tar archive: {error}") from error
    train, test = ([b for n, b in batches.items() if n.startswith(start)] for start in (TRAIN, TEST))
    return _split(train, f"{name}: {TRAIN}*.bin"), _split(test, f"{name}: {TEST}.bin")


def _split(batches: list[bytes], where: str) -> Split:
    if not batches:
        raise DataError(f"{where}: not in the archive")
    if not any(batches) or any(len(batch) % RECORD for batch in batches):
        sizes = ", ".join(f"{len(batch):,}" for batch in batches)
        raise DataError(f"{where}: found batches of {sizes} bytes, allowed: one or more records of {RECORD:,} bytes")
    records = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= SPEC.classes:
        raise DataError(f"{where}: found class {records[:, 0].max()}, allowed: 0..{SPEC.classes - 1}")
    pixels = records[:, 1:].reshape(-1, *SPEC.shape)
    return Split(torch.from_numpy(pixels.copy()), torch.from_numpy(records[:, 0].astype(np.int64)))
