"""Whether samples show the requested class: the share that the frozen classifier assigns to it.

The request is a class label (class_accuracy) or a text that names a class (prompt_agreement). Both are the same
computation under two names, so that models with different kinds of request are not ranked together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arrays import matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.manifold import share
from genbench.metrics.readings import CONDITION


def class_numbers(name: str, labels: Any, n: int) -> NDArray[np.int64]:
    """Labels (n,) as int64; raises GenbenchError for another shape, a fraction or a negative number."""
    array = np.asarray(labels)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise GenbenchError(f"{name}: found {array.dtype} of shape {array.shape}, allowed: integers of shape ({n},)")
    if n and array.min() < 0:
        raise GenbenchError(f"{name}: found class {array.min()}, allowed: at least 0")
    return array.astype(np.int64)


def agrees(probabilities: Any, labels: Any) -> NDArray[np.bool_]:
    """Whether the most probable class of each row (the first of equals) is its label: (N,)."""
    p = matrix("probabilities", probabilities, least=1)
    requested = class_numbers("labels", labels, len(p))
    if requested.max() >= p.shape[1]:
        raise GenbenchError(f"labels: found class {requested.max()}, allowed: 0..{p.shape[1] - 1} (the classifier's)")
    return p.argmax(axis=1) == requested


def accuracy(*, probabilities: Any, labels: Any) -> float:
    """Share of probabilities (N, K) whose largest entry is at the requested label (N,); higher is better, 0..1.

    Raises GenbenchError for shapes or labels that do not fit, CellFailure for values that are not finite.
    """
    return float(agrees(probabilities, labels).mean())


def agreement(*, probabilities: Any, labels: Any) -> Value:
    """Accuracy with Wilson's interval."""
    return share(agrees(probabilities, labels), "generated samples, the classifier fixed")


_PROTOCOL = {"answer": "the classifier's likeliest class"}

CONDITIONAL = (
    Metric(
        "class_accuracy", "Class accuracy", 1, "higher", "share", CONDITION, agreement,
        abilities=("ClassConditional",), protocol={**_PROTOCOL, "asked_by": "class label"},
        cannot_detect="Does not detect a lack of variety within a class, nor bad images that are classified correctly.",
    ),
    Metric(
        "prompt_agreement", "Prompt agreement", 1, "higher", "share", CONDITION, agreement,
        abilities=("TextConditional",), protocol={**_PROTOCOL, "asked_by": "text that names a class"},
        cannot_detect="Does not detect whether images follow the rest of the text, nor a lack of variety.",
    ),
)  # fmt: skip
