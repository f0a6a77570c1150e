"""Memorisation: copiers, fresh draws with known scores, brute force, SciPy's Mann-Whitney test."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm

from genbench.errors import CellFailure, GenbenchError, TooFewSamples
from genbench.metrics.memorisation import (
    MEMORISATION,
    authenticity_share,
    ct_score,
    memorised_share,
    separation,
)
from genbench.metrics.neighbour_pass import NeighbourPass

METRICS = {m.name: m for m in MEMORISATION}


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def world(seed, copies=0.0, shift=0.0, d=8, n=600, held_out=400):
    """Fake rows of which a share are copies of train rows and the rest fresh draws, train rows and held-out rows."""
    rng = np.random.default_rng(seed)
    train = rng.standard_normal((800, d)) + 5
    fake = rng.standard_normal((n, d)) + 5 + shift
    copied = rng.random(n) < copies
    fake[copied] = train[rng.integers(len(train), size=copied.sum())]
    return {"fake": fake, "train": train, "held_out": rng.standard_normal((held_out, d)) + 5}


def value(name, sets):
    return METRICS[name].compute(**sets)


def test_a_copier_trips_all_three():
    sets = world(0, copies=1.0)
    assert value("memorised", sets).value == 1.0
    assert value("authenticity", sets).value == 0.0
    assert value("ct_score", sets).value < -20


def test_fresh_draws_are_normal():
    sets = world(1, n=3000)
    found = value("memorised", sets)
    assert found.lo < 0.02
    assert found.value < 0.025
    assert abs(ct_score(**sets)) < 3
    assert value("ct_score", sets).hi == 0.0


def test_memorised_share_of_fresh_draws_is_on_average_the_threshold_rank():
    """r / (T + 1) with r = floor(0.05 * 100) = 5 of T = 99, whatever the law."""
    shares = [memorised_share(**world(seed, n=100, held_out=99, d=3), alpha=0.05) for seed in range(300)]
    assert np.mean(shares) == pytest.approx(0.05, abs=4 * np.std(shares) / math.sqrt(300))


def test_ninety_nine_held_out_rows_are_enough_for_one_percent():
    sets = world(0, held_out=99)
    closest = cdist(sets["held_out"], sets["train"]).min()
    expected = (cdist(sets["fake"], sets["train"]).min(axis=1) <= closest).mean()
    assert memorised_share(**sets) == expected
    with pytest.raises(TooFewSamples, match="held_out: found 98 rows, allowed: at least 99"):
        memorised_share(**world(0, held_out=98))


def test_memorised_finds_a_small_share_of_copies():
    """A tenth copied: 0.1 + 0.9 alpha."""
    found = value("memorised", world(2, copies=0.1, n=4000))
    assert found.value == pytest.approx(0.1 + 0.9 * 0.01, abs=0.03)
    assert found.lo > 0.05


def test_copies_trip_it_where_held_out_images_repeat_train_images_too():
    sets = world(0, copies=1.0)
    sets["held_out"][:100] = sets["train"][:100]
    assert memorised_share(**sets) == 1.0


@pytest.mark.parametrize(("d", "expected"), [(1, 1 / 3), (2, 1 - 6 * math.pi / (8 * math.pi + 3 * math.sqrt(3)))])
def test_authenticity_of_fresh_draws_is_the_share_of_one_sided_neighbours(d, expected):
    """A fresh point is inauthentic when it and its neighbour are each other's nearest: 2/3 on the line, and in the
    plane 6 pi / (8 pi + 3 sqrt 3) (Clark and Evans 1955)."""
    rng = np.random.default_rng(d)
    shares = []
    for _ in range(40):
        train = rng.random((1000, d))
        fake = 0.1 + 0.8 * rng.random((200, d))  # away from the edges
        shares.append(authenticity_share(fake=fake, train=train))
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / math.sqrt(40))


def test_authenticity_by_brute_force():
    sets = world(3, shift=0.3)
    far = cdist(sets["fake"], sets["train"])
    own = cdist(sets["train"], sets["train"])
    np.fill_diagonal(own, np.inf)
    expected = (far.min(axis=1) > own.min(axis=1)[far.argmin(axis=1)]).mean()
    assert 0.3 < expected < 0.9
    assert authenticity_share(fake=sets["fake"], train=sets["train"]) == expected


def test_a_pass_that_is_given_is_used_and_gives_the_same():
    sets = world(3, shift=0.3)
    near = NeighbourPass(sets["fake"], sets["train"])
    for metric in MEMORISATION:
        assert metric.compute(**sets, near=near) == metric.compute(**sets)
        other = world(5, shift=0.9)["fake"]
        of_other = NeighbourPass(other, sets["train"])
        assert (
            metric.compute(**sets, near=of_other) == metric.compute(**{**sets, "fake": other}) != metric.compute(**sets)
        )


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.4])
def test_u_and_z_are_scipys(shift):
    rng = np.random.default_rng(7)
    fake, held_out = rng.random(300) + shift, rng.random(200)
    theirs = mannwhitneyu(fake, held_out, alternative="less", use_continuity=False, method="asymptotic")
    ours = separation(fake, held_out)
    assert ours.u == pytest.approx(theirs.statistic, rel=1e-12)
    assert norm.cdf(ours.z) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_ties_count_a_half():
    fake, held_out = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 3.0])
    assert separation(fake, held_out).u == mannwhitneyu(fake, held_out).statistic == 3.0


def test_standard_error_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)
    found = [separation(rng.normal(-0.5, 1, 150), rng.normal(0, 1, 100)) for _ in range(800)]
    assert np.mean([s.error for s in found]) == pytest.approx(np.std([s.z for s in found]), rel=0.1)


def test_c_t_of_fresh_draws_is_standard_normal():
    scores = [ct_score(**world(seed, n=100, held_out=100, d=2)) for seed in range(300)]
    assert np.mean(scores) == pytest.approx(0, abs=4 / math.sqrt(300))
    assert np.std(scores) == pytest.approx(1, abs=0.2)  # the train rows they share add a little


def test_c_t_is_signed_and_its_metric_shows_copying_alone():
    copied, blurred = world(4, copies=0.3), world(4, shift=1.0)
    assert ct_score(**copied) < -4
    assert ct_score(**blurred) > 4
    shown = value("ct_score", copied)
    assert shown.value == ct_score(**copied)
    assert shown.lo < shown.value < shown.hi < 0
    assert value("ct_score", blurred).value == 0.0


def test_cells_find_copying_that_the_whole_hides():
    """Copies in one of two modes and poor samples in the other cancel over all rows, not by cells."""
    rng = np.random.default_rng(0)
    train, held_out = ([rng.standard_normal((n, 2)) for _ in range(2)] for n in (600, 300))
    copied, poor = train[0][rng.integers(600, size=300)], 1.8 * rng.standard_normal((300, 2))
    away = np.array([50.0, 0.0])
    sets = {
        "fake": np.concatenate([copied, poor + away]),
        "train": np.concatenate([train[0], train[1] + away]),
        "held_out": np.concatenate([held_out[0], held_out[1] + away]),
    }
    by_mode = [
        separation(cdist(f, t).min(axis=1), cdist(h, t).min(axis=1)).z
        for f, t, h in ((copied, train[0], held_out[0]), (poor, train[1], held_out[1]))
    ]
    assert by_mode[0] < -15
    assert by_mode[1] > 3
    assert ct_score(**sets, n_cells=2) == pytest.approx(np.mean(by_mode), rel=1e-9)
    assert ct_score(**sets, n_cells=2) == ct_score(**sets, n_cells=2, seed=0)
    only_copies = {**sets, "fake": sets["fake"][:300]}
    assert ct_score(**only_copies, n_cells=2) == pytest.approx(by_mode[0], rel=1e-9)  # the empty cell does not count


def test_intervals_hold_the_value():
    for metric in MEMORISATION:
        found = metric.compute(**world(5, copies=0.05))
        assert found.lo <= found.value <= found.hi
        assert found.interval


def test_refusals():
    sets = world(0)
    with pytest.raises(GenbenchError, match="fake has 8 features a row and train 5; must agree"):
        memorised_share(**{**sets, "train": sets["train"][:, :5]})
    with pytest.raises(GenbenchError, match="train: found 1 rows, allowed: at least 2"):
        authenticity_share(fake=sets["fake"], train=sets["train"][:1])
    with pytest.raises(GenbenchError, match=r"n_cells: found 0, allowed: 1..800"):
        ct_score(**sets, n_cells=0)
    with pytest.raises(GenbenchError, match=r"alpha: found 1.5, allowed: above 0 and below 1"):
        memorised_share(**sets, alpha=1.5)
    with pytest.raises(CellFailure, match="no cell holds 20 generated samples"):
        ct_score(**{**sets, "fake": sets["fake"][:19]})
    sets["fake"][3, 2] = np.nan
    with pytest.raises(CellFailure, match="fake: 1 of 600 rows"):
        memorised_share(**sets)
