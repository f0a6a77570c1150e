"""Translation: SSIM against its definition and closed forms, identities, intervals, and the way there and back."""

import math

import numpy as np
import pytest
import torch

from genbench.contract import DataSpec, Loss, Model, Translates
from genbench.errors import CellFailure, GenbenchError
from genbench.metrics import frechet_distance
from genbench.metrics.readings import TRANSLATION
from genbench.metrics.translation import TRANSLATIONS, Direction, both, distances, l1, ssim, there_and_back

METRICS = {m.name: m for m in TRANSLATIONS}
NAMES = ("cycle_error", "paired_l1", "paired_ssim", "paired_lpips", "fid_a_to_b", "fid_b_to_a")


def images(seed, n=6, shape=(1, 12, 12)):
    return np.random.default_rng(seed).random((n, *shape)).astype(np.float32)


def direction(seed, n=20, **changes):
    rng = np.random.default_rng(seed)
    made = {k: images(seed + i, n) for i, k in enumerate(("source", "translated", "back", "target"))}
    features = {"fake": rng.standard_normal((n, 3)), "real": rng.standard_normal((n + 5, 3))}
    return Direction(**{**made, **features, "perceptual": rng.random(n), **changes})


def naive_ssim(x, y, size, sigma=1.5):
    """Wang et al. 2004, eq. 14-16 and 13, a loop over positions of one grey image (H, W)."""
    g = np.array([math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)])
    w = np.outer(g, g) / g.sum() ** 2
    scores = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            m_a, m_b = (w * a).sum(), (w * b).sum()
            v_a, v_b = (w * (a - m_a) ** 2).sum(), (w * (b - m_b) ** 2).sum()
            cov = (w * (a - m_a) * (b - m_b)).sum()
            luminance = (2 * m_a * m_b + 0.01**2) / (m_a**2 + m_b**2 + 0.01**2)
            scores.append(luminance * (2 * cov + 0.03**2) / (v_a + v_b + 0.03**2))
    return np.mean(scores)


@pytest.mark.parametrize(("height", "width", "window"), [(16, 13, 11), (11, 11, 11), (8, 8, 7), (8, 20, 7), (5, 9, 5)])
def test_ssim_is_its_definition(height, width, window):
    x = images(0, 3, (2, height, width)).astype(np.float64)
    y = np.clip(0.7 * x + 0.3 * images(1, 3, (2, height, width)), 0, 1)
    expected = [
        np.mean([naive_ssim(a, b, window) for a, b in zip(p, q, strict=True)]) for p, q in zip(x, y, strict=True)
    ]
    assert ssim(x=x, y=y) == pytest.approx(expected, rel=1e-9)


def test_ssim_of_a_fixed_picture_is_scikit_images():
    """structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False) of
    scikit-image 0.26.0."""
    i, j = np.mgrid[:24, :20]
    a, b = (np.sin(i / 3 + j / 5) + 1) / 2, (np.sin(i / 3 + j / 4 + 0.3) + 1) / 2
    assert ssim(x=a[None, None], y=b[None, None])[0] == pytest.approx(0.4684686483691053, rel=1e-10)


@pytest.mark.parametrize(("p", "q"), [(0.0, 1.0), (0.2, 0.9), (0.5, 0.5)])
def test_ssim_of_constant_images_is_the_luminance_term(p, q):
    x, y = np.full((2, 1, 14, 14), p), np.full((2, 1, 14, 14), q)
    expected = (2 * p * q + 1e-4) / (p * p + q * q + 1e-4)
    assert ssim(x=x, y=y) == pytest.approx([expected] * 2, rel=1e-9)


def test_ssim_of_equal_images_is_one_and_of_negatives_below_zero():
    x = images(0)
    assert ssim(x=x, y=x) == pytest.approx(np.ones(6), rel=1e-12)
    assert (ssim(x=x, y=1 - x) < -0.5).all()


def test_ssim_by_parts(monkeypatch):
    x, y = images(0, 9), images(1, 9)
    whole = ssim(x=x, y=y)
    monkeypatch.setattr("genbench.metrics.translation._BATCH", 4)
    assert ssim(x=x, y=y).tolist() == whole.tolist()


def test_a_perfect_translator():
    x = images(0, 20)
    perfect = direction(0, source=x, back=x, translated=x, target=x, perceptual=np.zeros(20))
    found = {n: METRICS[n].compute(a_to_b=perfect, b_to_a=perfect).value for n in NAMES[:4]}
    assert found == pytest.approx({"cycle_error": 0, "paired_l1": 0, "paired_ssim": 1, "paired_lpips": 0})


def test_errors_are_means_over_both_directions():
    x = 0.5 * images(0, 20)
    a = direction(0, source=x, back=x + 0.25, translated=x, target=x + 0.125, perceptual=np.full(20, 0.5))
    b = direction(5, n=10, source=x[:10], back=x[:10], translated=x[:10], target=x[:10], perceptual=np.zeros(10))
    found = {n: METRICS[n].compute(a_to_b=a, b_to_a=b).value for n in NAMES}
    assert found["cycle_error"] == pytest.approx(0.125, rel=1e-6)
    assert found["paired_l1"] == pytest.approx(0.0625, rel=1e-6)
    assert found["paired_lpips"] == 0.25
    assert found["fid_a_to_b"] == pytest.approx(frechet_distance(fake=a.fake, real=a.real), rel=1e-9)
    assert found["fid_b_to_a"] == pytest.approx(frechet_distance(fake=b.fake, real=b.real), rel=1e-9)


def test_the_interval_of_an_error_starts_at_zero():
    x = images(0, 20)
    perfect = direction(0, source=x, back=x)
    one = direction(0, source=x, back=np.concatenate([1 - x[:1], x[1:]]))
    found = METRICS["cycle_error"].compute(a_to_b=one, b_to_a=perfect)
    assert found.lo == 0 < found.value < found.hi


def test_interval_of_both_covers_directions_that_err_together():
    """Paired images: the two directions' scores are the same noise, and the mean's spread is that of one."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        scores = rng.normal(1.0, 0.5, 60)
        found = both((scores, scores))
        hits += found.lo <= 1.0 <= found.hi
    assert hits / 600 == pytest.approx(0.95, abs=0.03)


def test_declarations():
    assert tuple(METRICS) == NAMES
    assert all(m.reads == TRANSLATION and m.abilities == ("Translates",) for m in TRANSLATIONS)
    assert {m.name for m in TRANSLATIONS if m.better == "higher"} == {"paired_ssim"}


class Swap(Model, Translates):
    """Adds less than half a grey level where nobody sees it, and one level of brightness from a to b."""

    def loss(self, batch, player, step, gen):
        return Loss(batch.x.sum())

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape)

    @property
    def device(self):
        return torch.device("cpu")

    def translate(self, x, direction):
        step = 2 / (self.data.levels - 1)
        return x + (1.3 * step if direction == "a_to_b" else -0.8 * step)


@pytest.mark.parametrize("batch", [2, 100])
def test_there_and_back_quantises_in_between(batch):
    model = Swap(DataSpec(1, 2, 2, levels=17))
    pixels = torch.arange(20, dtype=torch.uint8).remainder(15).view(5, 1, 2, 2) + 1
    there, back = there_and_back(model, pixels, "a_to_b", batch)
    assert torch.equal(there, (pixels + 1).clamp_max(16))
    assert torch.equal(back, there - 1)  # 1.3 levels up, seen as 1; without quantisation 0.5 levels would remain
    assert torch.equal(there_and_back(model, pixels, "b_to_a", batch)[0], pixels - 1)


def test_what_is_missing_is_said():
    whole = direction(0)
    with pytest.raises(CellFailure, match="have no counterparts"):
        METRICS["paired_l1"].compute(a_to_b=whole, b_to_a=direction(0, target=None))
    with pytest.raises(CellFailure, match="no perceptual distance was computed"):
        METRICS["paired_lpips"].compute(a_to_b=direction(0, perceptual=None), b_to_a=whole)
    with pytest.raises(CellFailure, match="not finite"):
        METRICS["paired_lpips"].compute(a_to_b=direction(0, perceptual=np.full(20, np.nan)), b_to_a=whole)


def test_distances_are_computed_in_float64():
    assert distances(direction(0, perceptual=np.ones(4, dtype="f4"))).dtype == np.float64


def test_arrays_that_do_not_fit_are_refused():
    x = images(0)
    with pytest.raises(GenbenchError, match=r"found uint8 in 0..255, allowed: floats in 0..1"):
        l1(x=np.array([0, 255], dtype=np.uint8).reshape(1, 1, 1, 2), y=x)
    with pytest.raises(GenbenchError, match=r"allowed: floats in 0..1"):
        ssim(x=2 * x - 1, y=x)
    with pytest.raises(GenbenchError, match=r"y: found float32 in .*, allowed: floats in 0..1"):
        l1(x=x, y=1.5 * x)
    with pytest.raises(GenbenchError, match="must agree"):
        l1(x=x, y=x[:3])
    with pytest.raises(GenbenchError, match=r"x: found an array of shape \(12, 12\), allowed: \(N, C, H, W\)"):
        ssim(x=x[0, 0], y=x[0, 0])
    with pytest.raises(CellFailure, match="not finite"):
        l1(x=np.where(x > 0.5, np.nan, x), y=x)
