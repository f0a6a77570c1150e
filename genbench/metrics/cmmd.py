"""CMMD: kernel distance of CLIP embeddings under a Gaussian kernel (Jayasumana et al. 2024, section 4).

    CMMD = 1000 (mean_{i, j} k(f_i, f_j) + mean_{i, j} k(r_i, r_j) - 2 mean_{i, j} k(f_i, r_j))
    k(x, y) = exp(-|x - y|^2 / (2 sigma^2)),  sigma = 10,  embeddings of length 1

As in the released code, the first two means include i = j: the value is never negative, 0 for identical sets, and
biased upwards by about 1000 (1 - k) / n at n samples. The paper's CLIP is clip-vit-l-14-336px.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import Array, Known, checked_pair, checked_rows
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.gram import PairSums, Rows, across_sums, own_sums, single
from genbench.metrics.kernel import Estimate, with_second_order
from genbench.metrics.readings import CLIP

SIGMA, SCALE = 10.0, 1000.0


def gaussian(g: Block) -> None:
    """Writes K - 1 over inner products g (B, M) of rows of length 1; the constant cancels in the distance."""
    g -= 1
    g *= 1 / SIGMA**2
    arithmetic().expm1(g)


def embeddings(name: str, rows: Any) -> Rows:
    """Rows (N, D) divided by their lengths, float32; Degenerate when one is all zero."""
    array = checked_rows(name, rows, least=2)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    if not norms.all():
        raise Degenerate(f"cmmd: {int((norms == 0).sum())} of {len(array)} {name} rows are all zero: no direction")
    return single(array / norms)


def all_means(x: Rows) -> PairSums:
    """Means over all rows, the row itself included, of k(x_i, x_j) - 1; the squares as `own_sums`."""
    sums = own_sums(x, gaussian)  # k_ii - 1 is 0
    return sums._replace(rows=sums.rows / len(x))


def reference_similarity_of_clip(real: Any) -> dict[str, Array]:
    """Mean of k(r_i, r_j) - 1 over a reference (M, D), which `cmmd` takes as `known`: ()."""
    return {"mean": np.asarray(all_means(embeddings("real", real)).rows.mean())}


def _estimate(fake: Any, real: Any, known: Known = None) -> Estimate:
    fake, real = checked_pair(fake, real)
    refuse_equal_rows("cmmd", "reference", real)
    x, y = embeddings("fake", fake), embeddings("real", real)
    within, across = all_means(x), across_sums(x, y, gaussian).rows / len(y)
    among_real = known["mean"] if known else all_means(y).rows.mean()
    return Estimate(max(0.0, float(within.rows.mean() + among_real - 2 * across.mean())), within, across)


def clip_kernel_distance(*, fake: Any, real: Any) -> float:
    """CMMD of CLIP embeddings fake (N, D) and real (M, D), of any length; 0 is best, never negative.

    Raises GenbenchError for shapes that do not fit or fewer than two rows; Degenerate when all rows of real are the
    same or one is all zero, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.clip_kernel_distance(fake=fake, real=real)  # 1.56
    """
    return SCALE * _estimate(fake, real).value


def cmmd(*, fake: Any, real: Any, known: Known = None) -> Value:
    """clip_kernel_distance with the interval of `kid`, cut at 0; known: `reference_similarity_of_clip`.

    TooFewSamples for fewer than 4 generated samples.
    """
    if len(fake) < 4:
        raise TooFewSamples(f"cmmd: {len(fake)} generated samples; needs at least 4")
    return with_second_order(_estimate(fake, real, known), SCALE, least=0.0)


CMMD = Metric(
    name="cmmd",
    title="CMMD",
    version=1,
    better="lower",
    unit="1000 MMD^2",
    reads=CLIP,
    compute=cmmd,
    least={"fake": 4, "real": 2},
    protocol={
        "kernel": f"exp(-|x - y|^2 / (2 * {SIGMA:g}^2)), embeddings of length 1",
        "estimator": "all pairs, each row with itself too, times 1000",
        "arithmetic": "float32 products, float64 sums",
    },
    of_reference=OfReference("mean of CMMD's kernel - 1 over pairs", reference_similarity_of_clip),
    cannot_detect="Does not detect what CLIP does not encode, such as fine texture, nor copies of train images.",
)
