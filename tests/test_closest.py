"""The picture of samples above their nearest train images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from genbench import metrics
from genbench.evaluate.closest import FILE, SHOWN, closest_key, keep_closest
from genbench.features import Features
from genbench.metrics.base import Inputs
from genbench.metrics.facts import Images
from genbench.store import Kind, Store


class Known(Inputs):
    """Samples that are train images with a small change, in an order of their own."""

    train = fake = generated = None

    def __init__(self, order: np.ndarray) -> None:
        self.pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).repeat(1, 1, 2, 2)
        rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        self.train = Features(rows)
        self.fake = Features(rows[order] + 1e-3)
        self.generated = Images(self.pixels[order] + 100)


def cell(name: str, reason: str = "") -> SimpleNamespace:
    planned = SimpleNamespace(metric=metrics.get(name), reason=reason)
    facts = SimpleNamespace(extractor={"extractor": "pixels"})
    return SimpleNamespace(metrics=(planned,), data=SimpleNamespace(fingerprint="f"), facts=facts, samples_key="s")


def test_each_sample_stands_above_its_nearest_train_image(tmp_path):
    order = np.random.default_rng(1).permutation(40)[:15]
    store, row, inputs = Store(tmp_path), cell("memorised"), Known(order)
    keep_closest(row, store, inputs, lambda: inputs.pixels)
    images = np.load(store.path(Kind.NEIGHBOURS, closest_key(row)) / FILE)
    assert images.shape == (2 * SHOWN, 1, 2, 2)
    np.testing.assert_array_equal(images[:SHOWN, 0, 0, 0], order[:SHOWN] + 100)
    np.testing.assert_array_equal(images[SHOWN:, 0, 0, 0], order[:SHOWN])


def test_a_row_without_a_metric_of_memory_has_no_picture(tmp_path):
    store, inputs = Store(tmp_path), Known(np.arange(12))
    for row in (cell("fid"), cell("memorised", "needs a test split")):
        keep_closest(row, store, inputs, lambda: inputs.pixels)
        assert closest_key(row) == ""
    assert list(store.entries()) == []
