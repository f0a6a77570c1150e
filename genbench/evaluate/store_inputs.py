"""Inputs that cells and scores share through the store: features, and what metrics keep about a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genbench.features import Features, TextFeatures
from genbench.keys import features_key, reference_key, texts_key
from genbench.machine import made_with
from genbench.metrics.base import OfReference
from genbench.store import Kind, Store


def kept_features(
    store: Store, key: str, make: Callable[[], Features], device: str, facts: Callable[[], dict[str, Any]] = dict
) -> Features:
    """Features under this key, extracted on the device and stored if they are absent.

    Their meta data are the hardware and the version of torch, and facts().
    """

    def arrays() -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(make()).items() if value is not None}

    meta = lambda: made_with(device) | facts()  # noqa: E731
    stored: dict[str, Any] = store.kept_arrays(Kind.FEATURES, key, arrays, meta)
    return Features(stored["vectors"], stored.get("probabilities"), stored.get("spatial"))


def kept_about_reference(
    store: Store, features: str, part: OfReference, rows: Callable[[], np.ndarray]
) -> dict[str, np.ndarray]:
    """What a metric needs of a reference whose features have the key `features`; rows(): those features (M, D)."""
    return store.kept_arrays(Kind.REFERENCES, reference_key(features, part.name), lambda: part.compute(rows()))


def kept_texts(
    store: Store, texts: tuple[str, ...], extractor: dict[str, Any], make: Callable[[], TextFeatures], device: str
) -> TextFeatures:
    """Features of texts under an extractor with these protocol fields, extracted and stored if they are absent."""

    def arrays() -> dict[str, np.ndarray]:
        found = make()
        return {"vectors": found.vectors, "cut": np.array(found.cut)}

    key = features_key(texts_key(texts), extractor)
    stored = store.kept_arrays(Kind.FEATURES, key, arrays, lambda: made_with(device))
    return TextFeatures(stored["vectors"], int(stored["cut"]))


def cut_texts(found: TextFeatures) -> tuple[str, ...]:
    """A warning about texts that were longer than the network reads."""
    if not found.cut:
        return ()
    return (
        f"{found.cut:,} of {len(found.vectors):,} prompts are longer than the extractor reads: their ends are ignored",
    )
