"""Feature extractors: weights verified by hash, accuracy as claimed, one image's features whatever the batch."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from genbench import data, features
from genbench.data import fashion_mnist
from genbench.errors import DataError
from genbench.features import classifier
from genbench.features.classifier import ClassifierExtractor, ConvNet

needs_fashion = pytest.mark.skipif(
    not any((place / name).is_file() for place in fashion_mnist.PUBLISHED.places() for name in fashion_mnist.FILES),
    reason="fashion-mnist is not on this machine",
)
SERVED = ("digits", "fashion-mnist")


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load({"name": "digits"})


@pytest.fixture(scope="module")
def extractor() -> features.Extractor:
    return features.load_extractor("classifier", "digits")


def share_correct(extractor: features.Extractor, split: data.Split, levels: int) -> float:
    probabilities = extractor(split.pixels, levels).probabilities
    assert probabilities is not None
    assert split.labels is not None
    return float((probabilities.argmax(1) == split.labels.numpy()).mean())


def frechet(fake: np.ndarray, real: np.ndarray) -> float:
    means = fake.mean(0, dtype=np.float64) - real.mean(0, dtype=np.float64)
    a, b = (np.cov(x.T.astype(np.float64)) for x in (fake, real))
    return float(means @ means + np.trace(a + b) - 2 * linalg.sqrtm(a @ b).real.trace())


def test_digits_classifier_is_right_on_98_percent_of_the_held_out(
    digits: data.Dataset, extractor: features.Extractor
) -> None:
    measured = share_correct(extractor, digits.test, 17)
    assert measured >= 0.98
    assert measured == pytest.approx(classifier.index()["digits-classifier"]["test_accuracy"], abs=1e-4)


@needs_fashion
def test_fashion_mnist_classifier_is_right_on_91_percent_of_the_held_out() -> None:
    test = data.load({"name": "fashion-mnist"}).test
    assert test.labels is not None
    part = data.Split(test.pixels[:2000], test.labels[:2000])
    assert share_correct(features.load_extractor("classifier", "fashion-mnist"), part, 256) >= 0.91
    assert classifier.index()["fashion-mnist-classifier"]["test_accuracy"] >= 0.91


def test_held_out_digits_lie_near_and_noise_far_and_undecided(
    digits: data.Dataset, extractor: features.Extractor
) -> None:
    gen = torch.Generator().manual_seed(0)
    noise = extractor(torch.randint(17, (1000, 1, 8, 8), generator=gen, dtype=torch.uint8), 17)
    train, test = extractor(digits.train.pixels, 17), extractor(digits.test.pixels, 17)
    assert frechet(test.vectors, train.vectors) < 0.01 * frechet(noise.vectors, train.vectors)
    assert noise.probabilities is not None
    assert noise.probabilities.max(1).mean() < 0.3


def test_distance_to_the_digits_grows_with_added_noise(digits: data.Dataset, extractor: features.Extractor) -> None:
    gen = torch.Generator().manual_seed(0)
    real = extractor(digits.train.pixels, 17).vectors
    clean = digits.test.pixels.float()
    noise = torch.randn(clean.shape, generator=gen)
    shown = [(clean + s * noise).round().clamp(0, 16).to(torch.uint8) for s in (0.0, 1.0, 2.0, 4.0)]
    distances = [frechet(extractor(pixels, 17).vectors, real) for pixels in shown]
    assert distances == sorted(distances)
    assert distances[-1] > 10 * distances[0]


def test_features_do_not_depend_on_the_batch(digits: data.Dataset, extractor: features.Extractor) -> None:
    pixels = digits.test.pixels[:100]
    one, many = extractor(pixels, 17, batch=1), extractor(pixels, 17, batch=37)
    assert one.vectors.shape == (100, 64)
    assert one.vectors.dtype == np.float32
    assert np.abs(one.vectors - many.vectors).max() < 1e-5
    assert one.probabilities is not None
    assert many.probabilities is not None
    assert np.abs(one.probabilities - many.probabilities).max() < 1e-5
    assert np.allclose(one.probabilities.sum(1), 1, atol=1e-6)


def test_features_stay_in_float32_under_autocast(digits: data.Dataset, extractor: features.Extractor) -> None:
    pixels = digits.test.pixels[:20]
    with torch.autocast("cpu", torch.bfloat16):
        inside = extractor(pixels, 17).vectors
    assert np.array_equal(inside, extractor(pixels, 17).vectors)


def test_network_is_convolutions_pooled_between_blocks_then_averaged() -> None:
    net = ConvNet(1, ((2, 3), (5,)), classes=4)
    plain = nn.Sequential(
        net.convs[0], nn.ReLU(), net.convs[1], nn.ReLU(), nn.MaxPool2d(2), net.convs[2], nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    vectors, logits = net(x)
    assert torch.allclose(vectors, plain(x), atol=1e-6)
    assert torch.allclose(logits, net.head(plain(x)), atol=1e-6)


@pytest.mark.parametrize("dataset", SERVED)
def test_shipped_weights_are_small_and_listed_with_their_data(dataset: str) -> None:
    listed = classifier.index()[f"{dataset}-classifier"]
    content = (classifier.WEIGHTS / listed["file"]).read_bytes()
    assert len(content) <= 1_000_000
    assert hashlib.sha256(content).hexdigest() == listed["sha256"]
    assert listed["dataset_fingerprint"] == data.describe({"name": dataset, "download": dataset == "fashion-mnist"})[1]
    loaded = ClassifierExtractor(f"{dataset}-classifier")
    assert sum(p.numel() for p in loaded.net.parameters()) == listed["parameters"]
    assert loaded.net.head.in_features == listed["dims"] == loaded.dims
    assert not loaded.net.training


def test_a_flipped_bit_in_the_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = classifier.index()["digits-classifier"]
    content = bytearray((classifier.WEIGHTS / listed["file"]).read_bytes())
    content[-5] ^= 1
    path = tmp_path / listed["file"]
    path.write_bytes(content)
    monkeypatch.setattr(classifier, "WEIGHTS", tmp_path)
    with pytest.raises(DataError) as caught:
        features.load_extractor("classifier", "digits")
    found = hashlib.sha256(content).hexdigest()
    assert str(caught.value) == f"{path}: found weights of SHA-256 {found}, allowed: {listed['sha256']}"
    path.unlink()
    with pytest.raises(DataError) as caught:
        features.load_extractor("classifier", "digits")
    assert str(caught.value) == f"{path}: weights not found; the package is incomplete, install it again"


def test_identity_is_the_protocol_of_what_is_loaded(extractor: features.Extractor) -> None:
    identity = features.protocol_fields("classifier", "digits")
    assert identity == {
        "extractor": "digits-classifier", "extractor_weights": extractor.weights_hash, "resize": "none",
    }  # fmt: skip
    assert identity["extractor"] == extractor.name
    assert features.protocol_fields("pixels", "folder")["extractor_weights"] == "none"
    assert json.loads(json.dumps(identity)) == identity


def test_pixels_are_scaled_to_the_unit_interval() -> None:
    found = features.load_extractor("pixels", "npz")(torch.tensor([[[[0, 4], [8, 16]]]], dtype=torch.uint8), 17)
    assert np.array_equal(found.vectors, np.array([[0, 0.25, 0.5, 1]], np.float32))
    assert found.probabilities is None
    assert [features.has_probabilities(name) for name in features.extractor_names()[:2]] == [True, False]


def test_spatial_features_are_channels_of_the_map_that_is_averaged(
    digits: data.Dataset, extractor: ClassifierExtractor
) -> None:
    found = extractor(digits.test.pixels[:30], 17)
    assert found.spatial is not None
    assert found.spatial.shape == (30, 8 * 4 * 4)
    assert np.abs(found.spatial.reshape(30, 8, 16).mean(2) - found.vectors[:, :8]).max() < 1e-6
    assert [features.has_spatial(name) for name in features.extractor_names()[:2]] == [True, False]


def test_pairs_that_do_not_exist_are_refused(extractor: features.Extractor) -> None:
    every = f"{', '.join(features.extractor_names())}, or file.py:Object"
    for name, dataset, expected in [
        ("classifier", "folder", "features 'classifier': found dataset 'folder', allowed: digits, fashion-mnist; "
                                 "`features: pixels` works with every dataset"),
        ("pixel", "digits", f"unknown features 'pixel'; did you mean 'pixels'? allowed: {every}"),
        ("zzz", "digits", f"unknown features 'zzz'; allowed: {every}"),
    ]:  # fmt: skip
        with pytest.raises(DataError) as caught:
            features.protocol_fields(name, dataset)
        assert str(caught.value) == expected
    with pytest.raises(DataError) as caught:
        extractor(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), 17)
    assert str(caught.value) == "digits-classifier: images of shape (1, 28, 28), allowed: (1, 8, 8)"
