"""FID of 10^7 synthetic features that are made, measured and forgotten block by block: time and memory by their number.

    python benchmarks/streamed_fid.py [ROWS [FEATURES]]

Prints the resident memory of the process after 1 %, 10 % and 100 % of the rows. Features are normal with mean 0.1 and
standard deviation 1.1, the reference's are standard normal: the distance is D (0.1^2 + 0.1^2).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil

from genbench.metrics.frechet import Moments, distance
from genbench.metrics.streamed import streamed_moments

BLOCK = 10_000


def blocks(rows: int, features: int) -> Iterator[np.ndarray]:
    rng, process, start = np.random.default_rng(0), psutil.Process(), time.process_time()
    shown = {max(1, rows // BLOCK // part) for part in (100, 10, 1)}
    for number in range(1, rows // BLOCK + 1):
        yield rng.normal(0.1, 1.1, (BLOCK, features)).astype(np.float32)
        if number in shown:
            memory, seconds = process.memory_info().rss / 2**20, time.process_time() - start
            print(f"{number * BLOCK:>12,} rows: {memory:6.0f} MiB resident, {seconds:7.1f} CPU seconds", flush=True)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10**7
    features = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    fake = streamed_moments(blocks(rows, features))
    real = Moments(np.zeros(features), np.eye(features))
    print(f"FID {distance(fake, real):.6f}, expected {features * 0.02:.6f}")


if __name__ == "__main__":
    main()
