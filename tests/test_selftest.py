"""The selftest agrees with its known answers, states the published ones, and fails when the code is wrong."""

import itertools
import math
from contextlib import contextmanager, nullcontext
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from genbench import selftest
from genbench.cli import app
from genbench.errors import GenbenchError
from genbench.selftest import base, samplers
from genbench.selftest.base import KnownProblem, Measurement, ProblemResult

NUMBERS = map(str, itertools.count())
TRUE = {  # what papers, hand or an independent computation give
    "FID of N(1/2, I) and N(0, 4 I)": 20,
    "FID of N(0, I) and itself": 0.296,
    "KID of N(0, I) and N(1/2, I)": 1.1171875,
    "bits/dim of uniform pixels": 8,
    "bits/dim of pixels 1/2": 1.75,
    "bits/dim of pixels white": 0.881291,
    "bits/dim of density 2y": 0.131417,
    "density 2y averaged": 0.10546875,
    "DDIM, eta 0, 10": 0.83170,
    "DDIM, eta 0, 50 steps": 0.96408,
    "DDIM, eta 0, 50 quadratic": 0.97158,
    "DCGAN": -0.2 * math.log(2 / 7) - 0.8 * math.log(8 / 13) - 0.5 * math.log(5 / 7) - 0.5 * math.log(5 / 13),
}


@pytest.fixture(scope="module")
def rows():
    return {row.problem: row for row in selftest.run_selftest()}


@pytest.mark.parametrize("name", [problem.name for problem in selftest.PROBLEMS])
def test_every_world_agrees(rows, name):
    assert rows[name].ok, selftest.result_table([rows[name]])
    assert math.isfinite(rows[name].tolerance)


@pytest.mark.parametrize("name", TRUE)
def test_truth_is_the_published_one(rows, name):
    (found,) = (row for problem, row in rows.items() if name in problem)
    assert found.true == pytest.approx(TRUE[name], abs=6e-6)


@pytest.mark.parametrize(
    ("times", "std", "eta", "expected"),
    [
        (20, 1.0, 0, 0.91253), (1000, 1.0, 0, 0.99812), (20, 2.0, 0, 1.85496), (50, 0.5, 0, 0.47244),
        (10, 1.0, 1, 0.74041), (100, 1.0, 1, 0.96000), (20, 0.5, 1, 0.39146),
    ],
)  # fmt: skip
def test_spread_of_the_implicit_chain_is_the_known_one(times, std, eta, expected):
    steps = [i * 1000 // times for i in range(times)]
    assert samplers.implicit_spread(steps, std, eta) == pytest.approx(expected, abs=6e-6)


@pytest.mark.parametrize(
    ("variance", "s2", "bits"),
    [("large", 1.0, 2.211134), ("small", 1.0, 2.881831), ("large", 0.25, 1.212529), ("small", 0.25, 1.869325)],
)
def test_bound_of_the_exact_denoiser_is_the_known_one(variance, s2, bits):
    nats = samplers.chain_nats(s2, variance) + samplers.gaussian_decoder(s2)
    assert nats / math.log(2) == pytest.approx(bits, abs=1e-6)


def test_worlds_have_names_and_sources_of_their_own():
    names = [problem.name for problem in selftest.PROBLEMS]
    assert len(set(names)) == len(names)
    assert all(problem.source for problem in selftest.PROBLEMS)


# ---- planted faults: (problems that must fail, what is replaced, by what, given the original) ------------------------


def divided_by_n(moments):
    def wrong(features, name="features"):
        found, n = moments(features, name), len(features)
        return type(found)(found.mean, found.root * math.sqrt((n - 1) / n))

    return wrong


def with_the_diagonal(upper_blocks):
    def wrong(x, kernel):
        for part, rest, k in upper_blocks(x, kernel):
            k.ravel()[:: k.shape[1] + 1] = kernel(np.square(x[part]).sum(axis=1))
            yield part, rest, k

    return wrong


def without_shuffling(random_state):
    class InOrder(random_state):
        def permutation(self, n):
            return np.arange(n)

    return InOrder


def itself_a_neighbour(others):
    def wrong(rows, k):
        found = others(rows, k)
        return found._replace(squared=np.concatenate([0 * found.squared[:, :1] + 1e-3, found.squared[:, :-1]], axis=1))

    return wrong


def no_log_det(forward):
    def wrong(self, x):
        z, log_det = forward(self, x)
        return z, 0.9 * log_det

    return wrong


def one_step_off(alpha_pair):
    return lambda schedule, t, before: alpha_pair(schedule, t, None if before is None else before + 1)


def plain_average(update):
    def wrong(self, model, step):
        torch._foreach_lerp_(self.shadow, [p.detach() for p in model.parameters()], 1 - self.decay)

    return wrong


def last_frame(opened):
    @contextmanager
    def wrong(path):
        with opened(path) as file:
            file.seek(getattr(file, "n_frames", 1) - 1)
            yield file

    return wrong


def only_png(list_files):
    def wrong(folder):
        listing = list_files(folder)
        listing.files = [file for file in listing.files if file.suffix == ".png"]
        return listing

    return wrong


def one_row_a_call(_):
    def add(count, *_):
        count.rows += 1

    return add


FAULTS = {
    "covariance divided by n": ("FID of two planes", "genbench.metrics.frechet:feature_moments", divided_by_n),
    "biased kernel distance": ("KID", "genbench.metrics.gram:upper_blocks", with_the_diagonal),
    "no extrapolation": ("FD-infinity", "genbench.metrics.fd_infinity:intercept", lambda _: lambda x, y: y[-1]),
    "splits not shuffled": ("stored in order", "numpy.random:RandomState", without_shuffling),
    "entropy in bits": ("IS of 10 sure classes", "genbench.metrics.inception_score:divergences",
                        lambda f: lambda p: f(p) / math.log(2)),
    "self counts as neighbour": ("recall", "genbench.metrics.neighbour_pass:others", itself_a_neighbour),
    "directions too long": ("sliced W2", "genbench.metrics.wasserstein:directions", lambda f: lambda *a: 2 * f(*a)),
    "eigenvalues in bits": ("Vendi", "genbench.metrics.vendi:entropies", lambda f: lambda x: f(x) / math.log(2)),
    "loose threshold": ("memorised share of fresh", "genbench.metrics.memorisation:close_to_train",
                        lambda f: lambda *a: f(*a[:3], 0.03)),
    "nats for bits": ("bits/dim of", "genbench.space:bits_per_dim", lambda _: lambda nats, dims: -nats / dims),
    "no noise on the pixels": ("density 2y", "zoo.flows:dequantise", lambda _: lambda x, n, gen: (x + 0.5) / n),
    "volume of a cell forgotten": ("bits/dim of uniform", "zoo.flows:density_to_mass", lambda _: lambda x, d, n: x),
    "log-determinant too small": ("RealNVP", "zoo.realnvp:AffineCoupling.forward", no_log_det),
    "half the divergence": ("VAE, linear", "zoo.vae:kl_to_prior", lambda f: lambda *a: f(*a) / 2),
    "mean of logs": ("from the prior", "zoo.vae:log_mean_exp", lambda _: lambda logs: logs.mean(0)),
    "density of another law": ("IWAE, k = 7", "zoo.vae:log_normal", lambda f: lambda *a: 1.01 * f(*a)),
    "step to the wrong time": ("DDIM, eta 0", "zoo.ddim:alpha_pair", one_step_off),
    "too little noise": ("DDIM, eta 1", "zoo.ddim:gaussian_noise", lambda f: lambda *a: 0.98 * f(*a)),
    "the other variance": ("small variance", "zoo.ddpm:Schedule.log_variance",
                           lambda f: lambda self, kind: f(self, "large")),
    "loss of x_0": ("DDPM's loss", "zoo.ddpm:q_sample", lambda f: lambda x, e, a, b: f(x, e, a**2, b)),
    "divergence without its half": ("bound of N(0, 1/4)", "zoo.ddpm:gaussian_kl", lambda f: lambda *a: 2 * f(*a)),
    "bins of half the width": ("bound of level", "zoo.ddpm:discretised_gaussian",
                               lambda f: lambda x, m, s, n: f(x, m, 2 * s, n)),
    "no divergence passed": ("probability flow", "zoo.probability_flow:flow_slope",
                             lambda f: lambda *a: (f(*a)[0], 0 * f(*a)[1])),
    "fooled critic": ("DCGAN", "zoo.dcgan:cross_entropy", lambda f: lambda real, fake: f(fake, real)),
    "average without warm-up": ("moving average", "genbench.train.ema:MovingAverage.update", plain_average),
    "levels cut, not rounded": ("grey levels", "genbench.selftest.samplers:to_pixels",
                                lambda _: lambda x, n: ((x + 1) * (n - 1) / 2).clamp(0, n - 1).to(torch.uint8)),
    "one block for all": ("number drawn", "genbench.selftest.samplers:draw",
                          lambda f: lambda model, n, seed, block: f(model, n, seed, block=n)),
    "times added up": ("images/s", "genbench.metrics.cost:median", lambda _: sum),
    "neighbours not noticed": ("beside a process", "genbench.contention:disturbance", lambda _: lambda *a: ""),
    "seconds for milliseconds": ("latency", "genbench.metrics.cost:median", lambda f: lambda x: f(x) / 1e3),
    "calls counted for rows": ("evaluations", "genbench.draw.counting:EvaluationCount._add", one_row_a_call),
    "orientation ignored": ("orientation", "genbench.data.pictures:TURNS", lambda _: {}),
    "sixteen bits cut": ("16 bits", "genbench.data.pictures:eight_bits",
                         lambda _: lambda values, top: (values >> 8).astype(np.uint8)),
    "transparency ignored": ("black by half", "genbench.data.pictures:on_white",
                             lambda _: lambda image: (image.convert("RGB"), False)),
    "half of the formats": ("pictures of 4", "genbench.data.pictures:list_files", only_png),
    "counters taken for classes": ("names of folders", "genbench.selftest.reading:as_classes",
                                   lambda _: lambda labels, classes: (labels.numbers, "")),
    "labels not compared": ("warnings of shuffled", "genbench.selftest.reading:lint.label_findings",
                            lambda _: lambda *a: ((), ())),
    "repeated rows accepted": ("numbers for sets", "genbench.metrics.frechet:refuse_equal_rows",
                               lambda _: lambda *a: None),
    "any layout accepted": ("unclear axes", "genbench.data.arrays:_refuse_unclear", lambda _: lambda *a: None),
    "zeros accepted": ("checkpoints that fit", "genbench.sources.checkpoints:_bad_values", lambda _: lambda *a: ""),
    "statistics divided by n": ("FID to statistics", "genbench.evaluate.statistics:mean_and_covariance",
                                lambda f: lambda rows: (f(rows)[0], f(rows)[1] * (len(rows) - 1) / len(rows))),
    "gamma ignored": ("gamma 1", "genbench.data.headers:exponent", lambda _: lambda file: 1.0),
    "inks taken for colours": ("inks without", "genbench.data.colour:_plain",
                               lambda f: lambda image: f(Image.merge("RGB", image.split()[:3]))),
    "profile ignored": ("profile with red", "genbench.data.colour:profile_kind", lambda _: lambda icc, mode: "same"),
    "the last frame": ("first of two", "genbench.data.pictures:opened", last_frame),
    "kinds not compared": ("grey, colour and inks", "genbench.lint.files:OF_SETS", lambda _: {}),
    "files not in keys": ("keys of a model", "genbench.plan.rows:read_files", lambda _: lambda *a: ()),
    "neighbours not in keys": ("keys of a class", "genbench.plan.rows:code_hash", lambda _: lambda kind: kind.__name__),
    "rows removed": ("rows after", "genbench.plan.planner:Plan.rows",
                     lambda _: property(lambda self: [cell.id for cell in self.cells])),
    "folders taken over": ("runs refused", "genbench.runner.folder:ResultFolder._refuse_another_result",
                           lambda _: lambda self: None),
    "labels as they are": ("labels of built-in", "genbench.suite.rules:slug", lambda _: lambda label: next(NUMBERS)),
    "either record": ("two values", "genbench.records:same_measurement", lambda _: lambda one, other: True),
    "models not tried": ("plans of", "genbench.plan.trial:_try", lambda _: lambda *a: None),
    "intervals not cut": ("ends of", "genbench.selftest.results:cut_interval", lambda _: lambda u, v, lo, hi: (lo, hi)),
    "no doubts": ("warnings of trainings", "genbench.selftest.results:budget_doubts", lambda _: lambda *a: ()),
    "settings not pinned": ("settings that", "genbench.selftest.results:pinned_globals", lambda _: nullcontext),
    "the script again": ("workers that", "genbench.runner.pool:_without_main", lambda _: nullcontext),
    "copies not counted": ("findings in dark", "genbench.lint.summary:row_hashes",
                           lambda _: lambda rows: np.arange(len(rows), dtype=np.uint64)),
}  # fmt: skip


def plant(monkeypatch, fault):
    module, _, path = FAULTS[fault][1].partition(":")
    *owners, name = path.split(".")
    place = import_module(module)
    for owner in owners:
        place = getattr(place, owner)
    monkeypatch.setattr(place, name, FAULTS[fault][2](getattr(place, name)))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(monkeypatch, fault):
    plant(monkeypatch, fault)
    rows = selftest.run_selftest(FAULTS[fault][0])
    assert [r.problem for r in rows if r.ok] == []
    assert [r.message for r in rows if r.message] == []  # wrong numbers, not broken code


def test_a_fault_is_seen_where_it_is_and_nowhere_else(monkeypatch):
    plant(monkeypatch, "biased kernel distance")
    rows = [r for name in ("KID of {0", "IS of", "FID of two", "recall") for r in selftest.run_selftest(name)]
    assert [r.problem for r in rows if not r.ok] == [rows[0].problem]


# ---- rows and the table ---------------------------------------------------------------------------------------------


def raises():
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("measured", "ok"), [(1.0, True), (1.1, True), (1.11, False), (math.nan, False), (math.inf, False)]
)
def test_a_row_is_ok_within_its_tolerance(measured, ok):
    assert base.measure_problem(KnownProblem("w", "s", lambda: Measurement(measured, 1.0, 0.1000001))).ok is ok


def test_a_world_that_raises_is_off_with_its_sentence():
    found = base.measure_problem(KnownProblem("w", "s", raises))
    assert (found.ok, found.measured, found.message) == (False, None, "ValueError: no such thing")
    assert "OFF      s; raised ValueError: no such thing" in selftest.result_table([found])


def test_average_allows_four_standard_errors():
    found = base.average([1.0, 3.0, 1.0, 3.0], true=2.5, bias=0.25)
    assert (found.measured, found.true) == (2.0, 2.5)
    assert found.tolerance == pytest.approx(4 * math.sqrt(4 / 3) / 2 + 0.25)


def test_table():
    rows = [
        ProblemResult("a coin", 0.51, 0.5, 0.02, True, "Bernoulli 1713", 1.0, base.MONTE_CARLO),
        ProblemResult("a die", 3.0, 3.5, 1e-9, False, "by hand", 0.5),
    ]
    assert selftest.result_table(rows).splitlines() == [
        "problem  measured  true  tolerance       verdict  follows from",
        "a coin   0.51      0.5   2.0e-02 4 s.e.  ok       Bernoulli 1713",
        "a die    3         3.5   1.0e-09         OFF      by hand",
        "",
        selftest.NOTE,
        "1 of 2 problems agree; 1.5 s",
    ]


def test_a_word_that_no_world_has_is_refused():
    with pytest.raises(GenbenchError) as caught:
        selftest.run_selftest("DDIN")
    assert str(caught.value) == (
        "selftest: no problem's name contains 'DDIN'; did you mean 'DDIM'? allowed: a part of a name in the table's "
        "first column, such as FID, bits/dim, DDIM"
    )


# ---- the command ----------------------------------------------------------------------------------------------------


def test_command_prints_the_table_and_exits_0():
    done = CliRunner().invoke(app, ["selftest", "--only", "recall"])
    assert done.exit_code == 0
    assert "1 of 1 problems agree" in done.output


def test_command_exits_1_when_a_row_is_off(monkeypatch):
    plant(monkeypatch, "nats for bits")
    done = CliRunner().invoke(app, ["selftest", "--only", "uniform"])
    assert done.exit_code == 1
    assert "OFF" in done.output
