"""How images fit the texts that they were drawn for, by a network that embeds both, such as CLIP.

    clip_score       2.5 max(cos(image, text), 0), averaged over images (Hessel et al. 2021, eq. 1)
    clip_agreement   share of images whose own text is more similar than every other candidate: R-precision with R = 1
                     (Xu et al. 2018, section 4.1, with CLIP in place of their network, as Park et al. 2021)

Others report the mean cosine, which is clip_score / 2.5, or 100 times it (torchmetrics: 40 clip_score), where no cosine
is negative. The paper puts "A photo depicts" before each text; here texts are compared as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import Degenerate, GenbenchError
from genbench.metrics.arrays import ROW_BLOCK, Array, matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.manifold import share
from genbench.metrics.means import mean_interval
from genbench.metrics.parts import CACHED, steps
from genbench.metrics.readings import PROMPTS

WEIGHT = 2.5
OTHERS, SEED = 99, 0  # texts that an image's own text competes with, at most, and the seed of their choice
_BLOCK = 2**24  # similarities at a time
_TEMPORARIES = 4  # float64 values in memory for each of them, and for each value of a block of rows


def _embedded(fake: Any, texts: Any, which: Any) -> tuple[Array, Array, NDArray[np.int64]]:
    """Embeddings of length 1, and the number of each image's text. Raises as clip_score."""
    x, y = _directions("fake", fake), _directions("texts", texts)
    if x.shape[1] != y.shape[1]:
        raise GenbenchError(f"fake has {x.shape[1]} features a row and texts {y.shape[1]}; must agree")
    numbers = np.arange(len(x)) if which is None else np.asarray(which)
    if numbers.shape != (len(x),) or numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= len(y):
        raise GenbenchError(
            f"which: found {numbers.dtype} of shape {numbers.shape}, allowed: {len(x)} numbers of texts"
        )
    return x, y, numbers.astype(np.int64)


def _directions(name: str, rows: Any) -> Array:
    array = matrix(name, rows, least=1)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise Degenerate(f"{int((lengths == 0).sum())} of {len(array)} {name} rows are all zero: no direction")
    return array / lengths


def clip_terms(fake: Any, texts: Any, which: Any) -> Array:
    """Each image's CLIPScore (N,)."""
    (x, y, numbers), at = _embedded(fake, texts, which), arithmetic()
    parts = at.blocks(len(x), ROW_BLOCK, 8 * _TEMPORARIES * x.shape[1])
    cosines = np.concatenate([at.row_products(at.put(x[part]), at.put(y[numbers[part]])) for part in parts])
    return WEIGHT * np.maximum(cosines, 0)


def clip_score(*, fake: Any, texts: Any, which: Any = None) -> float:
    """Mean CLIPScore of image embeddings fake (N, D) and text embeddings texts (P, D), of any length; 0..2.5.

    which (N,): the number of each image's text; default: image i has text i. Raises GenbenchError for shapes that do
    not fit, Degenerate for a row of zeros, CellFailure for values that are not finite.

        metrics.clip_score(fake=[[3.0, 0.0], [0.0, 1.0]], texts=[[2.0, 0.0], [0.0, -1.0]])  # 1.25
    """
    return float(clip_terms(fake, texts, which).mean())


def nearest_is_own(fake: Any, texts: Any, which: Any, others: int = OTHERS, seed: int = SEED) -> NDArray[np.bool_]:
    """Whether each image's own text is more similar than all candidates: (N,); a tie counts as no.

    Candidates are all other texts; of more than `others`, a random choice of that many for each image.
    """
    x, y, own = _embedded(fake, texts, which)
    shifts = np.arange(1, len(y))
    if len(shifts) > others:
        shifts = np.random.default_rng(seed).choice(shifts, others, replace=False)
    candidates = np.column_stack([own, (own[:, None] + shifts) % len(y)])
    at, hits = arithmetic(), np.empty(len(x), dtype=bool)
    there, unsure = at.rows(y), 2 * (x.shape[1] + 2) * np.finfo(np.float64).eps
    for part in at.blocks(len(x), max(1, _BLOCK // len(y)), 8 * (_TEMPORARIES * len(y) + x.shape[1])):
        lead = _lead(at.picked(at.products(at.rows(x[part]), there), candidates[part]))
        hits[part] = lead > 0
        close = part.start + np.flatnonzero(np.abs(lead) <= unsure)
        hits[close] = _leads_exactly(x[close], y, candidates[close])
    return hits


def _lead(similar: Array) -> Array:
    """The first similarity minus the largest of the others (N, C): (N,)."""
    return np.asarray(similar[:, 0] - similar[:, 1:].max(axis=1, initial=-np.inf))


def _leads_exactly(x: Array, y: Array, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether x is most similar to its first candidate, with every sum in the same order: equal texts tie."""
    parts = steps(len(x), CACHED // max(1, candidates.shape[1] * x.shape[1]))
    similar = [np.einsum("nd,ncd->nc", x[part], y[candidates[part]]) for part in parts]
    return np.concatenate([_lead(s) > 0 for s in similar]) if similar else np.zeros(0, dtype=bool)


def clip_agreement(*, fake: Any, texts: Any, which: Any = None) -> float:
    """Share of images (N, D) whose own text is nearest among texts (P, D), or among it and 99 others; 0..1.

    Random images score 1 / min(P, 100). Arguments and errors as `clip_score`.

        metrics.clip_agreement(fake=[[3.0, 0.0], [1.0, 1.1]], texts=[[2.0, 0.0], [0.0, 1.0]])  # 1.00
    """
    return float(nearest_is_own(fake, texts, which).mean())


def _score(*, fake: Any, texts: Any, which: Any) -> Value:
    over = "generated images, for these prompts"
    return mean_interval(clip_terms(fake, texts, which), over, least=0.0, most=WEIGHT)


def _agreement(*, fake: Any, texts: Any, which: Any) -> Value:
    return share(nearest_is_own(fake, texts, which), "generated images, for these prompts")


PROMPTED = (
    Metric(
        "clip_score", "CLIPScore", 1, "higher", "2.5 cosine", PROMPTS, _score,
        abilities=("TextConditional",), least={"fake": 2},
        protocol={"value": "2.5 max(cosine, 0), averaged over images", "prefix": "none"},
        cannot_detect="Does not detect a lack of variety, nor errors that the network hardly sees: numbers, relations.",
    ),
    Metric(
        "clip_agreement", "Prompt agreement by CLIP", 1, "higher", "share", PROMPTS, _agreement,
        abilities=("TextConditional",), least={"fake": 2, "texts": 2},
        protocol={"candidates": f"own prompt and others, at most {OTHERS}, chosen with seed {SEED}", "ties": "missed"},
        cannot_detect="Does not detect images that fit the other prompts even less, nor a lack of variety.",
    ),
)  # fmt: skip
