"""Neighbours in feature space: exact decisions at the speed of float32.

Products of float32 rows, centred and scaled, give an upper bound of -|x - y|^2 / 2 for every pair and, with the bound
of their rounding error, a lower one. Only pairs that the two bounds leave undecided are computed in float64, from the
difference of the rows. Which points lie in a ball, which row is nearest and how far it is are therefore exactly the
results of float64; `tests/metrics/test_nearest.py` plants ties and near-ties.

With u = 2^-24 and n = D + 6 roundings of a product, the error is at most n u / (1 - n u) times |x|^2 + |y|^2 (Higham
2002, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import ROW_BLOCK, Array
from genbench.metrics.computing import arithmetic
from genbench.progress import alive

Numbers = NDArray[np.intp]
_PAIRS = 2**22  # pairs of a block
_TEMPORARIES = 6  # values of 4 bytes for each pair: the bounds, a copy, a mask, numbers of chosen pairs
_VALUES = 2**21  # float64 values in memory while pairs are computed again
_KEPT = 2**26  # pairs of a set with itself that are in memory together, for half of the products (BLAS's syrk)
_FLOOR = 2.0**-100  # of the largest squared norm: results of float32 that underflow are smaller


class Balls(NamedTuple):
    """Balls around one of two sets.

    of: "x" or "y", the set that has the centres. squared: radii (N,) or (M,), squared. open: whether a point on the
    surface is outside.
    """

    of: str
    squared: Array
    open: bool = False


class Counts(NamedTuple):
    """Pairs of a point and a ball that contains it: of each row x (N,) and of each row y (M,)."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]


class Nearest(NamedTuple):
    """Of each row: which row is nearest (N,) and how far it is, squared (N,)."""

    which: Numbers
    squared: Array


class Others(NamedTuple):
    """Of each row the k nearest other rows (M, k), nearest first, and how far they are, squared (M, k)."""

    which: Numbers
    squared: Array


class Pairs(NamedTuple):
    """Pairs of rows x and y by number (P,), and the squared distance: (low, high) bounds, equal where it is exact."""

    x: Numbers
    y: Numbers
    low: Array
    high: Array


class Bounds:
    """Upper bounds of -|x - y|^2 / 2 between rows x (N, D) and y (M, D), in scaled units, a block at a time."""

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        origin = y.mean(axis=0, dtype=np.float64)
        roundings = (x.shape[1] + 6) * 2.0**-24
        self.error, self.rows = roundings / (1 - roundings), (x, y)
        self.squares = tuple(_squared_norms(rows, origin) for rows in (x, y))
        largest = max(float(s.max(initial=0.0)) for s in self.squares)
        self.scale = 2.0 ** -np.ceil(np.log2(largest) / 2) if largest > 0 else 1.0
        self.squares = tuple(s * self.scale**2 for s in self.squares)
        self.at = arithmetic(double=False)
        self.left = self.at.rows(_single(x, origin, self.scale))
        self.right = self.left if x is y else self.at.rows(_single(y, origin, self.scale))
        self.halves = tuple(self.at.put((-(0.5 - self.error) * s + _FLOOR).astype(np.float32)) for s in self.squares)

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """The number of the first row x and the bounds (B, M) of a block of rows x."""
        n, m = (len(rows) for rows in self.rows)
        whole = self.at.products(self.left, self.left) if self._at_once() else None
        for part in self.at.blocks(n, max(1, _PAIRS // m), 4 * (_TEMPORARIES * m + self.rows[0].shape[1])):
            alive()
            upper = self.at.products(self.left[part], self.right) if whole is None else whole[part]
            upper += self.halves[0][part, None]
            upper += self.halves[1]
            yield part.start, upper

    def _at_once(self) -> bool:
        """Whether all products are computed at once: of a set with itself, which takes half of the time."""
        n = len(self.rows[0])
        return self.left is self.right and n**2 <= _KEPT and n <= self.at.most(4 * n)

    def within(self, start: int, upper: Block, least: NDArray[np.float32]) -> Pairs:
        """The pairs of a block whose bounds are at least these: (B, 1) or (M,)."""
        flat, bounds = self.at.chosen(upper, upper >= self.at.put(least))
        x, y = np.divmod(flat, upper.shape[1])
        low, x = -2.0 * bounds.astype(np.float64), x + start
        margin = 4 * self.error * (self.squares[0][x] + self.squares[1][y]) + 8 * _FLOOR
        return Pairs(x, y, low / self.scale**2, (low + margin) / self.scale**2)

    def exact(self, x: Numbers, y: Numbers) -> Array:
        """Squared distances (P,) of pairs of rows in float64, from their differences: 0 for equal rows."""
        result, step = np.empty(len(x)), max(1, _VALUES // self.rows[0].shape[1])
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            difference = np.subtract(self.rows[0][x[part]], self.rows[1][y[part]], dtype=np.float64)
            result[part] = np.einsum("pd,pd->p", difference, difference)
        return result

    def decided(self, pairs: Pairs, radii: list[Array]) -> Pairs:
        """The pairs with exact distances where the bounds leave one of the squared radii (P,) undecided."""
        unsure = np.zeros(len(pairs.x), dtype=bool)
        for squared in radii:
            unsure |= (pairs.low <= squared) & (squared <= pairs.high)
        exact = self.exact(pairs.x[unsure], pairs.y[unsure])
        low, high = pairs.low.copy(), pairs.high.copy()
        low[unsure] = high[unsure] = exact
        return pairs._replace(low=low, high=high)


def crossing(x: NDArray[Any], y: NDArray[Any], balls: Mapping[str, Balls]) -> tuple[dict[str, Counts], Nearest]:
    """Which points of two sets x (N, D), y (M, D) lie in which balls of the other, and of each x the nearest y."""
    bounds = Bounds(x, y)
    counts = {name: Counts(np.zeros(len(x), np.int64), np.zeros(len(y), np.int64)) for name in balls}
    nearest = Nearest(np.zeros(len(x), np.intp), np.zeros(len(x)))
    thresholds = {of: _thresholds([b.squared for b in balls.values() if b.of == of], bounds) for of in ("x", "y")}
    for start, upper in bounds.blocks():
        rows = slice(start, start + len(upper))
        _find_nearest(bounds, start, upper, nearest)
        for of, least in thresholds.items():
            if least is None:
                continue
            pairs = bounds.within(start, upper, least[rows, None] if of == "x" else least)
            _count(bounds, pairs, {n: b for n, b in balls.items() if b.of == of}, counts)
    return counts, nearest


def others(rows: NDArray[Any], k: int) -> Others:
    """The k nearest other rows of each row (M, D), M > k; of equally near ones those with the lower numbers."""
    bounds, which, squared = Bounds(rows, rows), [], []
    at = bounds.at
    for start, upper in bounds.blocks():
        local = np.arange(len(upper))
        upper[at.put(local), at.put(start + local)] = -np.inf
        kth = at.get(at.kth_largest(upper, k))
        largest = np.full(len(upper), -np.inf)
        likely = bounds.within(start, upper, kth[:, None])
        np.maximum.at(largest, likely.x - start, likely.high)  # k rows are at most this far
        found = bounds.within(start, upper, _below(-0.5 * largest * bounds.scale**2)[:, None])
        distance = bounds.exact(found.x, found.y)
        order = np.lexsort((found.y, distance, found.x))
        first = np.searchsorted(found.x[order], start + local)[:, None] + np.arange(k)
        which.append(found.y[order][first])
        squared.append(distance[order][first])
    return Others(np.concatenate(which), np.concatenate(squared))


def _find_nearest(bounds: Bounds, start: int, upper: Block, nearest: Nearest) -> None:
    """Writes the nearest row y of a block's rows x."""
    local, best = np.arange(len(upper)), upper.argmax(1)
    highest = bounds.at.get(upper[bounds.at.put(local), best])
    squares = bounds.squares[0][start + local] + bounds.squares[1][bounds.at.get(best)]
    margin = 2 * bounds.error * squares + 4 * _FLOOR
    found = bounds.within(start, upper, _below(highest.astype(np.float64) - margin)[:, None])
    distance = bounds.exact(found.x, found.y)
    order = np.lexsort((found.y, distance, found.x))
    first = np.searchsorted(found.x[order], start + local)
    nearest.which[start + local], nearest.squared[start + local] = found.y[order][first], distance[order][first]


def _count(bounds: Bounds, pairs: Pairs, balls: Mapping[str, Balls], counts: dict[str, Counts]) -> None:
    """Adds the pairs inside the balls."""
    radii = {name: b.squared[pairs.x if b.of == "x" else pairs.y] for name, b in balls.items()}
    pairs = bounds.decided(pairs, list(radii.values()))
    for name, b in balls.items():
        within = pairs.high < radii[name] if b.open else pairs.high <= radii[name]
        for total, numbers in zip(counts[name], (pairs.x, pairs.y), strict=True):
            total += np.bincount(numbers[within], minlength=len(total))


def _thresholds(squared: list[Array], bounds: Bounds) -> NDArray[np.float32] | None:
    """The bounds from which on a pair may lie in one of the balls; None when there are none."""
    return _below(-0.5 * np.max(squared, axis=0) * bounds.scale**2) if squared else None


def _below(values: Array) -> NDArray[np.float32]:
    """The values as float32, not rounded up."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def _squared_norms(rows: NDArray[Any], origin: Array) -> Array:
    parts = (rows[i : i + ROW_BLOCK] - origin for i in range(0, len(rows), ROW_BLOCK))
    return np.concatenate([np.einsum("nd,nd->n", part, part) for part in parts])


def _single(rows: NDArray[Any], origin: Array, scale: float) -> NDArray[np.float32]:
    """Rows (N, D) minus the origin, scaled, as float32."""
    result = np.empty(rows.shape, dtype=np.float32)
    for i in range(0, len(rows), ROW_BLOCK):
        np.multiply(rows[i : i + ROW_BLOCK] - origin, scale, out=result[i : i + ROW_BLOCK], casting="same_kind")
    return result
