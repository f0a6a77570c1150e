"""From what a metric reads to its value: one table, the same for a cell of a suite and for samples made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from genbench.features import Features
from genbench.keys import digest
from genbench.metrics.base import (
    AGAINST_REFERENCE,
    CLASSES,
    CONDITION,
    COST,
    FEATURES,
    GENERATED,
    LABELLED,
    LIKELIHOOD,
    MEMORY,
    OF_SAMPLES,
    PATHS,
    PIXELS,
    PROBABILITIES,
    SPATIAL,
    THROUGH_EXTRACTOR,
    TRANSLATION,
    Metric,
    OfReference,
    Value,
)
from genbench.metrics.frechet import Moments, moments
from genbench.store import FEATURES as STORED_FEATURES
from genbench.store import Store


@dataclass(frozen=True)
class Images:
    """Grey-level indices pixels (N, C, H, W) uint8 and, where they are known or were asked for, labels (N,) int64."""

    pixels: Tensor
    labels: Tensor | None = None


class Inputs:
    """What metrics read. A source of numbers overrides what it can give; the planner asks for nothing else."""

    levels: int

    @property
    def fake(self) -> Features:
        """Features of the generated images."""
        raise NotImplementedError

    @property
    def real(self) -> Features:
        """Features of the reference images."""
        raise NotImplementedError

    @property
    def real_moments(self) -> Moments:
        """The moments of the reference's features."""
        return moments(self.real.vectors)

    def of_real(self, what: OfReference) -> np.ndarray:
        """What a metric needs of the reference's features alone."""
        found: np.ndarray = what.compute(self.real.vectors)
        return found

    @property
    def train(self) -> Features:
        """Features of the images that the model may have seen."""
        raise NotImplementedError

    @property
    def held_out(self) -> Features:
        """Features of images that no model has seen."""
        raise NotImplementedError

    @property
    def generated(self) -> Images:
        """The generated images; labels are what was asked for."""
        raise NotImplementedError

    @property
    def reference(self) -> Images:
        """The reference images."""
        raise NotImplementedError

    @property
    def unseen(self) -> Images:
        """Held-out images with their labels."""
        raise NotImplementedError

    def log_probs(self, metric: Metric) -> dict[str, Any]:
        """The arguments log_probs, dims and kind of a likelihood metric."""
        raise NotImplementedError

    def path_distances(self, metric: Metric) -> np.ndarray:
        """Distances (N,) along paths in latent space."""
        raise NotImplementedError

    def translation(self, metric: Metric) -> dict[str, Any]:
        """The arguments of a translation metric."""
        raise NotImplementedError

    @property
    def cost(self) -> Any:
        """Throughput, latency and memory of sampling."""
        raise NotImplementedError


@dataclass(frozen=True)
class Reading:
    """Arguments of a metric, and how many generated and real images stand behind them."""

    arguments: dict[str, Any]
    n_fake: int | None = None
    n_real: int | None = None


def _features(inputs: Inputs, metric: Metric) -> Reading:
    fake, real = inputs.fake.vectors, inputs.real.vectors
    given = inputs.real_moments if metric.moments else real
    known = {"known": inputs.of_real(metric.of_reference)} if metric.of_reference else {}
    return Reading({"fake": fake, "real": given, **known}, len(fake), len(real))


def _generated(inputs: Inputs, metric: Metric) -> Reading:
    fake = inputs.fake.vectors
    return Reading({"fake": fake}, len(fake))


def _spatial(inputs: Inputs, metric: Metric) -> Reading:
    fake, real = inputs.fake.spatial, inputs.real.spatial
    assert fake is not None
    assert real is not None
    return Reading({"fake": fake, "real": real}, len(fake), len(real))


def _probabilities(inputs: Inputs, metric: Metric) -> Reading:
    found = inputs.fake.probabilities
    assert found is not None
    return Reading({"probabilities": found}, len(found))


def _memory(inputs: Inputs, metric: Metric) -> Reading:
    fake, train, held_out = inputs.fake.vectors, inputs.train.vectors, inputs.held_out.vectors
    return Reading({"fake": fake, "train": train, "held_out": held_out}, len(fake), len(train))


def _pixels(inputs: Inputs, metric: Metric) -> Reading:
    fake, real = (unit_rows(images.pixels, inputs.levels) for images in (inputs.generated, inputs.reference))
    return Reading({"fake": fake, "real": real}, len(fake), len(real))


def unit_rows(pixels: Tensor, levels: int) -> np.ndarray:
    """Grey levels (N, C, H, W) as rows (N, C * H * W) of k / (levels - 1), float32."""
    return unit_images(pixels, levels).reshape(len(pixels), -1)


def unit_images(pixels: Tensor, levels: int) -> np.ndarray:
    """Grey levels (N, C, H, W) as k / (levels - 1), float32."""
    images: np.ndarray = (pixels.cpu().float() / (levels - 1)).numpy()
    return images


def _classes(inputs: Inputs, metric: Metric) -> Reading:
    fake, real = inputs.fake.vectors, inputs.real.vectors
    labels = {"fake_labels": _labels(inputs.generated), "real_labels": _labels(inputs.reference)}
    return Reading({"fake": fake, "real": real, **labels}, len(fake), len(real))


def _labels(images: Images) -> np.ndarray:
    assert images.labels is not None
    found: np.ndarray = images.labels.cpu().numpy()
    return found


def _condition(inputs: Inputs, metric: Metric) -> Reading:
    found = inputs.fake.probabilities
    assert found is not None
    return Reading({"probabilities": found, "labels": _labels(inputs.generated)}, len(found))


def _labelled(inputs: Inputs, metric: Metric) -> Reading:
    fake, real = inputs.generated, inputs.unseen
    arrays = {"fake": fake.pixels.cpu().numpy(), "real": real.pixels.cpu().numpy(), "levels": inputs.levels}
    labels = {"fake_labels": _labels(fake), "real_labels": _labels(real)}
    return Reading({**arrays, **labels}, len(fake.pixels), len(real.pixels))


def _likelihood(inputs: Inputs, metric: Metric) -> Reading:
    arguments = inputs.log_probs(metric)
    return Reading(arguments, None, len(arguments["log_probs"]))


def _paths(inputs: Inputs, metric: Metric) -> Reading:
    distances = inputs.path_distances(metric)
    return Reading({"distances": distances}, len(distances))


def _translation(inputs: Inputs, metric: Metric) -> Reading:
    arguments = inputs.translation(metric)
    translated = arguments["a_to_b"].translated
    return Reading(arguments, len(translated), len(translated))


def _cost(inputs: Inputs, metric: Metric) -> Reading:
    return Reading({"cost": inputs.cost})


READERS: dict[str, Callable[[Inputs, Metric], Reading]] = {
    FEATURES: _features, GENERATED: _generated, SPATIAL: _spatial, PROBABILITIES: _probabilities, MEMORY: _memory,
    PIXELS: _pixels, CLASSES: _classes, CONDITION: _condition, LABELLED: _labelled, LIKELIHOOD: _likelihood,
    PATHS: _paths, TRANSLATION: _translation, COST: _cost,
}  # fmt: skip


def kept_moments(store: Store, features_key: str, rows: Callable[[], np.ndarray]) -> Moments:
    """The moments of features that the store knows by that key, made once: rows() gives the features (N, D)."""
    return Moments(**_kept(store, {"kept": "moments", "of": features_key}, lambda: vars(moments(rows()))))


def kept_of_reference(store: Store, features_key: str, rows: Callable[[], np.ndarray], what: OfReference) -> np.ndarray:
    """What a metric needs of such features alone, made once."""
    return _kept(store, {"kept": what.name, "of": features_key}, lambda: {"array": what.compute(rows())})["array"]


def _kept(store: Store, what: dict[str, Any], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    key = digest(what)
    with store.lock(STORED_FEATURES, key):
        if not store.intact(STORED_FEATURES, key):
            made = make()
            with store.writing(STORED_FEATURES, key, what) as folder:
                np.savez(folder / "arrays.npz", allow_pickle=False, **made)
    with np.load(store.path(STORED_FEATURES, key) / "arrays.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def sample_protocol(
    metric: Metric, identity: dict[str, Any], levels: int, reference: str, n_fake: int | None, n_real: int | None
) -> dict[str, Any]:
    """The protocol fields of a metric that reads generated images; none for other metrics.

    identity: of the extractor (features.identity). reference: the name of the reference split.
    """
    if metric.reads not in OF_SAMPLES:
        return {}
    fields = {"n_fake": n_fake, "quantisation": f"uint8, {levels} levels"}
    fields |= identity if metric.reads in THROUGH_EXTRACTOR else {}
    fields |= {"reference": reference, "n_real": n_real} if metric.reads in AGAINST_REFERENCE else {}
    fields |= {"memory_of": "train", "held_out": "test", "n_real": n_real} if metric.reads == MEMORY else {}
    return fields | ({"tested_on": "test", "n_real": n_real} if metric.reads == LABELLED else {})


def measure(metric: Metric, inputs: Inputs) -> tuple[Value, int | None, int | None]:
    """The metric's value, with the numbers of generated and of real images that it read."""
    reading = READERS[metric.reads](inputs, metric)
    return metric.compute(**reading.arguments), reading.n_fake, reading.n_real
