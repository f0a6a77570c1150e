"""Archives of CIFAR's binary form: records of label bytes and 3,072 bytes of image (red, green, blue; row by row)."""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genbench.contract import DataSpec
from genbench.data.base import Split
from genbench.errors import DataError


@dataclass(frozen=True)
class Records:
    """train, test: how the names of the batches of each split begin. label_bytes: of a record; the last is used."""

    spec: DataSpec
    train: str
    test: str
    label_bytes: int = 1

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.label_bytes + self.spec.dims


def read_archive(content: bytes, name: Path | str, records: Records) -> tuple[Split, Split]:
    """Train and test split of an archive: the batches of each in the order of their names."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
            files = {Path(m.name).name: archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
            batches = {n: f.read() for n, f in sorted(files.items()) if f is not None and n.endswith(".bin")}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: not a readable tar archive: {error}") from error
    train, test = ([b for n, b in batches.items() if n.startswith(start)] for start in (records.train, records.test))
    first, second = f"{name}: {records.train}*.bin", f"{name}: {records.test}.bin"
    return _split(train, first.replace(".*", ""), records), _split(test, second.replace("..", "."), records)


def counts(path: Path, records: Records) -> tuple[int, int]:
    """How many images an archive has of each split. Raises DataError for one that cannot be read."""
    try:
        with tarfile.open(path, mode="r:*") as archive:
            batches = [(Path(m.name).name, m.size) for m in archive if m.isfile() and m.name.endswith(".bin")]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable tar archive: {error}") from error
    train, test = (sum(s for name, s in batches if name.startswith(start)) for start in (records.train, records.test))
    return train // records.size, test // records.size


def _split(batches: list[bytes], where: str, records: Records) -> Split:
    if not batches:
        raise DataError(f"{where}: not in the archive")
    if not any(batches) or any(len(batch) % records.size for batch in batches):
        sizes = ", ".join(f"{len(batch):,}" for batch in batches)
        raise DataError(
            f"{where}: found batches of {sizes} bytes, allowed: one or more records of {records.size:,} bytes"
        )
    rows = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, records.size)
    labels = rows[:, records.label_bytes - 1]
    if labels.max() >= records.spec.classes:
        raise DataError(f"{where}: found class {labels.max()}, allowed: 0..{records.spec.classes - 1}")
    pixels = rows[:, records.label_bytes :].reshape(-1, *records.spec.shape)
    return Split(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))
