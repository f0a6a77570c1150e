"""Classification accuracy score: an easy world learned, wrong labels seen, seeds and global state respected."""

import numpy as np
import pytest
import torch

from genbench import space
from genbench.errors import GenbenchError
from genbench.metrics import trained_classifier
from genbench.metrics.trained_classifier import CAS, blocks, classification_accuracy_score, network

STEPS = 60


def bars(seed, n, levels=17):
    """8x8 images of noise with a bright row whose place is the class (4 of them), and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    pixels = rng.integers(levels // 2, size=(n, 1, 8, 8))
    pixels[np.arange(n), 0, 2 * labels] = levels - 1
    return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)


REAL = dict(zip(("real", "real_labels"), bars(1, 300), strict=True)) | {"levels": 17}
FAKE = dict(zip(("fake", "fake_labels"), bars(0, 400), strict=True))


def test_good_samples_teach_and_shuffled_labels_teach_nothing():
    assert classification_accuracy_score(**FAKE, **REAL, steps=STEPS) > 0.97
    shuffled = FAKE | {"fake_labels": torch.from_numpy(np.random.default_rng(2).integers(4, size=400))}
    assert classification_accuracy_score(**shuffled, **REAL, steps=STEPS) < 0.5


def test_a_class_that_is_never_shown_is_never_learned():
    shown = FAKE["fake_labels"] != 3
    without = {"fake": FAKE["fake"][shown], "fake_labels": FAKE["fake_labels"][shown]}
    most = float((REAL["real_labels"] != 3).float().mean())
    assert classification_accuracy_score(**without, **REAL, steps=STEPS) == pytest.approx(most, abs=0.03)


def test_the_seed_decides_and_global_state_is_left_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state().clone()
    first = network((1, 8, 8), 4, space.seeded(0))
    x, y = FAKE["fake"].float() / 16, FAKE["fake_labels"]
    trained = [trained_classifier.trained(x, y, 4, 5, seed).head.weight for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first.convs[0].weight, network((1, 8, 8), 4, space.seeded(0)).convs[0].weight)
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_runs_inside_inference_mode_and_takes_numpy():
    arrays = {k: v.numpy() for k, v in FAKE.items()}
    with torch.inference_mode():
        inside = classification_accuracy_score(**arrays, **REAL, steps=5)
    assert inside == classification_accuracy_score(**FAKE, **REAL, steps=5)


def test_metric_declares_its_constants_and_says_what_the_interval_leaves_out(monkeypatch):
    monkeypatch.setattr(trained_classifier, "_STEPS", 5)
    found = CAS.compute(**FAKE, **REAL)
    assert found.value == classification_accuracy_score(**FAKE, **REAL, steps=5)
    assert found.lo <= found.value <= found.hi
    assert "spread of its seeds is not included" in found.interval
    assert {"steps", "batch", "lr", "seed"} <= CAS.protocol.keys()


@pytest.mark.parametrize(("size", "halvings"), [(4, 0), (8, 1), (28, 2), (32, 3), (64, 4), (3, 0)])
def test_networks_for_many_sizes(size, halvings):
    assert len(blocks(size, size)) == halvings + 1
    net = network((3, size, size), 5, space.seeded(0))
    features, logits = net(torch.rand(2, 3, size, size))
    assert features.shape == (2, 64)
    assert logits.shape == (2, 5)
    assert 0.01 < logits.std() < 10  # the initial weights keep the variance


def test_refusals():
    with pytest.raises(GenbenchError, match=r"fake: found torch.float32 of shape \(400, 1, 8, 8\), allowed: uint8"):
        classification_accuracy_score(**FAKE | {"fake": FAKE["fake"].float()}, **REAL)
    with pytest.raises(GenbenchError, match="fake has images of shape"):
        classification_accuracy_score(**FAKE | {"fake": FAKE["fake"][..., :7]}, **REAL)
    with pytest.raises(GenbenchError, match="fake_labels: found int64 of shape"):
        classification_accuracy_score(**FAKE | {"fake_labels": FAKE["fake_labels"][:9]}, **REAL)


@pytest.mark.slow
def test_digits_teach_digits():
    from genbench import data

    digits = data.load({"name": "digits"})
    found = CAS.compute(
        fake=digits.train.pixels, fake_labels=digits.train.labels, real=digits.test.pixels,
        real_labels=digits.test.labels, levels=17,
    )  # fmt: skip
    assert found.value > 0.97
