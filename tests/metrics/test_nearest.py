"""Decisions at float32's speed against float64's: random sets, planted ties and near-ties, extreme scales."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from genbench.metrics import arithmetic, nearest
from genbench.metrics.arithmetic import Arithmetic
from genbench.metrics.computing import computing_on
from genbench.metrics.nearest import Balls, crossing, others
from genbench.metrics.products import BFLOAT16, FLOAT32, KINDS, TF32


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
    monkeypatch.setattr(nearest, "_ROWS", 8)
    monkeypatch.setattr(nearest, "CACHED", 500)
    monkeypatch.setattr(arithmetic, "SHARED", 400)


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


@pytest.fixture(params=KINDS)
def kind(request):
    """Products of every kind, on the CPU."""
    with computing_on("cpu", products=KINDS[request.param]):
        yield KINDS[request.param]


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("name", SETS)
def test_counts_and_nearest_rows_are_those_of_float64(name):
    x, y = SETS[name]()
    of_y, of_x = (np.sort(exact_squares(rows, rows), axis=1) for rows in (y, x))
    balls = {
        "third": Balls("y", of_y[:, 3]), "fifth": Balls("y", of_y[:, 5]), "open": Balls("y", of_y[:, 5], open=True),
        "around x": Balls("x", of_x[:, 3]),
    }  # fmt: skip
    agree(x, y, balls)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("way", ["whole", "once", "twice"])
def test_nearest_others_are_those_of_float64(name, way, monkeypatch):
    monkeypatch.setattr(nearest, "_KEPT", 10**6 if way == "whole" else 0)
    monkeypatch.setattr(Arithmetic, "halves_pairs", way == "once")
    rows = SETS[name]()[1]
    squares = exact_squares(rows, rows)
    np.fill_diagonal(squares, np.inf)
    found = others(rows, 5)
    order = squares.argsort(axis=1, kind="stable")[:, :5]
    assert found.squared.tolist() == np.take_along_axis(squares, order, axis=1).tolist()
    assert found.which.tolist() == order.tolist()


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize("n", [6, 7, 8, 9, 13, 41])
def test_few_rows_have_their_nearest_others_too(n, kept, monkeypatch):
    """Blocks of 8 rows: the last ones have fewer columns than neighbours are asked for."""
    monkeypatch.setattr(nearest, "_KEPT", kept)
    monkeypatch.setattr(arithmetic, "SHARED", 1)
    rows = normal(n, n, 4)
    squares = exact_squares(rows, rows)
    np.fill_diagonal(squares, np.inf)
    assert others(rows, 5).which.tolist() == squares.argsort(axis=1)[:, :5].tolist()


@pytest.mark.usefixtures("kind")
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

    def check(start, first, upper):
        pairs = bounds.within(start, first, upper, np.full(upper.shape[1], -np.inf, dtype="f4"))
        assert (pairs.low <= exact[pairs.x, pairs.y]).all()
        assert (exact[pairs.x, pairs.y] <= pairs.high).all()

    bounds.each(check)
    again, compute = [], nearest.Bounds.exact
    monkeypatch.setattr(nearest.Bounds, "exact", lambda self, i, j: again.append(len(i)) or compute(self, i, j))
    crossing(x, y, {"third": Balls("y", np.sort(exact, axis=0)[3])})
    assert sum(again) < 0.05 * exact.size


def test_products_are_float32_whatever_torch_is_told(monkeypatch):
    at, seen, multiply = Arithmetic(kind=BFLOAT16), list[str](), torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda x, y: seen.append(torch.get_float32_matmul_precision()) or multiply(x, y)
    )
    torch.set_float32_matmul_precision("medium")
    try:
        for products in (at, Arithmetic()):
            x = products.coarse_rows(normal(0, 30, 8).astype("f4"))
            products.coarse(x, x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest"]  # NumPy, which multiplies float32, knows no such setting


def test_the_bound_of_each_kind_holds_where_all_roundings_add_up(kind):
    """Equal rows of a positive value just below the middle of two roundings: every input is rounded down."""
    low = 1 + 0.49 * 2 * max(kind.inputs, 2.0**-24)
    rows = np.full((1, 2048), low, dtype="f4")
    left = torch.from_numpy(kind.rounded(rows))
    product = float((kind.as_stored(left) @ kind.as_stored(left).T).float())
    wrong, norms = abs(product - float(np.square(rows.astype("f8")).sum())), 2 * 2048 * low**2
    assert 0.4 * kind.inputs * norms <= wrong <= kind.error(2048) * norms


def test_rounding_the_result_adds_half_of_its_largest_size(kind):
    """A product is at most (1 + d)^2 (1 + g) / 2 times |x|^2 + |y|^2, and is rounded by r of that."""
    total = (100 + 6) * kind.sums
    largest = (1 + kind.inputs) ** 2 * (1 + total / (1 - total)) / 2
    assert kind.error(100) - kind._replace(result=0.0).error(100) == pytest.approx(kind.result * largest, rel=1e-9)


def test_inputs_are_rounded_to_nearest_and_ties_to_even():
    rows = np.concatenate([normal(0, 1, 1000)[0], 1 + np.arange(8) / 256, [0, -0.0, 1e-30, -1e30]]).astype("f4")[None]
    assert FLOAT32.rounded(rows) is rows
    assert BFLOAT16.rounded(rows).tolist() == torch.from_numpy(rows).bfloat16().float().tolist()
    ties = np.float32([[1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, -1 - 2**-12]])
    assert TF32.rounded(ties).tolist() == [[1, 1 + 2**-9, 1 + 2**-10, -1]]
    for kind in (TF32, BFLOAT16):
        assert (np.abs(kind.rounded(rows) - rows) <= kind.inputs * np.abs(rows)).all()


def test_tf32_alone_would_decide_some_wrongly():
    x, y = (normal(s, 150, 64).astype("f4") for s in (0, 1))
    radii = np.sort(exact_squares(y, y), axis=1)[:, 75]
    plain = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * TF32.rounded(x) @ TF32.rounded(y).T
    assert ((plain <= radii) != (exact_squares(x, y) <= radii)).any()
    with computing_on("cpu", products=TF32):
        agree(x, y, {"half": Balls("y", radii)})


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_rows_and_change_nothing(threads):
    x, y = normal(0, 90, 8), normal(1, 70, 8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = others(y, 5)
        agree(x, y, {"third": Balls("y", found.squared[:, 2]), "around x": Balls("x", others(x, 5).squared[:, 2])})
    finally:
        torch.set_num_threads(before)
    assert found.squared[:, 0].tolist() == np.sort(exact_squares(y, y), axis=1)[:, 1].tolist()


def test_what_fails_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(nearest, "_find_nearest", lambda *_: 1 / 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        crossing(normal(0, 9, 3), normal(1, 9, 3), {})
