"""CMMD: the plain double sum, two points by hand, which extractors it accepts."""

import numpy as np
import pytest

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics import clip_kernel_distance
from genbench.metrics.cmmd import CMMD, reference_similarity_of_clip
from genbench.metrics.facts import Capabilities, Setting


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def double_sum(fake, real):
    """1000 times the squared distance of mean embeddings under exp(-|x - y|^2 / 200), in float64."""
    f, r = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (fake, real))

    def mean(x, y):
        return np.exp(-np.square(x[:, None] - y).sum(-1) / 200).mean()

    return 1000 * (mean(f, f) + mean(r, r) - 2 * mean(f, r))


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_equals_the_double_sum(shift):
    fake, real = normal(0, 60, 12) + shift, normal(1, 45, 12)
    assert clip_kernel_distance(fake=fake, real=real) == pytest.approx(double_sum(fake, real), rel=1e-5)


def test_opposite_directions_by_hand():
    """Two sets of one direction each, 2 apart: 1000 (2 - 2 exp(-4 / 200)); the lengths do not matter."""
    fake, real = np.array([[3.0, 0], [5, 1e-3]]), np.array([[-1.0, 0], [-2, 1e-3]])
    assert clip_kernel_distance(fake=fake, real=real) == pytest.approx(2000 * (1 - np.exp(-0.02)), rel=1e-4)


def test_identical_sets_are_at_distance_0():
    x = normal(0, 50, 8)
    assert clip_kernel_distance(fake=x, real=x) == pytest.approx(0, abs=1e-6)


def test_a_reference_that_is_known_gives_the_same():
    fake, real = normal(0, 40, 6), normal(1, 50, 6)
    known = reference_similarity_of_clip(real)
    assert CMMD.compute(fake=fake, real=real, known=known) == CMMD.compute(fake=fake, real=real)


def test_interval_has_the_spread_of_repeated_draws():
    real = normal(0, 400, 8)
    values = [CMMD.compute(fake=normal(s, 300, 8) + 0.3, real=real) for s in range(1, 121)]
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.2)


def test_only_features_of_clip_are_accepted():
    def why_not(extractor):
        return CMMD.reads.why_not(CMMD, Setting("digits", 10, extractor, False, False), Capabilities("x"))

    assert why_not("clip-vit-b-32") == ""
    assert why_not("classifier") == (
        "features 'classifier' are not CLIP's; allowed: clip-vit-l-14-336px (as published), clip-..."
    )


def test_sets_that_have_no_value():
    with pytest.raises(TooFewSamples, match="cmmd: 3 generated samples; needs at least 4"):
        CMMD.compute(fake=normal(0, 3, 3), real=normal(1, 50, 3))
    with pytest.raises(Degenerate, match="cmmd: all 30 reference samples are the same"):
        CMMD.compute(fake=normal(0, 30, 3), real=np.ones((30, 3)))
    with pytest.raises(Degenerate, match="cmmd: 1 of 2 fake rows are all zero"):
        clip_kernel_distance(fake=np.array([[0.0, 0], [1, 0]]), real=normal(1, 5, 2))
