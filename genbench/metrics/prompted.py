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
from genbench.metrics.arrays import Array, matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.bootstrap import mean_interval
from genbench.metrics.manifold import share
from genbench.metrics.readings import PROMPTS

WEIGHT = 2.5
OTHERS, SEED = 99, 0  # texts that an image's own text competes with, at most, and the seed of their choice
_BLOCK = 2**24  # similarities at a time


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
    x, y, numbers = _embedded(fake, texts, which)
    return WEIGHT * np.maximum((x * y[numbers]).sum(1), 0)


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
    steps = np.arange(1, len(y))
    if len(steps) > others:
        steps = np.random.default_rng(seed).choice(steps, others, replace=False)
    hits, size = [], max(1, _BLOCK // len(y))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        similar, mine = x[rows] @ y.T, own[rows, None]
        rivals = np.take_along_axis(similar, (mine + steps) % len(y), axis=1)
        hits.append(np.take_along_axis(similar, mine, axis=1)[:, 0] > rivals.max(axis=1, initial=-np.inf))
    return np.concatenate(hits)


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
