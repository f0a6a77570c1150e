"""CLIPScore and prompt agreement: by hand, chance level, ties, intervals."""

import numpy as np
import pytest

from genbench.errors import Degenerate, GenbenchError
from genbench.metrics import clip_agreement, clip_score, get, prompted
from genbench.metrics.prompted import nearest_is_own


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_score_by_hand():
    """Cosines 1, 0.6 and -1: 2.5 (1 + 0.6 + 0) / 3; lengths do not matter."""
    fake, texts = [[2.0, 0.0], [3.0, 4.0], [0.0, -5.0]], [[1.0, 0.0], [7.0, 0.0], [0.0, 1.0]]
    assert clip_score(fake=fake, texts=texts) == pytest.approx(2.5 * 1.6 / 3)
    assert clip_score(fake=fake, texts=[[1.0, 0.0]], which=[0, 0, 0]) == pytest.approx(2.5 * 1.6 / 3)


def test_agreement_by_hand():
    texts = np.eye(3)
    fake = [[1.0, 0.1, 0.0], [0.0, 1.0, 0.9], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert nearest_is_own(fake, texts, [0, 2, 2, 2]).tolist() == [True, False, False, True]  # the third is a tie
    assert clip_agreement(fake=fake, texts=texts, which=[0, 2, 2, 2]) == 0.5


@pytest.mark.parametrize(("texts", "chance"), [(10, 1 / 10), (1000, 1 / 100)])
def test_images_without_relation_to_their_prompts_score_chance(texts, chance):
    n = 20_000
    which = np.arange(n) % texts
    found = clip_agreement(fake=normal(0, n, 16), texts=normal(1, texts, 16), which=which)
    assert found == pytest.approx(chance, abs=4 * (chance / n) ** 0.5)


def test_no_text_competes_with_itself():
    """1,000 texts and images that equal their own: an own text among the rivals would be a tie."""
    texts = normal(0, 1000, 8)
    assert clip_agreement(fake=texts, texts=texts) == 1


@pytest.mark.parametrize("name", ["clip_score", "clip_agreement"])
def test_intervals_cover_the_expected_value_for_these_prompts(name):
    """Images scatter about their prompts; the value of 60,000 images lies in most intervals of 120."""
    texts = normal(0, 12, 6)

    def value(seed, n):
        which = np.arange(n) % 12
        return get(name).compute(fake=texts[which] + 2.5 * normal(seed, n, 6), texts=texts, which=which)

    truth = value(1, 60_000).value
    inside = [found.lo <= truth <= found.hi for found in (value(seed, 120) for seed in range(2, 202))]
    assert np.mean(inside) > 0.91


def test_what_is_refused():
    with pytest.raises(Degenerate, match="1 of 2 fake rows are all zero: no direction"):
        clip_score(fake=[[0.0, 0.0], [1.0, 0.0]], texts=np.eye(2))
    with pytest.raises(Degenerate, match="1 of 2 texts rows are all zero: no direction"):
        clip_score(fake=np.eye(2), texts=np.diag([1.0, 0.0]))
    with pytest.raises(GenbenchError, match="fake has 2 features a row and texts 3; must agree"):
        clip_score(fake=np.eye(2), texts=np.eye(3))
    with pytest.raises(GenbenchError, match="which: found int64 of shape \\(2,\\), allowed: 2 numbers of texts"):
        clip_agreement(fake=np.eye(2), texts=np.eye(2), which=[0, 2])


def test_equal_texts_tie_however_products_are_rounded():
    """A text and its copies win or lose together, although blocks of products sum in different orders."""
    texts = normal(0, 37, 101)
    fake = texts + 0.1 * normal(1, 37, 101)
    assert nearest_is_own(fake, texts, None).all()
    assert not nearest_is_own(fake, np.concatenate([texts, texts]), None).any()


def test_a_text_that_is_nearer_by_little_wins():
    """Cosines that differ by about 1e-13, in either order of the texts."""
    fake, near = np.ones((1, 3)), np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + 1e-6]])
    assert nearest_is_own(fake, near, [0]).tolist() == [True]
    assert nearest_is_own(fake, near, [1]).tolist() == [False]


def test_two_texts_that_differ_by_less_than_rounding_are_compared_with_the_same_sums(monkeypatch):
    """In two dimensions the similarities 1 and 1 - 8e-16 differ by less than the margin, 8 eps = 1.8e-15."""
    compared = []
    exactly = prompted._leads_exactly
    monkeypatch.setattr(prompted, "_leads_exactly", lambda x, *rest: compared.append(len(x)) or exactly(x, *rest))
    texts = np.array([[1.0, 0.0], [np.cos(4e-8), np.sin(4e-8)]])
    assert nearest_is_own(texts[:1], texts, [0]).all()
    assert compared == [1]
