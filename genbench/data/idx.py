"""Arrays of MNIST's format: gzipped, a magic number, the lengths of the axes, then bytes."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.errors import DataError

UINT8 = 8


def read_idx(path: Path, expected: str = "") -> Tensor:
    """The uint8 array of a gzipped IDX file; expected: the SHA-256 (hex) of its decompressed content, "" for any.

    Raises DataError for a file that cannot be read or has other content.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if expected and found != expected:
        raise DataError(f"{path}: found content of SHA-256 {found}, allowed: {expected}")
    axes = content[3]  # magic number: 0, 0, type (8 = uint8), number of axes; then each length as big-endian int32
    shape = np.frombuffer(content, ">i4", count=axes, offset=4).tolist()
    if content[2] != UINT8 or len(content) != 4 + 4 * axes + math.prod(shape):
        raise DataError(
            f"{path}: found {len(content):,} bytes for an array of {shape}, allowed: one byte for each value"
        )
    values = np.frombuffer(content, np.uint8, count=math.prod(shape), offset=4 + 4 * axes)
    return torch.from_numpy(values.reshape(shape).copy())
