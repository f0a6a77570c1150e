"""The option --shape of commands that build a model without a dataset."""

from __future__ import annotations

import re

from genbench.contract import DataSpec
from genbench.errors import GenbenchError

CLASSES = 10


def read_shape(shape: str, levels: int) -> DataSpec:
    """`3x32x32` as a DataSpec with ten classes. Raises GenbenchError for other text."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){2}", shape):
        raise GenbenchError(f"--shape: found '{shape}', allowed: channels x height x width, e.g. 1x8x8")
    channels, height, width = map(int, shape.split("x"))
    return DataSpec(channels, height, width, levels, CLASSES)
