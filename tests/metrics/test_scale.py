"""Scale rows: their likelihoods in closed form, and that they draw what they say."""

import math

import numpy as np
import pytest
import torch

from genbench.contract import DataSpec
from genbench.data import Dataset, Split
from genbench.errors import TooFewSamples
from genbench.metrics.frechet import frechet_distance
from genbench.metrics.memorisation import MEMORISATION
from genbench.sources.scale import BLUR, SCALE_ROWS, blur, fit_gaussian, pixel_moments, quantise, shrunk
from genbench.space import bits_per_dim, dequantise, seeded


def dataset(train, test, levels):
    spec = DataSpec(*train.shape[1:], levels=levels)
    return Dataset(name="toy", spec=spec, train=Split(train, None), test=Split(test, None), fingerprint="")


def images(n, levels, seed, shape=(1, 3, 4)):
    return torch.randint(levels, (n, *shape), generator=seeded(seed), dtype=torch.uint8)


TOY = dataset(images(400, 17, 0), images(60, 17, 1), 17)


@pytest.mark.parametrize("name", SCALE_ROWS)
def test_rows_draw_pixels_that_depend_on_the_seed_alone(name):
    draw = SCALE_ROWS[name].samples
    first = draw(TOY, 50, 3)
    assert first.shape == (50, 1, 3, 4)
    assert first.dtype == torch.uint8
    assert first.max() < 17
    assert torch.equal(first, draw(TOY, 50, 3))
    assert not torch.equal(first, draw(TOY, 50, 4))


def test_held_out_real_never_repeats_an_image():
    drawn = SCALE_ROWS["held-out real"].samples(TOY, 2000, 0)
    assert sorted(map(tuple, drawn.flatten(1).tolist())) == sorted(map(tuple, TOY.test.pixels.flatten(1).tolist()))


def test_memorised_train_repeats_train_images_alone_and_as_many_as_asked_for():
    drawn = SCALE_ROWS["memorised train"].samples(TOY, 2000, 0)
    assert len(drawn) == 2000
    numbers = {tuple(image): i for i, image in enumerate(TOY.train.pixels.flatten(1).tolist())}
    counts = np.bincount([numbers[tuple(image)] for image in drawn.flatten(1).tolist()], minlength=400)
    assert np.square(counts - 5).sum() / 5 == pytest.approx(399, abs=4 * math.sqrt(2 * 399))  # chi^2: each as likely


def test_memorised_train_trips_the_memorisation_columns_and_held_out_real_does_not():
    def features(pixels):
        return pixels.flatten(1).numpy() / 16

    sets = {"train": features(TOY.train.pixels), "held_out": features(images(200, 17, 2))}
    fake = {name: features(SCALE_ROWS[name].samples(TOY, 300, 0)) for name in ("memorised train", "held-out real")}
    found = {m.name: {n: m.compute(fake=x, **sets) for n, x in fake.items()} for m in MEMORISATION}
    assert found["memorised"]["memorised train"].value == 1.0
    assert found["memorised"]["held-out real"].lo < 0.01
    assert found["authenticity"]["memorised train"].value == 0.0
    assert found["authenticity"]["held-out real"].value > 0.3
    assert found["ct_score"]["memorised train"].value < -15
    assert found["ct_score"]["held-out real"].value > -3


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3])
def test_blur_is_scipys_gaussian_filter(sigma):
    from scipy.ndimage import gaussian_filter

    x = torch.rand(3, 2, 9, 12, generator=seeded(0), dtype=torch.float64)
    expected = gaussian_filter(
        x.numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, *[math.ceil(4 * sigma)] * 2)
    )
    assert torch.allclose(blur(x, sigma), torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_blurred_real_is_held_out_real_blurred_to_the_nearest_grey_level():
    drawn, sharp = (SCALE_ROWS[name].samples(TOY, 40, 7) for name in ("blurred real", "held-out real"))
    off = drawn.double() - blur(sharp.double(), 3 * BLUR)
    assert off.abs().max() <= 0.5
    constant = dataset(TOY.train.pixels, torch.full((5, 1, 3, 4), 16, dtype=torch.uint8), 17)
    assert SCALE_ROWS["blurred real"].samples(constant, 5, 0).unique().tolist() == [16]


def test_digits_blurred_are_farther_than_digits_and_nearer_than_noise():
    from genbench import data, features

    digits, extractor = data.load({"name": "digits"}), features.load_extractor("classifier", "digits")
    real = extractor(digits.train.pixels, 17).vectors
    fid = {
        name: frechet_distance(fake=extractor(SCALE_ROWS[name].samples(digits, 360, 0), 17).vectors, real=real)
        for name in ("held-out real", "blurred real", "uniform noise")
    }
    assert 2 * fid["held-out real"] < fid["blurred real"] < fid["uniform noise"] / 2


def test_uniform_noise_is_uniform_and_costs_log2_levels():
    row = SCALE_ROWS["uniform noise"]
    counts = torch.bincount(row.samples(TOY, 5000, 0).flatten().long(), minlength=17)
    mean = 5000 * 12 / 17
    assert (counts - mean).abs().max() < 5 * math.sqrt(mean)
    bits = bits_per_dim(row.log_prob(TOY, TOY.test.pixels, 0), TOY.spec.dims)
    assert bits.tolist() == pytest.approx([math.log2(17)] * 60, rel=1e-14)


def test_gaussian_moments_are_those_of_many_dequantised_copies():
    mean, cov = pixel_moments(TOY.train.pixels, 17)
    copies = torch.cat([dequantise(TOY.train.pixels, 17, seeded(s)).flatten(1) for s in range(200)]).double()
    assert torch.allclose(mean, copies.mean(0), atol=5e-4)
    assert torch.allclose(cov, copies.T.cov(correction=0), atol=5e-4)


def test_gaussian_log_prob_is_the_multivariate_normal_minus_the_cell_volume():
    gaussian = fit_gaussian(TOY.train.pixels, 17)
    y = dequantise(TOY.test.pixels, 17, seeded(5)).flatten(1).double()
    normal = torch.distributions.MultivariateNormal(gaussian.mean, scale_tril=gaussian.root)
    found = SCALE_ROWS["gaussian"].log_prob(TOY, TOY.test.pixels, 5)
    assert found.dtype == torch.float64
    assert torch.allclose(found, normal.log_prob(y) - 12 * math.log(17), rtol=1e-10)


def test_gaussian_on_gaussian_data_costs_its_entropy():
    """Fine levels: bits/dim of N(m, S) is log2(levels) + (1/2 log det 2 pi e S) / (D ln 2)."""
    root = torch.tensor([[0.08, 0.0], [0.05, 0.04]], dtype=torch.float64)
    noise = torch.randn(40_000, 2, generator=seeded(0), dtype=torch.float64)
    spec = DataSpec(1, 1, 2, levels=256)
    pixels = quantise(0.5 + noise @ root.T, spec)
    data = dataset(pixels[:20_000], pixels[20_000:], 256)
    bits = bits_per_dim(SCALE_ROWS["gaussian"].log_prob(data, data.test.pixels, 0), 2)
    entropy = math.log(2 * math.pi * math.e) + root.diagonal().log().sum().item()
    expected = math.log2(256) + entropy / (2 * math.log(2))
    assert bits.mean().item() == pytest.approx(expected, abs=4 * bits.std().item() / math.sqrt(20_000))


def test_gaussian_samples_have_the_train_moments():
    narrow = dataset(images(2000, 5, 0) + 6, images(10, 5, 1), 17)  # levels 6..10 of 17: nothing is clipped
    drawn = SCALE_ROWS["gaussian"].samples(narrow, 20_000, 0).double()
    assert drawn.mean().item() == pytest.approx(narrow.train.pixels.double().mean().item(), abs=0.02)
    assert drawn.var().item() == pytest.approx(narrow.train.pixels.double().var().item() + 2 / 12, rel=0.03)


def of_a_gaussian(root, n, shape, seed=0):
    """A train split of n images and a test split of 300, N(1/2, root root') in units of 256 levels."""
    noise = torch.randn(n + 300, len(root), generator=seeded(seed), dtype=torch.float64)
    pixels = quantise(0.5 + noise @ root.T, DataSpec(*shape, levels=256))
    return dataset(pixels[:n], pixels[n:], 256)


def entropy_in_bits(root):
    """Of N(m, root root') on pixels of 256 levels, per dimension."""
    dims = len(root)
    return 8 + 0.5 * math.log2(2 * math.pi * math.e) + root.diagonal().log2().sum().item() / dims


def gaussian_bits(data):
    return bits_per_dim(SCALE_ROWS["gaussian"].log_prob(data, data.test.pixels, 0), data.spec.dims).mean().item()


@pytest.mark.parametrize("n", [12, 40, 400])
def test_with_fewer_images_than_pixels_independent_pixels_still_cost_their_entropy(n):
    """N(1/2, 0.1^2 I), 64 pixels: the best shrinkage is 1; the rest is the error of a mean and one variance.

    The variance has the expectation s (n - 1) / n, and held-out squares around the mean have s (n + 1) / n.
    """
    root = 0.1 * torch.eye(64, dtype=torch.float64)
    data = of_a_gaussian(root, n, (1, 8, 8))
    expected = entropy_in_bits(root) + 0.5 * math.log2((n - 1) / n) + 1 / ((n - 1) * math.log(2))
    assert gaussian_bits(data) == pytest.approx(expected, abs=0.03)
    cov = fit_gaussian(data.train.pixels, 256).root.square().sum(1)
    assert torch.allclose(cov, cov[0].expand(64))


def test_smooth_colour_pictures_cost_less_than_noise_where_the_plain_covariance_costs_more():
    """768 correlated values, 300 images: the singular covariance of maximum likelihood costs far more than 8 bits."""
    line = torch.arange(16, dtype=torch.float64)
    smooth = torch.exp(-((line[:, None] - line) ** 2) / 8) + 1e-3 * torch.eye(16, dtype=torch.float64)
    colours = torch.tensor([[1.0, 0.9, 0.8], [0.9, 1.0, 0.9], [0.8, 0.9, 1.0]], dtype=torch.float64)
    root = torch.linalg.cholesky(0.02 * torch.kron(colours, torch.kron(smooth, smooth)))
    data = of_a_gaussian(root, 300, (3, 16, 16))
    y = dequantise(data.test.pixels, 256, seeded(0)).flatten(1)
    plain = shrunk(*pixel_moments(data.train.pixels, 256), 0.0).log_density(y) - 768 * math.log(256)
    assert bits_per_dim(plain, 768).mean() > 20
    assert entropy_in_bits(root) < gaussian_bits(data) < 6


def test_with_many_images_the_covariance_is_that_of_maximum_likelihood():
    root = torch.diag(torch.tensor([0.15, 0.05, 0.02, 0.01], dtype=torch.float64))
    data = of_a_gaussian(root, 20_000, (1, 2, 2))
    fitted = fit_gaussian(data.train.pixels, 256).root
    cov = pixel_moments(data.train.pixels, 256)[1]
    assert torch.allclose(fitted @ fitted.T, cov, rtol=0, atol=float(1e-3 * cov.max()))
    assert gaussian_bits(data) == pytest.approx(entropy_in_bits(root), abs=0.05)


def test_a_train_split_that_shows_no_variation_has_no_likelihood():
    zeros = torch.zeros(200, 1, 3, 4, dtype=torch.uint8)
    with pytest.raises(TooFewSamples, match="all train images are the same"):
        SCALE_ROWS["gaussian"].log_prob(dataset(zeros, zeros, 17), zeros, 0)
    with pytest.raises(TooFewSamples, match="found 9 train images, allowed: 10 or more"):
        SCALE_ROWS["gaussian"].log_prob(dataset(images(9, 17, 0), zeros, 17), zeros, 0)
    assert SCALE_ROWS["gaussian"].samples(dataset(zeros[:1], zeros, 17), 5, 0).shape == (5, 1, 3, 4)


def test_likelihoods_of_rows_state_their_kind():
    assert {name: row.kind for name, row in SCALE_ROWS.items() if row.log_prob} == {
        "uniform noise": "mass",
        "gaussian": "density",
    }
    assert not any(row.kind for row in SCALE_ROWS.values() if row.log_prob is None)
