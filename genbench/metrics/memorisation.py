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
from genbench.metrics.arrays import Z95, Array, checked_rows
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.manifold import share
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.readings import MEMORY

MEMORISED_ALPHA = 0.01
_LEAST_IN_CELL = 20  # the paper's tau, in generated samples


class Separation(NamedTuple):
    """Mann-Whitney U of generated against held-out, as a standard score, with the score's own standard error."""

    u: float
    z: float
    error: float


def _checked(train: Any, **others: Any) -> list[NDArray[Any]]:
    """Train and the others, in order; raises as `arrays.checked_rows`, and GenbenchError when D differs."""
    train = checked_rows("train", train, 2)
    checked = {name: checked_rows(name, rows, 1) for name, rows in others.items()}
    for name, rows in checked.items():
        if rows.shape[1] != train.shape[1]:
            raise GenbenchError(f"{name} has {rows.shape[1]} features a row and train {train.shape[1]}; must agree")
    return [train, *checked.values()]


def close_to_train(
    fake: Any, train: Any, held_out: Any, alpha: float, near: NeighbourPass | None = None
) -> NDArray[np.bool_]:
    """Which fake rows (N,) are at most as far from train as the threshold; near: of fake and train, made if None."""
    if not 0 < alpha < 1:
        raise GenbenchError(f"alpha: found {alpha}, allowed: above 0 and below 1")
    train, fake, held_out = _checked(train, fake=fake, held_out=held_out)
    refuse_equal_rows("memorised", "train", train)
    rank = int(alpha * (len(held_out) + 1) + 1e-9)  # 0.07 * 100 must not fall below 7
    if rank < 1:
        least = math.ceil(1 / alpha) - 1
        raise TooFewSamples(f"held_out: found {len(held_out)} rows, allowed: at least {least}")
    near = near or NeighbourPass(fake, train)
    threshold = np.sort(near.nearest_to(held_out).squared)[rank - 1]
    return np.asarray(near.nearest.squared <= threshold)


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


def memorised(*, fake: Any, train: Any, held_out: Any, near: NeighbourPass | None = None) -> Value:
    """memorised_share with Wilson's interval; near: the row's pass over fake and train, made if not given."""
    return share(close_to_train(fake, train, held_out, MEMORISED_ALPHA, near), "generated samples, the threshold fixed")


def authentic(fake: Any, train: Any, near: NeighbourPass | None = None) -> NDArray[np.bool_]:
    """Which fake rows (N,) are farther from their nearest train row than that row is from its own nearest other."""
    train, fake = _checked(train, fake=fake)
    refuse_equal_rows("authenticity", "train", train)
    near = near or NeighbourPass(fake, train, (1,))
    return np.asarray(near.nearest.squared > near.radii("real", 1)[near.nearest.which])


def authenticity_share(*, fake: Any, train: Any) -> float:
    """Share of fake rows (N, D) that are authentic against train (M, D), M >= 2; 0..1, copies score 0.

    Raises GenbenchError for shapes that do not fit, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        train = rng.normal(size=(300, 4))
        fake = np.concatenate([train[:50], rng.normal(size=(150, 4))])  # a quarter are copies
        metrics.authenticity_share(fake=fake, train=train)  # 0.41
    """
    return float(authentic(fake, train).mean())


def authenticity(*, fake: Any, train: Any, held_out: Any, near: NeighbourPass | None = None) -> Value:
    """authenticity_share with Wilson's interval; held_out is not used; near as in `memorised`."""
    return share(authentic(fake, train, near), "generated samples, the train images fixed")


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


def cell_average(
    fake: Any, train: Any, held_out: Any, n_cells: int, seed: int, near: NeighbourPass | None = None
) -> tuple[float, float]:
    """C_T and its standard error for fixed cells; near: of fake and train, for a single cell."""
    train, fake, held_out = _checked(train, fake=fake, held_out=held_out)
    refuse_equal_rows("ct_score", "train", train)
    if not 1 <= n_cells <= len(train):
        raise GenbenchError(f"n_cells: found {n_cells}, allowed: 1..{len(train)} (the number of train rows)")
    of_train, of_fake, of_held_out = cells_of(train, (fake, held_out), n_cells, seed)
    weights, separations = [], []
    for cell in range(n_cells):
        mine, theirs = fake[of_fake == cell], held_out[of_held_out == cell]
        if len(mine) < _LEAST_IN_CELL or not len(theirs):
            continue
        weights.append(len(theirs))
        here = near or NeighbourPass(mine, train[of_train == cell])
        separations.append(separation(here.nearest.squared, here.nearest_to(theirs).squared))
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


def copying_side(*, fake: Any, train: Any, held_out: Any, near: NeighbourPass | None = None) -> Value:
    """min(C_T, 0) over all rows at once, with an interval over generated and held-out samples, the train rows fixed.

    near: as in `memorised`. TooFewSamples for fewer than 20 generated samples.
    """
    z, error = cell_average(fake, train, held_out, 1, 0, near)
    if error == 0.0:  # every sample on the same side of every held-out one: no spread to judge by
        return Value(min(z, 0.0))
    lo, hi = min(z - Z95 * error, 0.0), min(z + Z95 * error, 0.0)
    how = "normal 95 %: +- 1.96 standard errors (DeLong) over generated and held-out samples, cut at 0"
    return Value(min(z, 0.0), lo, hi, how)


_PROTOCOL = {"distance": "Euclidean, nearest train row", "arithmetic": "decisions as in float64"}

MEMORISATION = (
    Metric(
        "memorised", "Memorised", 2, "lower", "share", MEMORY, memorised,
        protocol={
            "alpha": MEMORISED_ALPHA,
            "threshold": "floor(alpha (T + 1))-th smallest of T held-out distances",
            **_PROTOCOL,
        },
        least={"train": 2, "held_out": math.ceil(1 / MEMORISED_ALPHA) - 1},
        cannot_detect="Does not detect copies with other features than the original, nor bad samples: noise scores 0.",
    ),
    Metric(
        "authenticity", "Authenticity", 2, "higher", "share", MEMORY, authenticity, protocol=_PROTOCOL,
        least={"train": 2},
        cannot_detect="Does not detect copies with other features than the original, nor bad samples: noise scores 1.",
    ),
    Metric(
        "ct_score", "C_T below 0", 2, "higher", "standard score", MEMORY, copying_side,
        protocol={"cells": 1, "above_0": "shown as 0: underfitting is not copying", **_PROTOCOL},
        least={"train": 2, "held_out": 1, "fake": _LEAST_IN_CELL},
        cannot_detect="Does not detect a few copies among samples that are far from the data.",
    ),
)  # fmt: skip
