"""Sliced 2-Wasserstein distance of pixels (Rabin et al. 2012; Bonneel et al. 2015).

    SW = sqrt( mean over directions t of W2^2(t'F, t'R) ),  t uniform on the unit sphere of R^P

Without further factors it is a root mean square over pixels: for a shift by m it is |m| / sqrt(P), and between
N(0, a^2 I) and N(0, b^2 I) it is |a - b|. In one dimension W2^2 is the integral over u in 0..1 of the squared
difference of the two quantile functions. They are step functions, so the integral is a finite sum, exact also for
N other than M, without interpolation. The directions are seeded, part of the protocol, and the same for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import Z95, Array
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.readings import PIXELS

_PROJECTIONS, _DIRECTION_SEED = 1000, 2020
_BLOCK = 1024  # rows converted to float64 at a time
_DIRECTION_BLOCK = 50  # directions in memory at a time
_TEMPORARIES = 10  # float64 values in memory for each projection of a row


class QuantileSteps(NamedTuple):
    """The pieces of 0..1 on which both quantile functions are constant, for N fake and M real samples by rank.

    length (Q,), Q at most N + M - 1; fake, real (Q,): whose steps they are. left, right (N - 1,): the real steps on
    either side of where one fake step ends and the next begins, mostly the same.
    """

    length: Array
    fake: np.ndarray
    real: np.ndarray
    left: np.ndarray
    right: np.ndarray


def quantile_steps(n: int, m: int) -> QuantileSteps:
    """The pieces, counted in whole parts of 1 / (n m)."""
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    ends = np.arange(1, n) * m
    return QuantileSteps(np.diff(edges) / (n * m), edges[:-1] // m, edges[:-1] // n, (ends - 1) // n, ends // n)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, _BLOCK at a time."""
    return (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))


def pixels(name: str, rows: Any) -> np.ndarray:
    """An array (N, P) of at least 2 rows in its own type, so that large sets are not copied; raises as the distance."""
    array = np.asarray(rows)
    if array.ndim != 2 or len(array) < 2:
        raise GenbenchError(f"{name}: found an array of shape {array.shape}, allowed: (N, P) with N at least 2")
    bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks(array))
    if bad:
        raise CellFailure(f"{name}: {bad} of {len(array)} rows hold a value that is not finite")
    return array


def directions(size: int, count: int, seed: int) -> Array:
    """Directions (count, size), uniform on the unit sphere."""
    t = np.random.default_rng(seed).standard_normal((count, size))
    return np.asarray(t / np.linalg.norm(t, axis=1, keepdims=True))


class Projections:
    """Rows (N, P) along directions, a block of rows in float64 at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self.at = arithmetic()
        self.n, self.rows = len(rows), self.at.rows(rows)

    def along(self, t: Block) -> Block:
        """Along directions t (L, P), which are there: (L, N)."""
        parts = self.at.blocks(self.n, _BLOCK, 8 * _TEMPORARIES * t.shape[1])
        return self.at.beside(*(t @ self.at.double(self.at.whole(self.rows[part])).T for part in parts))


def transport_cost(fake: Block, real: Block, cut: QuantileSteps) -> Array:
    """Squared distances (L,) of projections fake (L, N) and real (L, M), each sorted; cut: where they are."""
    difference = fake[:, cut.fake] - real[:, cut.real]
    difference *= difference
    return arithmetic().get(difference @ cut.length)


def transport_effects(fake: Block, order: Block, real: Block, cut: QuantileSteps) -> Array:
    """The effects (N,) of each fake row on the sum of the squared distances; fake, real: sorted, order: that of fake.

    Mass moved from one sorted sample to the next, a to b, passes the end of a step, where the real quantile is y: it
    costs (b - y)^2 - (a - y)^2. These costs summed from the smallest sample on are the effects up to a constant.
    """
    at = arithmetic()
    lower, upper = fake[:, :-1], fake[:, 1:]
    costs = (upper - lower) * (upper + lower - real[:, cut.left] - real[:, cut.right])
    effects = at.zeros(*fake.shape)
    effects[:, 1:] = at.running(costs)
    return at.get(at.placed(effects, order).sum(0))


def checked_pixels(fake: Any, real: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both sets; raises as the public function."""
    fake, real = pixels("fake", fake), pixels("real", real)
    if fake.shape[1] != real.shape[1]:
        raise GenbenchError(f"fake has {fake.shape[1]} pixels a row and real {real.shape[1]}; must agree")
    refuse_equal_rows("sliced_wasserstein", "reference", real)
    return fake, real


def mean_squared_distance(fake: np.ndarray, real: np.ndarray, along: Array) -> float:
    """Mean of W2^2 along directions (L, P)."""
    costs = (transport_cost(x, y, cut).sum() for x, _, y, cut in _sorted_projections(fake, real, along, ordered=False))
    return float(sum(costs)) / len(along)


def with_effects(fake: np.ndarray, real: np.ndarray, along: Array) -> tuple[float, Array]:
    """The same, and the first-order effect (N,) of each fake row on it up to a constant."""
    total, effects = 0.0, np.zeros(len(fake))
    for x, order, y, cut in _sorted_projections(fake, real, along, ordered=True):
        total += float(transport_cost(x, y, cut).sum())
        effects = effects + transport_effects(x, order, y, cut)
    return total / len(along), effects / len(along)


def with_variance(fake: np.ndarray, real: np.ndarray, along: Array) -> tuple[float, float]:
    """The mean of W2^2, and the first-order variance of it over draws of fake rows, the directions fixed.

    Effects cost more than distances and are computed along a quarter of the directions, in two parts. What the parts
    share, their covariance, is the variance along infinitely many directions; the rest of a part's variance falls with
    the number of directions.
    """
    part = len(along) // 8
    ends = [0, part, 2 * part]
    found = [with_effects(fake, real, along[i : i + part]) for i in ends[:2]]
    rest = mean_squared_distance(fake, real, along[ends[2] :])
    value = (sum(squared * part for squared, _ in found) + rest * (len(along) - ends[2])) / len(along)
    spread = np.cov([effects for _, effects in found])
    shared, own = float(spread[0, 1]), float(spread.trace()) / 2
    variance = max(shared, 0.0) + part / len(along) * (own - max(shared, 0.0))
    return value, variance / len(fake)


def _sorted_projections(
    fake: np.ndarray, real: np.ndarray, along: Array, *, ordered: bool
) -> Iterator[tuple[Block, Block, Block, QuantileSteps]]:
    """Of blocks of directions: projections of fake, their order (None unless ordered) and those of real."""
    at, steps = arithmetic(), quantile_steps(len(fake), len(real))
    cut = QuantileSteps(*map(at.put, steps))
    sets = Projections(fake), Projections(real)
    for part in at.blocks(len(along), _DIRECTION_BLOCK, 8 * _TEMPORARIES * (len(fake) + len(real))):
        x, y = (rows.along(at.put(along[part])) for rows in sets)
        ascending, order = at.order(x) if ordered else (at.ascending(x), None)
        yield ascending, order, at.ascending(y), cut


def sliced_wasserstein_distance(
    *, fake: Any, real: Any, projections: int = _PROJECTIONS, seed: int = _DIRECTION_SEED
) -> float:
    """Sliced 2-Wasserstein distance (the root) of pixels fake (N, P) and real (M, P), in their unit; 0 is best.

    Biased upwards at small N or M. Raises GenbenchError for shapes that do not fit, fewer than two rows or no
    projection; Degenerate when all rows of real are the same, CellFailure for values that are not finite.

        real = np.random.default_rng(0).random((200, 64))  # images of 8 x 8 pixels in [0, 1]
        metrics.sliced_wasserstein_distance(fake=real + 0.1, real=real)  # 0.10
    """
    if projections < 1:
        raise GenbenchError(f"projections: found {projections}, allowed: at least 1")
    fake, real = checked_pixels(fake, real)
    return mean_squared_distance(fake, real, directions(fake.shape[1], projections, seed)) ** 0.5


def sliced_wasserstein(*, fake: Any, real: Any) -> Value:
    """sliced_wasserstein_distance with an interval over the fake samples, the reference and the directions fixed."""
    fake, real = checked_pixels(fake, real)
    squared, variance = with_variance(fake, real, directions(fake.shape[1], _PROJECTIONS, _DIRECTION_SEED))
    half = Z95 * variance**0.5
    how = (
        "normal 95 %: roots of the squared distance +- 1.96 standard errors of the first-order effect of each "
        "generated sample, the reference and the directions fixed; small-sample bias not included"
    )
    return Value(squared**0.5, max(0.0, squared - half) ** 0.5, (squared + half) ** 0.5, how)


SLICED_WASSERSTEIN = Metric(
    name="sliced_wasserstein",
    title="Sliced W2",
    version=2,
    better="lower",
    unit="pixel range",
    reads=PIXELS,
    compute=sliced_wasserstein,
    least={"fake": 2, "real": 2},
    protocol={
        "distance": "root of the mean squared W2 over unit directions",
        "projections": _PROJECTIONS,
        "seed": _DIRECTION_SEED,
        "pixels": "in [0, 1]",
        "arithmetic": "float64",
    },
    cannot_detect="Does not detect what is small in pixel values, such as blurred detail, nor copies of train images.",
)
