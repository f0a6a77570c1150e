"""A small archive in CIFAR-10's binary form, for tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from random_weights import blots

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def records(labels: np.ndarray, pixels: np.ndarray) -> bytes:
    """Labels (N,) and pixels (N, 3, 32, 32) as the archive has them: a byte of class, then the image."""
    rows = np.concatenate([labels[:, None], pixels.reshape(len(pixels), -1)], axis=1)
    return rows.astype(np.uint8).tobytes()


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """A gzipped tar of cifar-10-batches-bin/<name>."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_cifar10(path: Path, each: int = 20, seed: int = 0) -> Path:
    """Five batches to train on and one to test, each of `each` blots of all classes in turn."""
    pixels = blots(each * len(BATCHES), seed).numpy().reshape(len(BATCHES), each, 3, 32, 32)
    labels = np.arange(each) % 10
    files = {f"{name}.bin": records(labels, part) for name, part in zip(BATCHES, pixels, strict=True)}
    return write_archive(path, {"batches.meta.txt": b"airplane\n", **files, "readme.html": b"<html>"})
