"""Neighbours in feature space: exact decisions at the speed of float32.

Products of float32 rows, centred and scaled, give an upper bound of -|x - y|^2 / 2 for every pair and, with the bound
of their rounding error (`products`), a lower one. Only pairs that the two bounds leave undecided are computed in
float64, from the difference of the rows. Which points lie in a ball, which row is nearest and how far it is are
therefore exactly the results of float64; `tests/metrics/test_nearest.py` plants ties and near-ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import Array
from genbench.metrics.computing import arithmetic
from genbench.metrics.parts import CACHED, in_threads, steps
from genbench.progress import alive

Numbers = NDArray[np.intp]
_PAIRS, _ROWS = 2**22, 512  # pairs of a block, and its least rows: with fewer, products take twice the time
_TEMPORARIES = 6  # values of 4 bytes for each pair: the bounds, a copy, a mask, numbers of chosen pairs
_KEPT = 2**26  # pairs of a set with itself that are in memory together
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
    """Upper bounds of -|x - y|^2 / 2 between rows x (N, D) and y (M, D), in scaled units, a block at a time.

    y: None for the pairs of x with itself. Few rows' products are in memory together (`whole`), computed once and
    copied; of more rows, parts have each pair once (`once`).
    """

    def __init__(self, x: NDArray[Any], y: NDArray[Any] | None = None) -> None:
        others = x if y is None else y
        origin = others.mean(axis=0, dtype=np.float64)
        self.at, self.rows = arithmetic(double=False), (x, others)
        fits = len(x) ** 2 <= _KEPT and len(x) <= self.at.most(4 * len(x))
        self.whole, self.once = y is None and fits, y is None and not fits and self.at.halves_pairs
        self.error = self.at.kind.error(x.shape[1])
        self.squares = tuple(_squared_norms(rows, origin) for rows in self.rows)
        largest = max(float(s.max(initial=0.0)) for s in self.squares)
        self.scale = 2.0 ** -np.ceil(np.log2(largest) / 2) if largest > 0 else 1.0
        self.squares = tuple(s * self.scale**2 for s in self.squares)
        self.left = self.at.coarse_rows(_single(x, origin, self.scale))
        self.right = self.left if y is None else self.at.coarse_rows(_single(y, origin, self.scale))
        self.halves = tuple(self.at.put((-(0.5 - self.error) * s + _FLOOR).astype(np.float32)) for s in self.squares)

    def each(self, work: Callable[[int, int, Block], None]) -> None:
        """Calls work with the numbers of the first rows x and y of a part of the pairs and their bounds, for all parts.

        A part has some rows x and all rows y, or, with `once`, all from the first row x on: the transposed pairs of
        those after the last row x are in no part. On the CPU in threads: of what work writes, no two parts may share
        anything without a lock.
        """
        n, m = (len(rows) for rows in self.rows)
        whole = self.at.coarse_own(self.left) if self.whole else None
        for block in self.at.blocks(n, max(_ROWS, _PAIRS // m), 4 * (_TEMPORARIES * m + self.rows[0].shape[1])):
            alive()
            first = block.start if self.once else 0
            products = self.at.coarse(self.left[block], self.right[first:]) if whole is None else whole[block]
            self.at.share(products, lambda rows: work(*self._finished(products, block.start, first, rows)))  # noqa: B023

    def _finished(self, products: Block, start: int, first: int, rows: slice) -> tuple[int, int, Block]:
        """The first rows x and y, and the bounds of some rows of a block of products, which are overwritten.

        start, first: the rows x and y of the block's first product.
        """
        before = rows.start if self.once else 0
        upper = products[rows, before:]
        upper += self.halves[0][start + rows.start : start + rows.stop, None]
        upper += self.halves[1][first + before :]
        return start + rows.start, first + before, upper

    def within(self, start: int, first: int, upper: Block, least: NDArray[np.float32]) -> Pairs:
        """The pairs of a part whose bounds are at least these: (B, 1) or (M,)."""
        flat, bounds = self.at.chosen(upper, upper >= self.at.put(least))
        x, y = np.divmod(flat, upper.shape[1])
        low, x, y = -2.0 * bounds.astype(np.float64), x + start, y + first
        margin = 4 * self.error * (self.squares[0][x] + self.squares[1][y]) + 8 * _FLOOR
        return Pairs(x, y, low / self.scale**2, (low + margin) / self.scale**2)

    def least(self, squared: Array) -> NDArray[np.float32]:
        """The bounds from which on a pair may be at most as far as these squared distances."""
        return np.maximum(_below(-0.5 * squared * self.scale**2), np.finfo(np.float32).min)

    def exact(self, x: Numbers, y: Numbers) -> Array:
        """Squared distances (P,) of pairs of rows in float64, from their differences: 0 for equal rows."""
        result = np.empty(len(x))
        for part in steps(len(x), CACHED // self.rows[0].shape[1]):
            difference = np.subtract(self.rows[0][x[part]], self.rows[1][y[part]], dtype=np.float64)
            np.einsum("pd,pd->p", difference, difference, out=result[part])
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
    adding = Lock()

    def judge(start: int, first: int, upper: Block) -> None:
        rows = slice(start, start + len(upper))
        _find_nearest(bounds, start, upper, nearest)
        for of, least in thresholds.items():
            if least is not None:
                pairs = bounds.within(start, first, upper, least[rows, None] if of == "x" else least)
                inside = _inside(bounds, pairs, {n: b for n, b in balls.items() if b.of == of})
                with adding:
                    _add(inside, counts)

    bounds.each(judge)
    return counts, nearest


def others(rows: NDArray[Any], k: int) -> Others:
    """The k nearest other rows of each row (M, D), M > k; of equally near ones those with the lower numbers."""
    bounds, n = Bounds(rows), len(rows)
    result, keeping = Others(np.full((n, k), n, np.intp), np.full((n, k), np.inf)), Lock()

    def find(start: int, first: int, upper: Block) -> None:
        stop, local = start + len(upper), bounds.at.put(np.arange(len(upper)))
        upper[local, start - first + local] = -np.inf
        found = [_likely(bounds, start, first, upper, result, "x")]
        if bounds.once and stop < n:
            found.append(_likely(bounds, start, stop, upper[:, stop - first :], result, "y"))
        for of, near in found:
            distance = bounds.exact(of, near)
            with keeping:
                _keep(result, of, near, distance)

    bounds.each(find)
    return result


def _likely(bounds: Bounds, start: int, first: int, upper: Block, known: Others, of: str) -> tuple[Numbers, Numbers]:
    """Pairs (P,), (P,) of a row and one that may be among its nearest others; of: "x" or "y", whose rows."""
    k = known.squared.shape[1]
    begin, turned, shape = (start, upper, (-1, 1)) if of == "x" else (first, upper.T, (-1,))
    farthest = known.squared[begin : begin + len(turned), -1]
    if np.isinf(farthest).any() and turned.shape[1] > k:
        kth = bounds.at.get(bounds.at.kth_largest(turned, k))
        pairs = bounds.within(start, first, upper, kth.reshape(shape))
        numbers = (pairs.x if of == "x" else pairs.y) - begin
        farthest = np.minimum(farthest, _largest(pairs.high, numbers, len(farthest)))  # k rows are at most this far
    pairs = bounds.within(start, first, upper, bounds.least(farthest).reshape(shape))
    return (pairs.x, pairs.y) if of == "x" else (pairs.y, pairs.x)


def _largest(values: Array, numbers: Numbers, n: int) -> Array:
    """Of the values (P,) with each of n numbers the largest (n,)."""
    result = np.full(n, -np.inf)
    np.maximum.at(result, numbers, values)
    return result


def _keep(known: Others, of: Numbers, near: Numbers, squared: Array) -> None:
    """Adds pairs of a row and another one (P,), (P,), with squared distances (P,), to the nearest that are known."""
    rows, k = np.unique(of), known.squared.shape[1]
    numbers = np.concatenate([np.repeat(rows, k), of])
    which = np.concatenate([known.which[rows].ravel(), near])
    distance = np.concatenate([known.squared[rows].ravel(), squared])
    order = np.lexsort((which, distance, numbers))
    first = np.searchsorted(numbers[order], rows)[:, None] + np.arange(k)
    known.which[rows], known.squared[rows] = which[order][first], distance[order][first]


def _find_nearest(bounds: Bounds, start: int, upper: Block, nearest: Nearest) -> None:
    """Writes the nearest row y of a block's rows x."""
    local, best = np.arange(len(upper)), upper.argmax(1)
    highest = bounds.at.get(upper[bounds.at.put(local), best])
    squares = bounds.squares[0][start + local] + bounds.squares[1][bounds.at.get(best)]
    margin = 2 * bounds.error * squares + 4 * _FLOOR
    found = bounds.within(start, 0, upper, _below(highest.astype(np.float64) - margin)[:, None])
    distance = bounds.exact(found.x, found.y)
    order = np.lexsort((found.y, distance, found.x))
    first = np.searchsorted(found.x[order], start + local)
    nearest.which[start + local], nearest.squared[start + local] = found.y[order][first], distance[order][first]


def _inside(bounds: Bounds, pairs: Pairs, balls: Mapping[str, Balls]) -> dict[str, tuple[Numbers, Numbers]]:
    """The numbers of the rows x (P,) and y (P,) of the pairs inside the balls, by the balls' names."""
    radii = {name: b.squared[pairs.x if b.of == "x" else pairs.y] for name, b in balls.items()}
    pairs = bounds.decided(pairs, list(radii.values()))
    within = {n: pairs.high < radii[n] if b.open else pairs.high <= radii[n] for n, b in balls.items()}
    return {name: (pairs.x[hit], pairs.y[hit]) for name, hit in within.items()}


def _add(inside: Mapping[str, tuple[Numbers, Numbers]], counts: dict[str, Counts]) -> None:
    """Adds pairs to the counts."""
    for name, pairs in inside.items():
        for total, numbers in zip(counts[name], pairs, strict=True):
            total += np.bincount(numbers, minlength=len(total))


def _thresholds(squared: list[Array], bounds: Bounds) -> NDArray[np.float32] | None:
    """The bounds from which on a pair may lie in one of the balls; None when there are none."""
    return bounds.least(np.max(squared, axis=0)) if squared else None


def _below(values: Array) -> NDArray[np.float32]:
    """The values as float32, not rounded up."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def _squared_norms(rows: NDArray[Any], origin: Array) -> Array:
    """|x - origin|^2 of rows (N, D): (N,)."""
    result = np.empty(len(rows))

    def compute(part: slice) -> None:
        centred = rows[part] - origin
        np.einsum("nd,nd->n", centred, centred, out=result[part])

    in_threads(len(rows), compute, CACHED // len(origin))
    return result


def _single(rows: NDArray[Any], origin: Array, scale: float) -> NDArray[np.float32]:
    """Rows (N, D) minus the origin, scaled, as float32."""
    result = np.empty(rows.shape, dtype=np.float32)

    def compute(part: slice) -> None:
        np.multiply(rows[part] - origin, scale, out=result[part], casting="same_kind")

    in_threads(len(rows), compute, CACHED // len(origin))
    return result
