"""Validation of `genbench speed --base`: false alarms where nothing changed, and slowdowns that are detected.

    python tools/speed_proof.py simulate                              thousands of comparisons with simulated noise
    python tools/speed_proof.py real --comparisons 200                two processes that run the same code
    python tools/speed_proof.py real --comparisons 100 --planted 5    B's sampler takes 5 % longer

The sampler waits in a loop that reads the clock, because a sleep of 0.1 ms takes about twice as long. A real comparison
is what the command does for a suite of one model: default options, new processes, rounds until the verdict is certain.
Each comparison prints a line.
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
from genbench.speed.comparison import Comparison
from genbench.speed.judge import UNCLEAR, Ratio, sequential
from genbench.speed.paired import ROUNDS_A_PAIR, Options, compare_one
from genbench.speed.subjects import TimedModel

MODEL = '''"""A zoo model whose sampler takes longer by a share of its time."""

import time

from zoo.{module} import {kind}


class Planted({kind}):
    def sample(self, n, gen, condition=None):
        start = time.perf_counter()
        x = super().sample(n, gen, condition)
        x.flatten()[0].item()  # a GPU has then drawn, not only been told to
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
    "normal, 2 %, and 1 % shared by all rounds of a pair of processes": lambda rng, n: (
        rng.normal(0, 0.02, n) + rng.normal(0, 0.01, n).repeat(ROUNDS_A_PAIR)[:n]
    ),
}


def simulate(comparisons: int, seed: int) -> None:
    """Prints for each kind of noise: false alarms, gates closed, share of 5 % slowdowns detected, rounds."""
    print("| noise of a round | false alarms | of them gate closed | 5 % slower: detected | rounds: A/A, 5 % slower |")
    print("|---|---|---|---|---|")
    for name, noise in NOISES.items():
        rng = np.random.default_rng(seed)
        alike = [compared(noise, rng, 0.0) for _ in range(comparisons)]
        slower = [compared(noise, rng, math.log(1.05)) for _ in range(comparisons)]
        alarms = np.mean([r.verdict != UNCLEAR for r in alike])
        closed, caught = (np.mean([r.beyond(TOLERANCE_PAIRED) for r in ratios]) for ratios in (alike, slower))
        rounds = " and ".join(f"{np.mean([r.n for r in ratios]):.0f}" for ratios in (alike, slower))
        print(f"| {name} | {alarms:.2%} | {closed:.2%} | {caught:.1%} | {rounds} |", flush=True)


def compared(noise: Noise, rng: np.random.Generator, shift: float) -> Ratio:
    """The result of one comparison of simulated rounds."""
    return sequential(lambda n: list(shift + noise(rng, n)), TOLERANCE_PAIRED)


def real(comparisons: int, planted: float, model: str, seed: int) -> None:
    """Prints a line for each comparison, then how many verdicts of each kind there were."""
    module, kind = model.split(":")
    with tempfile.TemporaryDirectory() as folder:
        trees = Path(folder).resolve() / "a", Path(folder).resolve() / "b"
        for tree, share in zip(trees, (0.0, planted / 100), strict=True):
            tree.mkdir()
            (tree / "model.py").write_text(MODEL.format(module=module, kind=kind, share=share))
        subject = TimedModel("planted", "planted", "model.py:Planted", str(trees[1]), {}, {}, "fp32", SPEC)
        results = [one(subject, trees, seed + i, i) for i in range(comparisons)]
    summarise(results, planted)


def one(subject: TimedModel, trees: tuple[Path, Path], seed: int, number: int) -> Comparison:
    """Makes one comparison of real processes and prints it."""
    options = Options("cpu", 1, 64, TOLERANCE_PAIRED, seed=seed, shorten=True)
    start = time.monotonic()
    comparison = compare_one(subject, trees, options, 1, start + 600, lambda line: None)
    r = comparison.ratio
    assert r is not None
    took = time.monotonic() - start
    print(f"{number + 1}: {r.value:.4f} ({r.lo:.4f} to {r.hi:.4f}), {r.n} rounds, {took:.0f} s: {r.verdict}"
          f"{', gate closed' if comparison.closes(TOLERANCE_PAIRED) else ''}", flush=True)  # fmt: skip
    return comparison


def summarise(comparisons: list[Comparison], planted: float) -> None:
    """Prints the verdicts of many comparisons."""
    ratios = [c.ratio for c in comparisons if c.ratio is not None]
    verdicts = {verdict: sum(r.verdict == verdict for r in ratios) for verdict in ("faster", "cannot tell", "slower")}
    closed = sum(r.beyond(TOLERANCE_PAIRED) for r in ratios)
    spread = np.std([math.log(r.value) for r in ratios])
    print(f"\nplanted {planted:g} %, {len(ratios)} comparisons: {verdicts}, gate closed {closed}; median ratio "
          f"{np.median([r.value for r in ratios]):.4f}, spread of the ratios {spread:.2%}, "
          f"{np.mean([r.n for r in ratios]):.0f} rounds on average")  # fmt: skip


def main() -> None:
    """Reads the command line and runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("simulate", "real"))
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--planted", type=float, default=0.0, help="per cent of the sampler's time")
    parser.add_argument("--model", default="vae:VAE", help="module:Class of the zoo")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "simulate":
        simulate(options.comparisons, options.seed)
    else:
        real(options.comparisons, options.planted, options.model, options.seed)


if __name__ == "__main__":
    main()
