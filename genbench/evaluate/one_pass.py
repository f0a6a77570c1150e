"""Features of the same images for several views of a row, from one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from genbench.evaluate.store_inputs import kept_features
from genbench.features import Features
from genbench.features.together import Extracted
from genbench.store import Kind, Store


def kept_in_one_pass(
    store: Store, own: str, others: Sequence[str], extract: Callable[[Sequence[str]], Extracted], device: str,
    facts: Callable[[str], dict[str, Any]],
) -> Features:  # fmt: skip
    """The features with the key `own`; where they are extracted, absent ones of the keys `others` are stored too.

    extract: features by key, from one pass. facts: the meta data of a key. Raises what the own extractor raises; what
    another one raises is raised again when its features are asked for.
    """
    found: Extracted = {}

    def make() -> Features:
        found.update(extract([own, *(key for key in others if not store.has(Kind.FEATURES, key))]))
        return _raised(found.pop(own))

    features = kept_features(store, own, make, device, lambda: facts(own))
    for key, result in found.items():
        if isinstance(result, Features):
            kept_features(store, key, lambda kept=result: kept, device, lambda of=key: facts(of))  # type: ignore[misc]
    return features


def _raised(result: Features | Exception) -> Features:
    if isinstance(result, Exception):
        raise result
    return result
