"""Seeds of the random streams of a cell, so that no two purposes ever share their numbers."""

from __future__ import annotations

from typing import Any

from genbench.records import digest


def stream_seed(seed: int, *names: Any) -> int:
    """A 60-bit seed for one purpose, derived from the cell's seed and the purpose's names."""
    return int(digest([seed, *names])[:15], 16)
