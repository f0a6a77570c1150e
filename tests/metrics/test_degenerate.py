"""Sets for which a metric's number would say nothing are n/a with the reason, in the array functions too."""

from __future__ import annotations

import numpy as np
import pytest

from genbench import metrics
from genbench.errors import Degenerate, GenbenchError, TooFewSamples
from genbench.metrics.degenerate import refuse_equal_rows, refuse_points_for_balls


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def compute(name: str, **arguments: object) -> float:
    return metrics.get(name).compute(**arguments).value


ROUNDED = (np.full((60, 4), 3.0) + 1e-7 * normal(0, 60, 4)).astype(np.float32)
BLACK = np.zeros((60, 4))
OF_FEATURES = ("fid", "kid", "kid_subsets", "precision", "recall", "density", "coverage")


@pytest.mark.parametrize("same", [BLACK, BLACK + 7, ROUNDED], ids=["black", "grey", "rounded"])
@pytest.mark.parametrize("name", [*OF_FEATURES, "sliced_wasserstein"])
def test_two_sets_of_one_repeated_image(name, same):
    with pytest.raises(Degenerate, match=f"{name}: (all 60 reference samples are the same|60 of 60 balls)"):
        compute(name, fake=same, real=same)


@pytest.mark.parametrize("name", ["precision", "density", "coverage"])
def test_a_reference_of_repeated_images_beside_others(name):
    real = np.repeat(normal(0, 10, 4), 6, axis=0)
    with pytest.raises(Degenerate, match=f"{name}: 60 of 60 balls of the reference samples have radius 0"):
        compute(name, fake=normal(1, 60, 4), real=real)


def test_generated_images_that_are_all_alike_keep_the_values_that_say_so():
    real = normal(0, 100, 4)
    for name in ("fid", "kid", "precision", "density", "coverage", "sliced_wasserstein"):
        assert np.isfinite(compute(name, fake=BLACK, real=real)), name
    with pytest.raises(Degenerate, match="recall: 60 of 60 balls of the generated samples have radius 0"):
        compute("recall", fake=BLACK, real=real)


@pytest.mark.parametrize(("name", "k"), [("precision", 3), ("recall", 3), ("density", 5), ("coverage", 5)])
def test_few_samples_for_the_neighbours_of_a_ball(name, k):
    few = f"{name}: 4 generated samples; needs at least {10 * k} for k = {k}|found 4 rows"
    with pytest.raises((TooFewSamples, GenbenchError), match=few):
        compute(name, fake=normal(0, 4, 4), real=normal(1, 100, 4))
    with pytest.raises(TooFewSamples, match=f"{name}: {10 * k - 1} reference samples; needs at least {10 * k}"):
        compute(name, fake=normal(0, 100, 4), real=normal(1, 10 * k - 1, 4))
    assert np.isfinite(compute(name, fake=normal(0, 10 * k, 4), real=normal(1, 10 * k, 4)))


def test_half_the_balls_may_be_points():
    rows = normal(0, 100, 4)
    radii = np.ones(100)
    radii[:50] = 0.0
    refuse_points_for_balls("x", "reference", radii, rows)
    radii[50] = 0.0
    with pytest.raises(Degenerate, match="x: 51 of 100 balls"):
        refuse_points_for_balls("x", "reference", radii, rows)


def test_rows_that_differ_little_but_really_are_no_repetition():
    refuse_equal_rows("x", "reference", BLACK + 1e-300 * normal(0, 60, 4))
    refuse_equal_rows("x", "reference", 1.0 + 1e-4 * normal(0, 60, 4))


def test_the_array_functions_refuse_them_too():
    for function in (metrics.frechet_distance, metrics.kernel_distance, metrics.sliced_wasserstein_distance):
        with pytest.raises(Degenerate, match="all 60 reference samples are the same"):
            function(fake=normal(0, 60, 4), real=BLACK)
    with pytest.raises(Degenerate, match="precision_recall: 60 of 60 balls of the generated samples"):
        metrics.precision_recall(fake=BLACK, real=normal(0, 60, 4))


def test_few_samples_for_splits_and_classes():
    p = np.full((99, 10), 0.1)
    with pytest.raises(TooFewSamples, match="is: 99 generated samples in 10 splits; needs at least 100"):
        compute("is", probabilities=p)
    with pytest.raises(TooFewSamples, match="rarest_class: 9 generated samples for 10 classes"):
        compute("rarest_class", probabilities=p[:9])
    assert compute("is", probabilities=np.full((100, 10), 0.1)) == pytest.approx(1.0)


def test_a_single_class_and_missing_classes():
    x, one, two = normal(0, 60, 4), np.zeros(60, int), np.arange(60) % 2
    with pytest.raises(Degenerate, match="per_class_fid: all 60 reference samples are of class 0; needs two classes"):
        compute("per_class_fid", fake=x, real=x, fake_labels=one, real_labels=one)
    with pytest.raises(Degenerate, match=r"per_class_fid: all 30 reference \(class 0\) samples are the same"):
        compute("per_class_fid", fake=x, real=np.where(two[:, None], x, 0.0), fake_labels=two, real_labels=two)
    pixels = np.zeros((60, 1, 4, 4), np.uint8)
    with pytest.raises(Degenerate, match="cas: all 60 reference samples are of class 0"):
        compute("cas", fake=pixels, real=pixels, fake_labels=one, real_labels=one, levels=256)
    with pytest.raises(TooFewSamples, match="cas: no generated sample of class 1; needs samples of every class"):
        compute("cas", fake=pixels, real=pixels, fake_labels=one, real_labels=two, levels=256)


def test_memorisation_of_one_repeated_train_image_and_of_few_held_out_ones():
    sets = {"fake": normal(0, 60, 4), "held_out": normal(1, 120, 4)}
    for name in ("memorised", "authenticity", "ct_score"):
        with pytest.raises(Degenerate, match=f"{name}: all 60 train samples are the same"):
            compute(name, train=BLACK, **sets)
    with pytest.raises(TooFewSamples, match="held_out: found 98 rows, allowed: at least 99"):
        compute("memorised", train=normal(2, 60, 4), fake=sets["fake"], held_out=sets["held_out"][:98])
