"""Work on consecutive parts of rows, at the same time in as many threads as torch uses.

NumPy uses one thread for anything but products, and other threads of Python can run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHED = 2**16  # float64 values that stay in a core's cache
Work = Callable[[slice], object]


def steps(n: int, step: int) -> Iterator[slice]:
    """Consecutive parts of 0..n, each of max(1, step) rows; the last one may be shorter."""
    return (slice(start, min(start + max(1, step), n)) for start in range(0, n, max(1, step)))


def in_threads(n: int, work: Work, step: int | None = None) -> None:
    """Calls work with consecutive parts of 0..n: of this size, or one for each thread. Raises what work raises."""
    import torch  # late: reading a suite names metrics and must be fast

    threads = torch.get_num_threads()
    parts = list(steps(n, -(-n // threads) if step is None else step))
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):
            pass


def less(rows: NDArray[Any], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, D) minus mean (D,), float64."""
    result = np.empty(rows.shape)
    in_threads(len(rows), lambda part: np.subtract(rows[part], mean, out=result[part]), CACHED // len(mean))
    return result
