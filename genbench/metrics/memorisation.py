"""Whether the model repeats its training images, judged by held-out images, which no model can have memorised.

d(x) is the Euclidean distance of x to its nearest train row, t(x) that row.

    memorised     share of generated x with d(x) at most the threshold: the r-th smallest d of the T held-out rows,
                  r = floor(alpha (T + 1)). A fresh draw from the data's distribution is that close with probability
                  r / (T + 1) <= alpha, for any distribution and features; copies score 1.
    authenticity  share of generated x with d(x) > distance of t(x) to its nearest other train row (Alaa et al. 2022).
                  Copies score 0, noise 1, and fresh draws 1/3 in one dimension, 0.38 in two, about a half
                  in many: more than that means that samples are far from the data, not that they are better.
    ct_score      C_T (Meehan, Chaudhuri and Dasgupta 2020): the Mann-Whitney statistic of generated against
                  held-out d as a standard score, about N(0, 1) for fresh draws; below 0 samples are closer to the
                  train images than held-out ones are. Above 0 they are farther, which is underfitting and is measured
                  by other metrics: this one shows min(C_T, 0), so that noise is not ranked above a good model.

alpha is 1 %. The score of a model that does not copy must be small compared with 1, the score of copies, and so must
its noise from the threshold, whose standard deviation is sqrt(alpha / T). A threshold exists for 99 held-out images or
more.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError, TooFewSamples
from genbench.metrics.arrays import Z95, Array, matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.manifold import DISTANCE_BLOCK, share, squared_distances
from genbench.metrics.readings import MEMORY

MEMORISED_ALPHA = 0.01
_LEAST_IN_CELL = 20  # the paper's tau, in generated samples


class Nearest(NamedTuple):
    """Of each row: which train row is nearest (N,) and how far it is (N,)."""

    which: NDArray[np.intp]
    distance: Array


class Separation(NamedTuple):
    """Mann-Whitney U of generated against held-out, as a standard score, with the score's own standard error."""

    u: float
    z: float
    error: float


def nearest_train_rows(rows: Array, train: Array, own: NDArray[np.intp] | None = None) -> Nearest:
    """The nearest train row (M, D) of each row (N, D); own (N,): the train row that a row itself is, not counted.

    Inner products find the row; its distance is then computed from the difference, so that a copy has exactly 0.
    """
    origin = train.mean(axis=0)
    rows, train = rows - origin, train - origin
    index = np.zeros(len(rows), dtype=np.intp)
    for start in range(0, len(rows), DISTANCE_BLOCK):
        block = squared_distances(rows[start : start + DISTANCE_BLOCK], train)
        if own is not None:
            block[np.arange(len(block)), own[start : start + DISTANCE_BLOCK]] = np.inf
        index[start : start + DISTANCE_BLOCK] = block.argmin(axis=1)
    distance = np.empty(len(rows))
    for start in range(0, len(rows), DISTANCE_BLOCK):
        part = slice(start, start + DISTANCE_BLOCK)
        distance[part] = np.linalg.norm(rows[part] - train[index[part]], axis=1)
    return Nearest(index, distance)


def _checked(train: Any, **others: Any) -> list[Array]:
    """Train and the others as float64, in order; raises as `arrays.matrix`, and GenbenchError when D differs."""
    train = matrix("train", train, 2)
    matrices = {name: matrix(name, rows, 1) for name, rows in others.items()}
    for name, rows in matrices.items():
        if rows.shape[1] != train.shape[1]:
            raise GenbenchError(f"{name} has {rows.shape[1]} features a row and train {train.shape[1]}; must agree")
    return [train, *matrices.values()]


def close_to_train(fake: Any, train: Any, held_out: Any, alpha: float) -> NDArray[np.bool_]:
    """Which fake rows (N,) are at most as far from train as the threshold."""
    if not 0 < alpha < 1:
        raise GenbenchError(f"alpha: found {alpha}, allowed: above 0 and below 1")
    train, fake, held_out = _checked(train, fake=fake, held_out=held_out)
    refuse_equal_rows("memorised", "train", train)
    rank = int(alpha * (len(held_out) + 1) + 1e-9)  # 0.07 * 100 must not fall below 7
    if rank < 1:
        least = math.ceil(1 / alpha) - 1
        raise TooFewSamples(f"held_out: found {len(held_out)} rows, allowed: at least {least}")
    threshold = np.sort(nearest_train_rows(held_out, train).distance)[rank - 1]
    return nearest_train_rows(fake, train).distance <= threshold


def memorised_share(*, fake: Any, train: Any, held_out: Any, alpha: float = MEMORISED_ALPHA) -> float:
    """Share of fake (N, D) closer to train (M, D) than all but about alpha of held_out (T, D); 0..1, copies score 1.

    Raises GenbenchError for shapes that do not fit; TooFewSamples for fewer than 1 / alpha - 1 held-out rows,
    Degenerate when all train rows are the same, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        train, held_out = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
        fake = np.concatenate([train[:50], rng.normal(size=(150, 4))])  # a quarter are copies
        metrics.memorised_share(fake=fake, train=train, held_out=held_out)  # 0.26
    """
    return float(close_to_train(fake, train, held_out, alpha).mean())


def memorised(*, fake: Any, train: Any, held_out: Any) -> Value:
    """memorised_share with Wilson's interval."""
    return share(close_to_train(fake, train, held_out, MEMORISED_ALPHA), "generated samples, the threshold fixed")


def authentic(fake: Any, train: Any) -> NDArray[np.bool_]:
    """Which fake rows (N,) are farther from their nearest train row than that row is from its own nearest other."""
    train, fake = _checked(train, fake=fake)
    refuse_equal_rows("authenticity", "train", train)
    neighbours = nearest_train_rows(fake, train)
    used, position = np.unique(neighbours.which, return_inverse=True)
    return neighbours.distance > nearest_train_rows(train[used], train, own=used).distance[position]


def authenticity_share(*, fake: Any, train: Any) -> float:
    """Share of fake rows (N, D) that are authentic against train (M, D), M >= 2; 0..1, copies score 0.

    Raises GenbenchError for shapes that do not fit, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        train = rng.normal(size=(300, 4))
        fake = np.concatenate([train[:50], rng.normal(size=(150, 4))])  # a quarter are copies
        metrics.authenticity_share(fake=fake, train=train)  # 0.41
    """
    return float(authentic(fake, train).mean())


def authenticity(*, fake: Any, train: Any, held_out: Any) -> Value:
    """authenticity_share with Wilson's interval; held_out is not used."""
    return share(authentic(fake, train), "generated samples, the train images fixed")


def separation(fake: Array, held_out: Array) -> Separation:
    """Mann-Whitney U of distances fake (N,) against held_out (T,): pairs with fake the larger, ties a half.

    z = (U - N T / 2) / sqrt(N T (N + T + 1) / 12), as in the paper: no correction for ties or continuity. Its
    standard error is DeLong's (1988), from the spread of each row's share of won pairs.
    """
    n, t = len(fake), len(held_out)
    won, kept = shares_above(fake, held_out), shares_above(held_out, fake)
    scale = n * t / np.sqrt(n * t * (n + t + 1) / 12)
    variance = won.var(ddof=1) / n + kept.var(ddof=1) / t if min(n, t) > 1 else 0.0
    return Separation(float(won.sum() * t), float((won.mean() - 0.5) * scale), float(np.sqrt(variance) * scale))


def shares_above(these: Array, others: Array) -> Array:
    """For each of these values the share of the others that are below it, ties counting a half."""
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, these, "left"), np.searchsorted(ordered, these, "right")
    return (below + up_to) / (2 * len(others))


def cells_of(train: Array, others: tuple[Array, ...], n_cells: int, seed: int) -> list[NDArray[np.int32]]:
    """The k-means cell of each row of train and of the others, cells fitted to train."""
    if n_cells == 1:
        return [np.zeros(len(rows), dtype=np.int32) for rows in (train, *others)]
    from sklearn.cluster import KMeans  # late: importing takes a second, and one cell does not need it

    clusters = KMeans(n_cells, n_init=10, random_state=seed).fit(train)
    return [clusters.labels_, *(clusters.predict(rows) for rows in others)]


def cell_average(fake: Any, train: Any, held_out: Any, n_cells: int, seed: int) -> tuple[float, float]:
    """C_T and its standard error for fixed cells."""
    train, fake, held_out = _checked(train, fake=fake, held_out=held_out)
    refuse_equal_rows("ct_score", "train", train)
    if not 1 <= n_cells <= len(train):
        raise GenbenchError(f"n_cells: found {n_cells}, allowed: 1..{len(train)} (the number of train rows)")
    of_train, of_fake, of_held_out = cells_of(train, (fake, held_out), n_cells, seed)
    weights, separations = [], []
    for cell in range(n_cells):
        mine, theirs, centre = fake[of_fake == cell], held_out[of_held_out == cell], train[of_train == cell]
        if len(mine) < _LEAST_IN_CELL or not len(theirs):
            continue
        weights.append(len(theirs))
        distances = (nearest_train_rows(rows, centre).distance for rows in (mine, theirs))
        separations.append(separation(*distances))
    if not separations:
        raise TooFewSamples(f"ct_score: no cell holds {_LEAST_IN_CELL} generated samples and a held-out one")
    w = np.array(weights) / sum(weights)
    return float(w @ [s.z for s in separations]), float(np.linalg.norm(w * [s.error for s in separations]))


def ct_score(*, fake: Any, train: Any, held_out: Any, n_cells: int = 1, seed: int = 0) -> float:
    """C_T of fake (N, D) against held_out (T, D), both by their distance to train (M, D), with its sign.

    n_cells: 1 compares all rows at once. More: k-means cells of train (seed), each row measured against the train rows
    of its cell, z averaged by share of held-out rows over cells with at least 20 fake rows, as in the paper.
    Raises GenbenchError for shapes that do not fit or n_cells outside 1..M; CellFailure for values that are not finite
    or when no cell has enough rows.

        rng = np.random.default_rng(0)
        train, held_out = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
        fake = np.concatenate([train[:50], rng.normal(size=(150, 4))])  # a quarter are copies
        metrics.ct_score(fake=fake, train=train, held_out=held_out)  # -4.30
    """
    return cell_average(fake, train, held_out, n_cells, seed)[0]


def copying_side(*, fake: Any, train: Any, held_out: Any) -> Value:
    """min(C_T, 0) over all rows at once, with an interval over generated and held-out samples, the train rows fixed."""
    z, error = cell_average(fake, train, held_out, 1, 0)
    if error == 0.0:  # every sample on the same side of every held-out one: no spread to judge by
        return Value(min(z, 0.0))
    lo, hi = min(z - Z95 * error, 0.0), min(z + Z95 * error, 0.0)
    how = "normal 95 %: +- 1.96 standard errors (DeLong) over generated and held-out samples, cut at 0"
    return Value(min(z, 0.0), lo, hi, how)


_PROTOCOL = {"distance": "Euclidean, nearest train row", "arithmetic": "float64"}

MEMORISATION = (
    Metric(
        "memorised", "Memorised", 1, "lower", "share", MEMORY, memorised,
        protocol={
            "alpha": MEMORISED_ALPHA,
            "threshold": "floor(alpha (T + 1))-th smallest of T held-out distances",
            **_PROTOCOL,
        },
        least={"train": 2, "held_out": math.ceil(1 / MEMORISED_ALPHA) - 1},
        cannot_detect="Does not detect copies with other features than the original, nor bad samples: noise scores 0.",
    ),
    Metric(
        "authenticity", "Authenticity", 1, "higher", "share", MEMORY, authenticity, protocol=_PROTOCOL,
        least={"train": 2},
        cannot_detect="Does not detect copies with other features than the original, nor bad samples: noise scores 1.",
    ),
    Metric(
        "ct_score", "C_T below 0", 1, "higher", "standard score", MEMORY, copying_side,
        protocol={"cells": 1, "above_0": "shown as 0: underfitting is not copying", **_PROTOCOL},
        least={"train": 2, "held_out": 1, "fake": _LEAST_IN_CELL},
        cannot_detect="Does not detect a few copies among samples that are far from the data.",
    ),
)  # fmt: skip
