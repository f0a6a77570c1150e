"""Sanity checks of fidelity and diversity metrics: the judges, planted metrics, and the table in docs/."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genbench import selftest
from genbench.cli import app
from genbench.errors import GenbenchError
from genbench.metrics.base import Value
from genbench.selftest import curves, metric_checks
from genbench.selftest.check_table import check_table
from genbench.selftest.curves import HIGH, LOW, NO, UNDEFINED, YES, Curve

PAGE = Path(__file__).parent.parent / "docs" / "metric_checks.md"
QUICK = ("mode dropping + invention", "scaling one dimension", "Pareto")


def curve(*y):
    return Curve(np.arange(len(y), dtype=float), np.array(y, dtype=float))


@pytest.mark.parametrize(
    ("judge", "passes", "fails"),
    [
        (curves.stays_flat, (0.5, 0.54, 0.5), (0.5, 0.56, 0.5)),
        (curves.settles, (0, 0.5, 0.5, 0.5), (0, 0.5, 0.5, 0.6)),
        (curves.falls, (1, 0.5, 0), (1, 1.2, 0)),
        (curves.falls, (1, 0.5, 0.55), (1, 0.5, 0.79)),
        (curves.falls, (1, 0.9, 0.79), (1, 0.9, 0.85)),
        (curves.rises, (0, 0.5, 1), (0, -0.2, 1)),
        (curves.falls_before(1), (1, 0.85, 0), (1, 0.95, 0)),
        (curves.peaks(1), (0, 1, 0.3), (0, 1, 0.9)),
        (curves.peaks(1), (0.1, 1, 0), (0.3, 1, 0.3, 0.1, 0.4)),
        (curves.close(1, np.inf), (0, 0.96), (0, 0.94)),
        (curves.close(0, -np.inf), (0.04, 5), (0.06, 5)),
    ],
)
def test_judges(judge, passes, fails):
    assert judge(curve(*passes)) == YES
    assert judge(curve(*fails)) == NO


def test_low_and_high_metrics_pass_but_not_both_at_once():
    wide = curves.either(low=curves.close(0, np.inf), high=curves.close(1, np.inf))
    assert [wide(curve(1, y)) for y in (0.0, 1.0, 0.5)] == [LOW, HIGH, NO]
    assert curves.combined([YES, LOW, YES]) == LOW
    assert curves.combined([LOW, HIGH]) == curves.combined([YES, NO, HIGH]) == NO
    assert curves.combined([NO, UNDEFINED]) == UNDEFINED


def test_all_fifteen_checks_draw_sets_of_their_groups():
    assert len({check.name for check in metric_checks.CHECKS}) == 15
    for check in metric_checks.CHECKS:
        group, _, fake, real = next(check.sets(np.random.default_rng(0)))
        assert fake.shape[1] == real.shape[1], group
        assert np.isfinite(fake).all()


def test_a_perfect_and_a_constant_metric_are_told_apart(monkeypatch):
    """Planted: the share of modes that are drawn, and 1 for everything."""
    perfect = {"precision": lambda drawn: min(1, 5 / drawn), "recall": lambda drawn: min(1, drawn / 5)}

    def values(fake, real):
        drawn = len(np.unique(np.round(np.linalg.norm(fake, axis=1) ** 2 / 36)))
        planted = {name: metric(drawn) for name, metric in perfect.items()}
        return planted | {"density": 1.0, "coverage": 1.0, "clipped_density": np.nan, "clipped_coverage": 0.0}

    monkeypatch.setattr(metric_checks, "_values", values)
    monkeypatch.setattr(metric_checks, "REPEATS", 1)
    purpose, bounds = metric_checks.run_metric_checks("invention")
    assert purpose.verdicts == {
        "precision": YES, "density": NO, "clipped_density": UNDEFINED, "recall": YES, "coverage": NO,
        "clipped_coverage": NO,
    }  # fmt: skip
    assert (bounds.verdicts["density"], bounds.verdicts["clipped_coverage"]) == (YES, NO)


@pytest.mark.parametrize("only", QUICK)
def test_the_page_has_the_verdicts_of_the_quick_checks(only):
    printed = CliRunner().invoke(app, ["selftest", "--metrics", "--only", only])
    assert printed.exit_code == 0
    rows = [line for line in printed.stdout.splitlines() if line.startswith("| ") and only in line]
    assert rows
    assert set(rows) <= set(PAGE.read_text().splitlines())


def test_the_pages_text_is_the_commands():
    assert PAGE.read_text().startswith(check_table([]).split("| check")[0])


@pytest.mark.slow
def test_the_page_is_what_the_command_prints():
    assert PAGE.read_text() == CliRunner().invoke(app, ["selftest", "--metrics"]).stdout


def test_a_check_that_does_not_exist_is_one_line():
    with pytest.raises(GenbenchError, match=r"contains 'torsu'.* allowed: a part of Gaussian mean"):
        selftest.run_metric_checks("torsu")


def test_values_are_those_of_the_metrics_and_repeated_samples_have_none():
    rng = np.random.default_rng(0)
    fake, real = rng.normal(size=(100, 2)), rng.normal(size=(120, 2))
    found = metric_checks._values(fake, real)
    expected = {n: metric_checks.get(n).compute(fake=fake, real=real) for n in found}
    assert all(isinstance(v, Value) and v.value == found[n] for n, v in expected.items())
    repeated = metric_checks._values(fake, np.repeat(real[:10], 12, axis=0))
    assert np.isnan([repeated[n] for n in ("precision", "coverage", "clipped_density")]).all()
    assert not np.isnan(repeated["recall"])
