"""How often the 95 % intervals contain the true value, on test problems where it is known: tables in Markdown.

    OMP_NUM_THREADS=1 python tools/interval_coverage.py [--quick] [--only METRIC ...]

Every row draws a reference once, then many sets of generated samples, computes the metric as a suite does, and counts
how often lo..hi contains the true value. The true FID is its mean over draws of N samples, from moments drawn by
Bartlett's decomposition; the true KID is in closed form, given the reference or over all references; the true bits/dim
is an entropy; what has no closed form is compared with the mean of the draws' own values. `width` is the mean half
width divided by 1.96 true standard deviations of the value: 1 is ideal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from genbench.machine import environment_facts
from genbench.metrics import Value
from genbench.metrics.arrays import Z95, Array, standard_error
from genbench.metrics.frechet import Moments, distance, feature_moments, with_influence
from genbench.metrics.means import mean_interval, t_quantile
from genbench.registry import METRICS

REFERENCE = 5000  # real samples
LOG2 = np.log(2)


@dataclass(frozen=True)
class Coverage:
    """Of `draws` intervals, the share that contains the truth, and the mean half width over 1.96 true spreads."""

    held: float
    width: float
    draws: int

    def __str__(self) -> str:
        error = (max(self.held * (1 - self.held), 0.25 / self.draws) / self.draws) ** 0.5
        return f"{100 * self.held:.1f} ± {100 * Z95 * error:.1f} | {self.width:.2f} | {self.draws}"


def coverage(values: list[Value], truth: float, spread: float | None = None) -> Coverage:
    """How often the values' intervals contain the truth; spread: of the value, if it is known more precisely."""
    held = np.mean([v.lo <= truth <= v.hi for v in values])
    spread = float(np.std([v.value for v in values])) if spread is None else spread
    width = np.mean([(v.hi - v.lo) / 2 for v in values]) / (Z95 * spread)
    return Coverage(float(held), float(width), len(values))


@dataclass(frozen=True)
class World:
    """Real features N(0, diag(root)^2), generated ones N(shift root, diag(scale root)^2), root_k = k^(-decay).

    The random numbers of a row depend on the name of this class (see stream): renaming it changes the printed numbers.
    """

    d: int
    n: int
    scale: float = 1.0
    shift: float = 0.0
    decay: float = 0.0
    m: int = REFERENCE

    @property
    def root(self) -> Array:
        """Standard deviations of the real features (D,)."""
        return np.arange(1, self.d + 1) ** -self.decay

    def real(self, rng: np.random.Generator) -> Array:
        """A reference (M, D)."""
        return rng.standard_normal((self.m, self.d)) * self.root

    def fake(self, rng: np.random.Generator) -> Array:
        """Generated samples (N, D)."""
        return (rng.standard_normal((self.n, self.d)) * self.scale + self.shift) * self.root

    def fake_moments(self, rng: np.random.Generator) -> Moments:
        """Moments of N generated samples without the samples: covariances by Bartlett's decomposition, for N > D."""
        if self.n <= self.d:
            return feature_moments(self.fake(rng))
        upper = np.triu(rng.standard_normal((self.d, self.d)), 1)
        freedom = self.n - 1 - np.arange(self.d)
        upper[np.diag_indices(self.d)] = np.sqrt(rng.chisquare(freedom))
        mean = self.shift + self.scale * rng.standard_normal(self.d) / self.n**0.5
        return Moments(mean * self.root, upper * self.scale * self.root / (self.n - 1) ** 0.5)


Problems = tuple[tuple[str, World, int], ...]  # name, test problem, draws


@dataclass(frozen=True)
class Classes(World):
    """Features like those of a classifier of ten classes: nine directions have nearly all of the variance."""

    @property
    def root(self) -> Array:
        """Standard deviations of the real features (D,)."""
        return np.where(np.arange(self.d) < 9, 1.0, 0.1)


SAME, NEAR, FAR = {}, {"scale": 1.05, "shift": 0.05}, {"scale": 1.2, "shift": 0.3}
FID_PROBLEMS = (
    ("no difference", World(16, 500, **SAME), 800),
    ("clear difference", World(16, 500, **FAR), 800),
    ("clear difference", World(64, 500, **FAR), 800),
    ("no difference", World(64, 2000, **SAME), 500),
    ("small difference", World(64, 2000, **NEAR), 500),
    ("clear difference", World(64, 2000, **FAR), 500),
    ("clear difference", World(32, 5000, **FAR), 200),
    ("no difference, features of a classifier", Classes(64, 2000, **SAME, m=1437), 300),
)
FID_HARD = (
    ("N = D", World(64, 64, **FAR), 200),
    ("no difference, few directions (variance k^-1.5)", World(64, 2000, decay=0.75), 200),
)
OTHER_PROBLEMS = (
    ("no difference", World(16, 500, **SAME), 200),
    ("clear difference", World(16, 500, **FAR), 200),
    ("no difference", World(64, 2000, **SAME), 40),
)


def stream(seed: int, row: object) -> np.random.Generator:
    """Random numbers of one row of a table, independent of the other rows."""
    return np.random.default_rng([seed, crc32(repr(row).encode())])


def fid_values(problem: World, draws: int, rng: np.random.Generator) -> tuple[list[Value], Array]:
    """The metric on `draws` draws, and the distance of many more: (8 draws,)."""
    real = problem.real(rng)
    reference = feature_moments(real)
    many = np.array([distance(problem.fake_moments(rng), reference) for _ in range(8 * draws)])
    return [METRICS["fid"].compute(fake=problem.fake(rng), real=real) for _ in range(draws)], many


def fid_rows(problems: Problems, share: float, seed: int) -> Iterator[str]:
    """Coverage of the mean of FID at N."""
    for name, problem, draws in problems:
        values, many = fid_values(problem, int(draws * share), stream(seed, problem))
        result = coverage(values, float(many.mean()), float(many.std()))
        yield f"FID | its mean at N, this reference: {many.mean():.4g} | {name} | {problem.d} | {problem.n} | {result}"


def fid_population(share: float, seed: int) -> Iterator[str]:
    """The same intervals against the distance of the populations, which they do not estimate."""
    problem = World(64, 2000, **FAR)
    truth = problem.d * (problem.shift**2 + (problem.scale - 1) ** 2)
    result = coverage(fid_values(problem, int(60 * share), stream(seed, problem))[0], truth)
    yield f"FID | distance of the populations: {truth:.4g} | clear difference | {problem.d} | {problem.n} | {result}"


def other_intervals(share: float, seed: int) -> Iterator[str]:
    """Coverage of the usual intervals on the same problems: first order, and three plain bootstraps (B = 60)."""
    for name, problem, draws in OTHER_PROBLEMS:
        rng = stream(seed, problem)
        reference = feature_moments(problem.real(rng))
        many = np.array([distance(problem.fake_moments(rng), reference) for _ in range(4000)])
        by_kind: dict[str, list[Value]] = {}
        for _ in range(int(draws * share)):
            for kind, value in usual_intervals(problem.fake(rng), reference, rng).items():
                by_kind.setdefault(kind, []).append(value)
        for kind, values in by_kind.items():
            yield f"{kind} | {name} | {problem.d} | {problem.n} | {coverage(values, many.mean(), many.std())}"


def usual_intervals(fake: Array, reference: Moments, rng: np.random.Generator, b: int = 60) -> dict[str, Value]:
    """Infinitesimal jackknife, and normal, percentile and basic intervals of a plain bootstrap of B replicates."""
    value, effects, *_ = with_influence(fake, reference)
    n = len(fake)
    again = np.array([distance(feature_moments(fake[rng.integers(n, size=n)]), reference) for _ in range(b)])
    first, half = Z95 * effects.std(ddof=1) / n**0.5, Z95 * again.std(ddof=1)
    lo, hi = np.quantile(again, (0.025, 0.975))
    return {
        "first order": Value(value, value - first, value + first),
        "bootstrap standard error": Value(value, value - half, value + half),
        "bootstrap percentiles": Value(value, lo, hi),
        "bootstrap basic": Value(value, 2 * value - hi, 2 * value - lo),
    }


def mean_kernel(c: Array, variance: Array, skew: Array) -> Array:
    """E (s / d + 1)^3 from the mean, variance and third central moment of s / d."""
    return c**3 + 3 * c * variance + skew + 3 * (c * c + variance) + 3 * c + 1


def population_kernel(problem: World, a: float, shift_a: float, b: float, shift_b: float) -> float:
    """E k(x, y) of x ~ N(shift_a, a^2 I), y ~ N(shift_b, b^2 I), from the moments of s = x'y."""
    d = problem.d
    c = d * shift_a * shift_b
    variance = d * ((shift_a * b) ** 2 + (shift_b * a) ** 2 + (a * b) ** 2)
    return float(mean_kernel(c / d, variance / d**2, 6 * (a * b) ** 2 * c / d**3))


def kid_truths(problem: World, real: Array) -> tuple[float, float]:
    """MMD^2 of the populations, and the mean of KID given the reference; for problems with root 1."""
    own = population_kernel(problem, problem.scale, problem.shift, problem.scale, problem.shift)
    theirs = population_kernel(problem, 1, 0, 1, 0)
    cross = population_kernel(problem, problem.scale, problem.shift, 1, 0)
    k = (real @ real.T / problem.d + 1) ** 3
    within = (k.sum() - np.trace(k)) / (len(real) * (len(real) - 1))
    c = problem.shift * real.sum(axis=1) / problem.d
    across = mean_kernel(c, problem.scale**2 * np.square(real).sum(axis=1) / problem.d**2, np.zeros(()))
    return own + theirs - 2 * cross, float(own + within - 2 * across.mean())


KID_GIVEN = (
    ("no difference", World(16, 500, **SAME, m=1000), 800),
    ("clear difference", World(16, 500, **FAR, m=1000), 800),
    ("no difference", World(64, 2000, **SAME, m=1500), 250),
    ("small difference", World(64, 2000, **NEAR, m=1500), 250),
)
KID_POPULATION = (
    ("M = 20 N, no difference", World(16, 200, **SAME, m=4000), 500),
    ("M = 20 N, clear difference", World(16, 200, **FAR, m=4000), 500),
)
KID_SMALL_REFERENCE = (
    ("M = N, no difference", World(16, 250, **SAME, m=250), 500),
    ("M = N, clear difference", World(16, 250, **FAR, m=250), 500),
)


def kid_given(share: float, seed: int) -> Iterator[str]:
    """Coverage of KID's mean given one reference."""
    for name, problem, draws in KID_GIVEN:
        rng = stream(seed, problem)
        real = problem.real(rng)
        values = [METRICS["kid"].compute(fake=problem.fake(rng), real=real) for _ in range(int(draws * share))]
        truth = kid_truths(problem, real)[1]
        result = coverage(values, truth)
        yield f"KID | its mean, this reference: {truth:.3g} | {name} | {problem.d} | {problem.n} | {result}"


def kid_population(problems: Problems, share: float, seed: int) -> Iterator[str]:
    """Coverage of the populations' MMD^2, with a new reference at each draw."""
    for name, problem, draws in problems:
        rng = stream(seed, problem)
        pairs = ((problem.fake(rng), problem.real(rng)) for _ in range(int(draws * share)))
        values = [METRICS["kid"].compute(fake=fake, real=real) for fake, real in pairs]
        truth = kid_truths(problem, np.zeros((2, problem.d)))[0]
        result = coverage(values, truth)
        yield f"KID | MMD² of the populations: {truth:.3g} | {name} | {problem.d} | {problem.n} | {result}"


def bits_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of the mean bits/dim over all images."""
    for name, d, n, truth, draw in bits_problems():
        rng = stream(seed, (name, d, n))
        sets = (draw(rng, d, n) for _ in range(int(min(800, 2e6 / n) * share)))
        result = coverage([METRICS["bits_per_dim"].compute(log_probs=x, dims=d, kind="mass") for x in sets], truth)
        yield f"bits/dim | over all images: {truth:.4f} | {name} | {d} | {n} | {result}"


def bits_problems() -> Iterator[tuple[str, int, int, float, Callable[[np.random.Generator, int, int], Array]]]:
    """(name, D, N, true bits/dim, draw of N log-likelihoods in nats)."""
    for d, n in ((64, 360), (64, 2000), (16, 5000)):
        yield "pixels of entropy 1.75 bits", d, n, 1.75, known_entropy
    for d, n in ((64, 500), (64, 2000)):
        yield "Gaussian of variance 1", d, n, float(0.5 * np.log(2 * np.pi * np.e) / LOG2), gaussian
    yield "one image in ten costs four times as much", 64, 360, 1.3, mixed


def known_entropy(rng: np.random.Generator, d: int, n: int) -> Array:
    """Log-likelihoods of images of D independent pixels under their true model, of 1.75 bits a pixel."""
    pmf = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    return rng.multinomial(d, pmf, n) @ np.log(pmf)


def gaussian(rng: np.random.Generator, d: int, n: int) -> Array:
    """Log-densities of N(0, I_D) under itself."""
    return -0.5 * (rng.chisquare(d, n) + d * np.log(2 * np.pi))


def mixed(rng: np.random.Generator, d: int, n: int) -> Array:
    """Log-likelihoods of images at 1 bit/dim, one in ten at 4, each with a relative spread of a seventh."""
    return -d * LOG2 * np.where(rng.random(n) < 0.1, 4.0, 1.0) * rng.gamma(50, 1 / 50, n)


def skewed_problems() -> Iterator[tuple[str, float, Callable[[np.random.Generator, int], Array]]]:
    """(name, true mean, draw of N numbers)."""
    yield "exponential", 1.0, lambda rng, n: rng.exponential(size=n)
    yield "log-normal", np.exp(0.5), lambda rng, n: np.exp(rng.standard_normal(n))
    yield "gamma of shape 1/4", 0.25, lambda rng, n: rng.gamma(0.25, size=n)
    yield "beta (5, 1/2)", 5 / 5.5, lambda rng, n: rng.beta(5, 0.5, n)
    yield "one in ten is four times as large", 1.3, lambda rng, n: -mixed(rng, 1, n) / LOG2


def mean_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage (width) of the mean of skewed numbers by the interval used, a bootstrap-t and Student's t."""
    for n in (20, 50, 200, 2000):
        for name, truth, draw in skewed_problems():
            rng = stream(seed, ("mean", name, n))
            sets = [draw(rng, n) for _ in range(int(min(4000, 1e6 / n) * share))]
            found = [coverage([interval(x) for x in sets], truth) for interval in (used, bootstrap_t, student_t)]
            cells = " | ".join(f"{100 * each.held:.1f} ({each.width:.2f})" for each in found)
            yield f"{name} | {n} | {cells} | {len(sets)}"


def used(x: Array) -> Value:
    """The interval of a mean of numbers (N,) that metrics have."""
    return mean_interval(x, "numbers")


def student_t(x: Array) -> Value:
    """Student's t interval of the mean of numbers (N,)."""
    half = t_quantile(len(x) - 1) * standard_error(x)
    return Value(x.mean(), x.mean() - half, x.mean() + half)


def bootstrap_t(x: Array, b: int = 1000) -> Value:
    """The bootstrap-t interval of the mean of numbers (N,) (Efron 1979; Hall 1988), at most two t quantiles away."""
    n, most = len(x), 2 * t_quantile(len(x) - 1)
    again = x[np.random.default_rng(2020).integers(n, size=(b, n))]
    errors = again.std(axis=1) / (n - 1) ** 0.5
    moved = again.mean(axis=1) - x.mean()
    ratios = np.divide(moved, errors, out=most * np.sign(moved), where=np.abs(moved) < most * errors)
    lo, hi = np.quantile(ratios, (0.025, 0.975)) * standard_error(x)
    return Value(x.mean(), x.mean() - hi, x.mean() - lo)


def manifold_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of the mean at N of metrics that count points in balls, given this reference."""
    problem = World(16, 500, scale=0.9, shift=0.1, m=500)
    for metric in ("precision", "density", "recall", "coverage"):
        rng, draws = stream(seed, problem), int(200 * share)
        real = problem.real(rng)
        values = [METRICS[metric].compute(fake=problem.fake(rng), real=real) for _ in range(draws)]
        truth = float(np.mean([v.value for v in values]))
        result = coverage(values, truth)
        yield f"{metric} | its mean at N, this reference: {truth:.3g} | small difference | 16 | 500 | {result}"


def distribution_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of the mean at N of RKE, MIND, CMMD and sliced Wasserstein."""
    problem = World(16, 300, **NEAR, m=300)
    for name, arguments in (("rke", ()), ("mind", ("real",)), ("cmmd", ("real",)), ("sliced_wasserstein", ("real",))):
        for what, changed in (("small difference", problem), ("clear difference", World(16, 300, **FAR, m=300))):
            rng = stream(seed, (name, changed))
            known = dict.fromkeys(arguments, changed.real(rng))
            values = [METRICS[name].compute(fake=changed.fake(rng), **known) for _ in range(int(300 * share))]
            truth = f"its mean at N{', this reference' * bool(arguments)}"
            yield own_mean(METRICS[name].title, truth, what, changed, values)


def clipped_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of clipped density's mean over samples, the reference's balls fixed."""
    for what, problem in (
        ("wider samples", World(16, 500, scale=1.1, shift=0.1, m=500)),
        ("clear difference", World(16, 500, **FAR, m=500)),
    ):
        rng = stream(seed, ("clipped density", problem))
        real = problem.real(rng)
        fakes = (problem.fake(rng) for _ in range(int(300 * share)))
        values = [METRICS["clipped_density"].compute(fake=fake, real=real) for fake in fakes]
        yield own_mean("Clipped density", "its mean at N, this reference", what, problem, values)


def clipped_coverage_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of clipped coverage's mean over other samples, and over other references, whose balls differ."""
    problem = World(16, 500, **FAR, m=500)
    for truth, fixed in (("its mean at N, this reference", "real"), ("its mean at N, these samples", "fake")):
        rng = stream(seed, ("clipped coverage", fixed))
        sets = {"real": problem.real(rng), "fake": problem.fake(rng)}
        other = {"real": problem.fake, "fake": problem.real}[fixed]
        redrawn = {"real": "fake", "fake": "real"}[fixed]
        draws = ({**sets, redrawn: other(rng)} for _ in range(int(300 * share)))
        values = [METRICS["clipped_coverage"].compute(**draw) for draw in draws]
        yield own_mean("Clipped coverage", truth, "clear difference", problem, values)


def fld_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of FLD's mean over held-out images, train images and samples fixed."""
    for what, difference in (("small difference", NEAR), ("clear difference", FAR)):
        problem = World(8, 200, **difference, m=200)
        rng = stream(seed, ("fld", problem))
        fixed = {"train": problem.real(rng), "fake": problem.fake(rng)}
        values = [METRICS["fld"].compute(**fixed, held_out=problem.real(rng)) for _ in range(int(300 * share))]
        yield own_mean("FLD", "its mean, these samples and train images", what, problem, values)


def own_mean(title: str, truth: str, what: str, problem: World, values: list[Value]) -> str:
    """A row whose truth is the mean of the values."""
    mean = float(np.mean([v.value for v in values]))
    return f"{title} | {truth}: {mean:.3g} | {what} | {problem.d} | {problem.n} | {coverage(values, mean)}"


def score_rows(share: float, seed: int) -> Iterator[str]:
    """Coverage of the mean at N of the Inception Score and of confidence."""

    def draw(n: int, sharpness: float, rng: np.random.Generator) -> Array:
        p = np.exp(sharpness * rng.standard_normal((n, 10)))
        return p / p.sum(axis=1, keepdims=True)

    for metric in ("is", "confidence"):
        for name, sharpness in (("sharp", 3.0), ("nearly all alike", 0.1)):
            rng = stream(seed, (metric, name))
            values = [
                METRICS[metric].compute(probabilities=draw(2000, sharpness, rng)) for _ in range(int(500 * share))
            ]
            truth = float(np.mean([v.value for v in values]))
            result = coverage(values, truth)
            yield f"{METRICS[metric].title} | its mean at N: {truth:.4g} | {name} | K = 10 | 2000 | {result}"


OTHER_HEAD = "| interval | problem | D | N | covered, % | width | draws |\n|---|---|---:|---:|---:|---:|---:|"
HEAD = "| metric | truth | problem | D | N | covered, % | width | draws |\n|---|---|---|---:|---:|---:|---:|---:|"


MEAN_HEAD = "| numbers | N | used | bootstrap-t | Student's t | draws |\n|---|---:|---:|---:|---:|---:|"


GIVEN, HARD, OTHERS, MEANS = (
    "What the intervals estimate", "What they do not estimate, and where they fail",
    "Other intervals for the mean of FID at N, not used", "Intervals for the mean of skewed numbers",
)  # fmt: skip
# Metrics, and the rows of each table: called with the share of the draws, and the seed.
TABLES: tuple[tuple[str, str, tuple[tuple[str, Callable[[float, int], Iterator[str]]], ...]], ...] = (
    (GIVEN, HEAD, (
        ("fid", partial(fid_rows, FID_PROBLEMS)), ("kid", kid_given),
        ("kid", partial(kid_population, KID_POPULATION)), ("bits_per_dim", bits_rows), ("is confidence", score_rows),
        ("rke mind cmmd sliced_wasserstein", distribution_rows), ("clipped_density", clipped_rows),
    )),
    (HARD, HEAD, (
        ("fid", partial(fid_rows, FID_HARD)), ("fid", fid_population),
        ("kid", partial(kid_population, KID_SMALL_REFERENCE)), ("precision density recall coverage", manifold_rows),
        ("clipped_coverage", clipped_coverage_rows), ("fld", fld_rows),
    )),
    (OTHERS, OTHER_HEAD, (("fid", other_intervals),)),
    (MEANS, MEAN_HEAD, (("mean", mean_rows),)),
)  # fmt: skip


def main() -> None:
    """Prints the tables; --quick with a tenth of the draws; --only METRIC those rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--seed", type=int, default=0)
    names = sorted({name for _, _, rows in TABLES for part, _ in rows for name in part.split()})
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="METRIC", help=", ".join(names))
    options = parser.parse_args()
    share, seed = 0.1 if options.quick else 1.0, options.seed
    machine = environment_facts()
    print(f"{machine['cores']} cores, {machine['processor']}; torch {machine['packages']['torch']}")
    for title, head, rows in TABLES:
        chosen = [make(share, seed) for part, make in rows if set(part.split()) & set(options.only)]
        if chosen:
            show(title, head, chosen)
    print(f"\n{time.process_time():.0f} s of CPU time")


def show(title: str, head: str, parts: list[Iterator[str]]) -> None:
    """Prints a table, each row as soon as it is computed."""
    print(f"\n### {title}\n\n{head}")
    for row in chain.from_iterable(parts):
        print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
