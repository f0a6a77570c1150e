"""Coverage-guided fuzzing (atheris, libFuzzer) of the readers of suites and of records.

    pip install -e ".[fuzz]"
    python tests/faults/guided.py records 1800

Inputs are changed so that they reach code that no input before has reached, for so many seconds. Each must be read or
refused with one sentence (a GenbenchError). The first that is not is written to crash-..., and the exit code is 77.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["genbench", "yaml", "json"]):
    from faults.fuzz import records, suites
    from genbench.errors import GenbenchError

KINDS = {"suites": suites, "records": records}


def main(kind: str, seconds: str) -> None:
    """Fuzzes one reader; libFuzzer ends the process."""
    originals, read = KINDS[kind]()
    folder = Path(tempfile.mkdtemp())
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, (_, content) in enumerate(originals):
        (seeds / str(number)).write_bytes(content)
    path = folder / originals[0][0]

    def once(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except GenbenchError as error:
            if len(str(error).splitlines()) != 1:
                raise

    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(seeds)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
