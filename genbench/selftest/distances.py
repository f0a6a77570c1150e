"""Test problems for metrics that compare samples: Gaussians with distances in closed form, points computed by hand."""

from __future__ import annotations

import math

import numpy as np

from genbench.metrics import frechet_distance, inception_score, kernel_distance
from genbench.metrics.arrays import Array
from genbench.metrics.fd_infinity import frechet_distance_infinity
from genbench.metrics.memorisation import memorised_share
from genbench.selftest.base import MONTE_CARLO, KnownProblem, Measurement, average, measured

COPIES = 100.0 * np.arange(12)[:, None]  # of a small set, too far apart to be neighbours: balls need 10 samples
POINTS = (COPIES + np.arange(4.0)).reshape(-1, 1)
FAKE_POINTS = (COPIES + np.array([0.5, 10.0])).reshape(-1, 1)


def sphere(dims: int, std: float, shift: float = 0.0) -> Array:
    """Rows (2 dims, dims) whose mean is `shift` in every feature and whose covariance is std^2 I, exactly."""
    reach = std * math.sqrt((2 * dims - 1) / 2)
    return np.concatenate([np.eye(dims), -np.eye(dims)]) * reach + shift


def plane(covariance: Array) -> Array:
    """Four rows in the plane with mean 0 and this covariance, exactly."""
    rows: Array = sphere(2, 1.0) @ np.linalg.cholesky(covariance).T
    return rows


def spheres() -> Measurement:
    """N(0.5, I) and N(0, 4 I), 16 features: |m|^2 + D (s_1 - s_2)^2 = 4 + 16."""
    return Measurement(measured("fid", fake=sphere(16, 1.0, 0.5), real=sphere(16, 2.0)), 20.0, 1e-9)


def planes() -> Measurement:
    """Covariances A, B that do not commute: tr (AB)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2) for 2 x 2."""
    a, b = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    return Measurement(frechet_distance(fake=plane(a), real=plane(b)), float(np.trace(a + b)) - 2 * root, 1e-9)


def frechet_bias() -> Measurement:
    """Two samples of one N(0, I): to first order 2 D / N + D (D + 1) / (2 N); the rest is of order N^-2."""
    dims, n = 32, 2000
    rng = np.random.default_rng(0)
    draws = (rng.normal(size=(2, n, dims)) for _ in range(100))
    repeats = [frechet_distance(fake=x, real=y) for x, y in draws]
    return average(repeats, 2 * dims / n + dims * (dims + 1) / (2 * n))


def frechet_infinity() -> Measurement:
    """A sample of N(0, I), 16 features, against N(0, I) itself: 0, where FID is D / N + D (D + 1) / 4N = 0.042."""
    draws = np.random.default_rng(0).normal(size=(40, 2000, 16))
    return average([frechet_distance_infinity(fake=x, real=sphere(16, 1.0)) for x in draws], 0.0)


def sliced_spheres() -> Measurement:
    """Rows X and 2 X, X'X = (n - 1) I: the points have the same order along every direction, so W2^2 = (n - 1) / n."""
    dims = 16
    value = measured("sliced_wasserstein", fake=sphere(dims, 1.0), real=sphere(dims, 2.0))
    return Measurement(value, math.sqrt((2 * dims - 1) / (2 * dims)), 1e-9)


def orthogonal_samples() -> Measurement:
    """Ten orthogonal directions, five samples along each: ten different samples."""
    return Measurement(measured("vendi", fake=np.eye(10).repeat(5, axis=0)), 10.0, 1e-9)


def kernel_shift() -> Measurement:
    """N(0, I) and N(m, I), m = 1/2 in each of 8 features; the moments of x'y give each mean of the cubic kernel.

    With c = m_1'm_2, p = |m_1|^2, q = |m_2|^2 and S = p + q + D: E(x'y)^2 = c^2 + S, E(x'y)^3 = c^3 + 3 c S + 6 c.
    """
    dims = 8

    def mean_kernel(c: float, p: float, q: float) -> float:
        s = p + q + dims
        return (c**3 + 3 * c * s + 6 * c) / dims**3 + 3 * (c**2 + s) / dims**2 + 3 * c / dims + 1

    m2 = dims / 4
    true = mean_kernel(0, 0, 0) + mean_kernel(m2, m2, m2) - 2 * mean_kernel(0, 0, m2)
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 2, 100, dims))
    return average([kernel_distance(fake=x, real=y + 0.5) for x, y in draws], true)


def kernel_points() -> Measurement:
    """Fake {0, 1}, real {1, 2}: k = (xy + 1)^3 gives 1 within fake, 27 within real, 37/4 across: 28 - 37/2."""
    value = measured("kid_subsets", fake=[[0.0], [1.0]], real=[[1.0], [2.0]])
    return Measurement(value, 9.5, 1e-12)


def one_hot() -> Measurement:
    """Every image belongs to one of ten classes with probability 1, equally many to each."""
    return Measurement(inception_score(probabilities=np.eye(10).repeat(100, axis=0), splits=1), 10.0, 1e-9)


def one_hot_in_order() -> Measurement:
    """Ten splits of 10,000 images stored class by class: the score would be 1 without shuffling them first.

    The classes of a split of n are not equally frequent: its score is 10 exp(-9 (1 - n / N) / 2n) to first order, with
    a variance of 18 / 4n^2 in the exponent.
    """
    n, total = 1000, 10_000
    value = measured("is", probabilities=np.eye(10).repeat(total // 10, axis=0))
    error = 10 * math.sqrt(18 / 10) * (1 - n / total) / (2 * n)
    return Measurement(value, 10 * math.exp(-9 * (1 - n / total) / (2 * n)), 4 * error, MONTE_CARLO)


def undecided() -> Measurement:
    """The same probabilities for every image: the lowest possible score."""
    return Measurement(measured("is", probabilities=np.tile([0.7, 0.2, 0.1], (500, 1))), 1.0, 1e-12)


def precision_points() -> Measurement:
    """All balls of real have radius 1: 0.5 is inside, 10 is not."""
    return Measurement(measured("precision", fake=FAKE_POINTS, real=POINTS, k=1), 0.5, 0.0)


def recall_points() -> Measurement:
    """Both balls of fake have radius 9.5: every real point is inside."""
    return Measurement(measured("recall", fake=FAKE_POINTS, real=POINTS, k=1), 1.0, 0.0)


def density_points() -> Measurement:
    """0.5 lies in the balls of 0 and of 1, 10 in none: two balls for two points."""
    return Measurement(measured("density", fake=FAKE_POINTS, real=POINTS, k=1), 1.0, 0.0)


def coverage_points() -> Measurement:
    """Two of four real balls contain a fake point."""
    return Measurement(measured("coverage", fake=FAKE_POINTS, real=POINTS, k=1), 0.5, 0.0)


def copies() -> Measurement:
    """A model that returns its training images."""
    train, held_out = np.random.default_rng(0).normal(size=(2, 500, 8))
    return Measurement(measured("memorised", fake=train, train=train, held_out=held_out), 1.0, 0.0)


def fresh_draws() -> Measurement:
    """New draws from the data's distribution are below the 2nd smallest of 199 held-out distances in 2 of 200 cases."""
    draws = np.random.default_rng(0).normal(size=(400, 3, 199, 4))
    return average([memorised_share(fake=f, train=t, held_out=h) for f, t, h in draws], 0.01)


DISTANCE_PROBLEMS = (
    KnownProblem("FID of N(1/2, I) and N(0, 4 I), 16-D", "Dowson and Landau 1982", spheres),
    KnownProblem("FID of two planes that do not commute", "Heusel et al. 2017, eq. 6; 2x2 root", planes),
    KnownProblem("FID of N(0, I) and itself, 32-D, N = 2,000", "delta method: 2D/N + D(D+1)/2N", frechet_bias),
    KnownProblem("FD-infinity of N(0, I) and itself, 16-D", "Chong and Forsyth 2020: no bias, 0", frechet_infinity),
    KnownProblem("KID of N(0, I) and N(1/2, I), 8-D", "Binkowski et al. 2018, eq. 4; moments", kernel_shift),
    KnownProblem("KID of {0, 1} and {1, 2}, subsets of 2", "Binkowski et al. 2018, eq. 4; by hand", kernel_points),
    KnownProblem("IS of 10 sure classes", "Salimans et al. 2016: number of classes", one_hot),
    KnownProblem("IS of 10 sure classes stored in order", "Miller 1955: bias of entropy, 10 splits", one_hot_in_order),
    KnownProblem("IS of one distribution for all", "Salimans et al. 2016: 1", undecided),
    KnownProblem("precision of {1/2, 10} on {0, 1, 2, 3}", "Kynkaanniemi et al. 2019, eq. 2", precision_points),
    KnownProblem("recall of {1/2, 10} on {0, 1, 2, 3}", "Kynkaanniemi et al. 2019, eq. 2", recall_points),
    KnownProblem("density of {1/2, 10} on {0, 1, 2, 3}", "Naeem et al. 2020, eq. 4", density_points),
    KnownProblem("coverage of {1/2, 10} on {0, 1, 2, 3}", "Naeem et al. 2020, eq. 5", coverage_points),
    KnownProblem("sliced W2 of X and 2 X", "Bonneel et al. 2015; same order, n - 1 of n", sliced_spheres),
    KnownProblem("Vendi score of 10 directions, 5 times each", "Friedman and Dieng 2023", orthogonal_samples),
    KnownProblem("memorised share of copies", "all within any threshold", copies),
    KnownProblem("memorised share of fresh draws", "order statistics: r / (T + 1)", fresh_draws),
)
