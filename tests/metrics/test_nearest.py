"""Decisions at float32's speed against float64's: random sets, planted ties and near-ties, extreme scales."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genbench.metrics import nearest
from genbench.metrics.nearest import Balls, crossing, others


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def exact_squares(x, y):
    """|x_i - y_j|^2 (N, M) in float64, from the differences."""
    differences = (x[:, None].astype("f8") - y.astype("f8")).reshape(-1, x.shape[1])
    return np.einsum("pd,pd->p", differences, differences).reshape(len(x), len(y))


def expected_counts(x, y, balls):
    squares = exact_squares(x, y)
    radii = balls.squared[:, None] if balls.of == "x" else balls.squared
    inside = squares < radii if balls.open else squares <= radii
    return inside.sum(axis=1).tolist(), inside.sum(axis=0).tolist()


def agree(x, y, balls):
    counts, found = crossing(x, y, balls)
    squares = exact_squares(x, y)
    for name, b in balls.items():
        assert (counts[name].x.tolist(), counts[name].y.tolist()) == expected_counts(x, y, b), name
    assert found.which.tolist() == squares.argmin(axis=1).tolist()
    assert found.squared == pytest.approx(squares.min(axis=1), rel=1e-14, abs=0)
    return squares


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(nearest, "_PAIRS", 1000)
    monkeypatch.setattr(nearest, "_VALUES", 500)


SETS = {
    "around 0": lambda: (normal(0, 60, 8), normal(1, 70, 8)),
    "float32": lambda: (normal(0, 60, 30).astype("f4"), normal(1, 70, 30).astype("f4")),
    "far from 0": lambda: (normal(0, 60, 8) + 1e6, normal(1, 70, 8) + 1e6),
    "tiny": lambda: (1e-30 * normal(0, 60, 8), 1e-30 * normal(1, 70, 8)),
    "huge": lambda: (1e30 * normal(0, 60, 8), 1e30 * normal(1, 70, 8)),
    "one outlier": lambda: (normal(0, 60, 8), np.concatenate([normal(1, 69, 8), np.full((1, 8), 1e7)])),
    "two clusters far apart": lambda: (normal(0, 60, 8), normal(1, 70, 8) + 1e5 * (np.arange(70) % 2)[:, None]),
    "a lattice of ties": lambda: (np.indices((8, 8)).reshape(2, -1).T * 0.1, np.indices((8, 9)).reshape(2, -1).T * 0.1),
    "many copies": lambda: (np.repeat(normal(0, 6, 8), 10, axis=0), np.repeat(normal(0, 7, 8), 10, axis=0)),
    "all the same": lambda: (np.ones((60, 8)), np.ones((70, 8))),
}


@pytest.mark.parametrize("name", SETS)
def test_counts_and_nearest_rows_are_those_of_float64(name):
    x, y = SETS[name]()
    of_y, of_x = (np.sort(exact_squares(rows, rows), axis=1) for rows in (y, x))
    balls = {
        "third": Balls("y", of_y[:, 3]), "fifth": Balls("y", of_y[:, 5]), "open": Balls("y", of_y[:, 5], open=True),
        "around x": Balls("x", of_x[:, 3]),
    }  # fmt: skip
    agree(x, y, balls)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("whole", [True, False])
def test_nearest_others_are_those_of_float64(name, whole, monkeypatch):
    monkeypatch.setattr(nearest, "_KEPT", 10**6 if whole else 0)
    rows = SETS[name]()[1]
    squares = exact_squares(rows, rows)
    np.fill_diagonal(squares, np.inf)
    found = others(rows, 5)
    order = squares.argsort(axis=1, kind="stable")[:, :5]
    assert found.squared.tolist() == np.take_along_axis(squares, order, axis=1).tolist()
    assert found.which.tolist() == order.tolist()


def test_surfaces_a_rounding_error_away_are_on_their_side():
    """Every pair has a ball whose surface passes through the point, or a relative 2^-52 before or behind it."""
    x, y = normal(0, 40, 64).astype("f4") + 3, normal(1, 40, 64).astype("f4") + 3
    through = exact_squares(x, y).diagonal()
    inside = {"on": through, "behind": np.nextafter(through, np.inf), "before": np.nextafter(through, 0)}
    counts, _ = crossing(x, y, {name: Balls("y", squared) for name, squared in inside.items()})
    own = {name: c.y - counts["before"].y for name, c in counts.items()}
    assert own["on"].tolist() == own["behind"].tolist() == [1] * 40
    opened, _ = crossing(x, y, {"on": Balls("y", through, open=True)})
    assert opened["on"].y.tolist() == counts["before"].y.tolist()


def test_float32_alone_would_decide_some_of_these_wrongly():
    """The plain float32 distances of the same sets give other counts: what the float64 step is for."""
    x, y = (1 + 0.002 * normal(s, 150, 8) @ normal(9, 8, 256) for s in (0, 1))
    x, y = x.astype("f4"), y.astype("f4")
    radii = np.sort(exact_squares(y, y), axis=1)[:, 3]
    agree(x, y, {"third": Balls("y", radii)})
    plain = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    assert (plain <= radii).sum() != (exact_squares(x, y) <= radii).sum()


def test_the_error_bound_holds_and_few_pairs_are_computed_again(monkeypatch):
    x, y = normal(0, 300, 256).astype("f4"), normal(1, 300, 256).astype("f4")
    bounds, exact = nearest.Bounds(x, y), cdist(x.astype("f8"), y.astype("f8")) ** 2
    for start, upper in bounds.blocks():
        pairs = bounds.within(start, upper, np.full(upper.shape[1], -np.inf, dtype="f4"))
        assert (pairs.low <= exact[pairs.x, pairs.y]).all()
        assert (exact[pairs.x, pairs.y] <= pairs.high).all()
    again, compute = [], nearest.Bounds.exact
    monkeypatch.setattr(nearest.Bounds, "exact", lambda self, i, j: again.append(len(i)) or compute(self, i, j))
    crossing(x, y, {"third": Balls("y", np.sort(exact, axis=0)[3])})
    assert sum(again) < 0.05 * exact.size
