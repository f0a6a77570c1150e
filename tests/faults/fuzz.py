"""Mutated inputs by the thousand: each must be read, or refused with one sentence (a GenbenchError); nothing else.

    python tests/faults/fuzz.py suites 2000
    python tests/faults/fuzz.py records 500
    python tests/faults/fuzz.py arrays 500

Prints tried, read, refused and failed, and the first failures; exits with 1 when anything failed.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from genbench.data.files import read_images
from genbench.errors import GenbenchError
from genbench.records import Record, read_records, write_records
from genbench.suite.schema import read_suite

ROOT = Path(__file__).parents[2]
TOKENS = [b"\xff", b"\x00", b"\x1b[2J", b"null", b"-1", b"1e999", b"&a", b"*a", b"<<: *a", b"[", b"]", b"{", b"}", b'"',
          b"\n", b"  ", b"!!python/object:os.system", b"999999999999999999999", b"\xe2\x80\xae", b": "]  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one to four pieces changed, removed, doubled or replaced by a token."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(content) + 1), rng.choice([1, 1, 2, 8, 40])
        piece = content[at : at + length]
        new = rng.choice([b"", piece * 2, rng.choice(TOKENS), bytes(b ^ 1 << rng.randrange(8) for b in piece)])
        content = content[:at] + new + content[at + length :]
    return content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content


def suites() -> tuple[list[tuple[str, bytes]], Callable[[Path], object]]:
    """The repository's suites, and their reader."""
    return [("x.yaml", path.read_bytes()) for path in sorted((ROOT / "suites").glob("*.yaml"))], read_suite


def records() -> tuple[list[tuple[str, bytes]], Callable[[Path], object]]:
    """A file of three records, and its reader."""
    made = [
        Record("s", 1, f"m/d/s{i}", "m", "d", i, "fid", 1, value=1.0, protocol={"data": {"n": 1}}) for i in range(3)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write_records(path, made)
        assert [asdict(r) for r in read_records(path)] == [asdict(r) for r in made]
        return [("records.jsonl", path.read_bytes())], read_records


def arrays() -> tuple[list[tuple[str, bytes]], Callable[[Path], object]]:
    """Arrays and a picture, and the reader of images made elsewhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    npy, npz, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, pixels)
    np.savez(npz, images=pixels, labels=np.arange(5))
    Image.fromarray(pixels[0]).save(png, format="PNG")
    kinds = [("x.npy", npy), ("x.npz", npz), ("pictures/x.png", png)]
    return [(name, file.getvalue()) for name, file in kinds], _read_images


def _read_images(path: Path) -> object:
    return read_images(path.parent if path.suffix == ".png" else path)


def fuzz(kind: str, count: int, seed: int = 0) -> Counter[str]:
    """How many of `count` mutated files were read, refused, and failed with another exception."""
    originals, read = {"suites": suites, "records": records, "arrays": arrays}[kind]()
    rng, ends = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            name, content = rng.choice(originals)
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(mutated(content, rng))
            try:
                read(path)
                ends["read"] += 1
            except GenbenchError as error:
                ends["refused" if len(str(error).splitlines()) == 1 else f"failed: lines in {error!r}"] += 1
            except Exception as error:
                ends[f"failed: {type(error).__name__}: {str(error)[:90]} (number {number})"] += 1
    return ends


def main(kind: str, count: str) -> int:
    """Prints the counts of one kind of input."""
    ends = fuzz(kind, int(count))
    failures = {text: n for text, n in ends.items() if text.startswith("failed")}
    print(f"{kind}: {count} tried, {ends['read']} read, {ends['refused']} refused, {sum(failures.values())} failed")
    print(*list(failures)[:20], sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
