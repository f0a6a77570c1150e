"""Does `genbench speed --base` keep its word? False alarms where nothing changed, and slowdowns that it catches.

    python tools/speed_proof.py simulate                              thousands of comparisons under made-up noise
    python tools/speed_proof.py real --comparisons 200                two processes of the same code, A against A
    python tools/speed_proof.py real --comparisons 100 --planted 5    B's sampler waits for 5 % of its time

The wait is a loop that looks at the clock: a sleep of 0.1 ms is too long by as much again. A real comparison is the
one that the command makes for a suite of one model: defaults, fresh processes, rounds until the question is answered.
Each prints a line as it ends.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genbench.speed.commands import TOLERANCE_PAIRED
from genbench.speed.judge import UNCLEAR, Ratio, sequential
from genbench.speed.outcome import Outcome
from genbench.speed.paired import ROUNDS_A_PAIR, Options, compare_one
from genbench.speed.subjects import Subject

MODEL = '''"""A zoo model whose sampler takes a share more of its time, waiting."""

import time

from zoo.{module} import {kind}


class Planted({kind}):
    def sample(self, n, gen, condition=None):
        start = time.perf_counter()
        x = super().sample(n, gen, condition)
        end = start + (1 + {share}) * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return x
'''
SPEC = {"channels": 1, "height": 8, "width": 8, "levels": 17, "classes": 10}
Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal, 2 %": lambda rng, n: rng.normal(0, 0.02, n),
    "normal, 5 %": lambda rng, n: rng.normal(0, 0.05, n),
    "heavy tails (t, 2 degrees), 1 %": lambda rng, n: 0.01 * rng.standard_t(2, n),
    "every tenth round doubled or halved": lambda rng, n: (
        rng.normal(0, 0.01, n) + math.log(2) * rng.choice((-1, 1), n) * (rng.random(n) < 0.1)
    ),
    "normal, 2 %, and 1 % in all rounds of a pair of processes": lambda rng, n: (
        rng.normal(0, 0.02, n) + rng.normal(0, 0.01, n).repeat(ROUNDS_A_PAIR)[:n]
    ),
}


def simulate(comparisons: int, seed: int) -> None:
    """Prints, for each kind of noise: false alarms, gates closed, a 5 % slowdown caught, rounds."""
    print("| noise of a round | false alarms | of them gate closed | 5 % slower: caught | rounds: A/A, 5 % slower |")
    print("|---|---|---|---|---|")
    for name, noise in NOISES.items():
        rng = np.random.default_rng(seed)
        alike = [compared(noise, rng, 0.0) for _ in range(comparisons)]
        slower = [compared(noise, rng, math.log(1.05)) for _ in range(comparisons)]
        alarms = np.mean([r.verdict != UNCLEAR for r in alike])
        closed, caught = (np.mean([r.beyond(TOLERANCE_PAIRED) for r in found]) for found in (alike, slower))
        rounds = " and ".join(f"{np.mean([r.n for r in found]):.0f}" for found in (alike, slower))
        print(f"| {name} | {alarms:.2%} | {closed:.2%} | {caught:.1%} | {rounds} |", flush=True)


def compared(noise: Noise, rng: np.random.Generator, shift: float) -> Ratio:
    """One comparison of made-up rounds."""
    return sequential(lambda n: list(shift + noise(rng, n)), TOLERANCE_PAIRED)


def real(comparisons: int, planted: float, model: str, seed: int) -> None:
    """Prints a line a comparison, and the shares of false alarms or of slowdowns caught."""
    module, kind = model.split(":")
    with tempfile.TemporaryDirectory() as folder:
        trees = Path(folder).resolve() / "a", Path(folder).resolve() / "b"
        for tree, share in zip(trees, (0.0, planted / 100), strict=True):
            tree.mkdir()
            (tree / "model.py").write_text(MODEL.format(module=module, kind=kind, share=share))
        subject = Subject("planted", "planted", "model.py:Planted", str(trees[1]), {}, {}, "fp32", SPEC)
        found = [one(subject, trees, seed + i, i) for i in range(comparisons)]
    told(found, planted)


def one(subject: Subject, trees: tuple[Path, Path], seed: int, number: int) -> Outcome:
    """One comparison of real processes, printed."""
    options = Options("cpu", 1, 64, TOLERANCE_PAIRED, seed=seed, shorten=True)
    start = time.monotonic()
    outcome = compare_one(subject, trees, options, 1, start + 600, lambda line: None)
    r = outcome.ratio
    assert r is not None
    took = time.monotonic() - start
    print(f"{number + 1}: {r.value:.4f} ({r.lo:.4f} to {r.hi:.4f}), {r.n} rounds, {took:.0f} s: {r.verdict}"
          f"{', gate closed' if outcome.closes(TOLERANCE_PAIRED) else ''}", flush=True)  # fmt: skip
    return outcome


def told(found: list[Outcome], planted: float) -> None:
    """Prints what many comparisons said."""
    ratios = [o.ratio for o in found if o.ratio is not None]
    said = {verdict: sum(r.verdict == verdict for r in ratios) for verdict in ("faster", "cannot tell", "slower")}
    closed = sum(r.beyond(TOLERANCE_PAIRED) for r in ratios)
    spread = np.std([math.log(r.value) for r in ratios])
    print(f"\nplanted {planted:g} %, {len(ratios)} comparisons: {said}, gate closed {closed}; median ratio "
          f"{np.median([r.value for r in ratios]):.4f}, spread of the ratios {spread:.2%}, "
          f"{np.mean([r.n for r in ratios]):.0f} rounds on average")  # fmt: skip


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("simulate", "real"))
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--planted", type=float, default=0.0, help="per cent of the sampler's time")
    parser.add_argument("--model", default="vae:VAE", help="module:Class of the zoo")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "simulate":
        simulate(given.comparisons, given.seed)
    else:
        real(given.comparisons, given.planted, given.model, given.seed)


if __name__ == "__main__":
    main()
