"""Which metrics of fidelity and diversity pass the fifteen sanity checks of Raisa et al. 2025 (arXiv 2505.22450).

A check varies one thing between two simple sets and judges the curve of a metric's values by what the metric claims to
measure. A metric passes a desideratum of a check when every group (number of dimensions, ...) passes all its criteria.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from genbench.errors import GenbenchError, Undefined
from genbench.metrics import get
from genbench.metrics.arrays import Array
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.options import nearest
from genbench.selftest import check_sets as sets
from genbench.selftest.curves import (
    UNDEFINED,
    Curve,
    Judge,
    close,
    combined,
    either,
    falls,
    falls_before,
    peaks,
    rises,
    settles,
    stays_flat,
)

FIDELITY, DIVERSITY = ("precision", "density", "clipped_density"), ("recall", "coverage", "clipped_coverage")
REPEATS, SEED = 3, 2020
PURPOSE, HYPERPARAMETERS, DATA, BOUNDS, INVARIANCE = "purpose", "hyperparameters", "data", "bounds", "invariance"
FIRST, LAST = -np.inf, np.inf
Criteria = Mapping[str, Sequence[Judge]]


@dataclass(frozen=True)
class MetricCheck:
    """A check: its name, its sets, and for each desideratum the judges of fidelity and of diversity metrics.

    of_group: judges for the groups whose name contains the key, in addition.
    """

    name: str
    sets: sets.SetMaker
    fidelity: Criteria
    diversity: Criteria
    of_group: Mapping[str, tuple[Criteria, Criteria]] | None = None


@dataclass(frozen=True)
class MetricVerdicts:
    """The verdicts of all metrics, by name, on one desideratum of a check."""

    check: str
    desideratum: str
    verdicts: dict[str, str]


def _both(criteria: Criteria) -> tuple[Criteria, Criteria]:
    return criteria, criteria


_ONE, _ZERO = (lambda at: close(1, at)), (lambda at: close(0, at))
_WIDE = {at: either(low=close(0, at), high=close(1, at)) for at in (FIRST, LAST)}
_SHIFTED = _both({PURPOSE: [peaks(0)], BOUNDS: [_ONE(0), _ZERO(FIRST), _ZERO(LAST)]})
_DISJOINT = [_ZERO(FIRST), _ZERO(LAST)]
_DROPPED: Criteria = {PURPOSE: [stays_flat], BOUNDS: [_ONE(FIRST), _ONE(LAST)]}

CHECKS = (
    MetricCheck("Gaussian mean difference", sets.mean_difference, *_SHIFTED),
    MetricCheck("Gaussian mean difference + outlier", sets.mean_difference_with_outlier, *_SHIFTED),
    MetricCheck("Gaussian mean difference + Pareto", sets.mean_difference_with_pareto, *_SHIFTED),
    MetricCheck(
        "Gaussian standard deviation difference", sets.std_difference,
        {PURPOSE: [falls], BOUNDS: [_ONE(1), _ONE(FIRST), _ZERO(LAST)]},
        {PURPOSE: [either(low=peaks(1), high=rises)], BOUNDS: [_ONE(1), _ZERO(FIRST), _WIDE[LAST]]},
    ),
    MetricCheck(
        "simultaneous mode dropping", sets.modes_dropped_together, _DROPPED,
        {PURPOSE: [falls_before(0.95)], BOUNDS: [_ONE(FIRST)]},
    ),
    MetricCheck(
        "sequential mode dropping", sets.modes_dropped_in_turn, _DROPPED,
        {PURPOSE: [falls_before(4)], BOUNDS: [_ONE(FIRST)]},
    ),
    MetricCheck(
        "mode dropping + invention", sets.modes_dropped_and_invented,
        {PURPOSE: [falls], BOUNDS: [_ONE(5), _ONE(FIRST)]},
        {PURPOSE: [rises], BOUNDS: [_ONE(5), _ONE(LAST)]},
    ),
    MetricCheck(
        "mode collapse", sets.one_mode_for_two,
        {PURPOSE: [falls], BOUNDS: [_ONE(FIRST)]},
        {PURPOSE: [either(low=falls, high=stays_flat)], BOUNDS: [_ONE(FIRST)]},
    ),
    MetricCheck(
        "hypersphere surface", sets.sphere_surface,
        *_both({PURPOSE: [peaks(1)], BOUNDS: [_ONE(1), _ZERO(FIRST), _ZERO(LAST)]}),
    ),
    MetricCheck(
        "hypercube, varying sample size", sets.hypercubes_of_size,
        *_both({DATA: [settles], PURPOSE: [close(0.2, LAST)]}),
    ),
    MetricCheck(
        "hypercube, varying generated size", sets.hypercubes_of_fake_size,
        *_both({HYPERPARAMETERS: [settles], PURPOSE: [close(0.2, LAST)]}),
    ),
    MetricCheck("sphere and torus", sets.sphere_and_torus, *_both({PURPOSE: [settles], BOUNDS: [_ZERO(LAST)]})),
    MetricCheck(
        "scaling one dimension", sets.one_dimension_scaled, *_both({INVARIANCE: [stays_flat], BOUNDS: _DISJOINT})
    ),
    MetricCheck(
        "one disjoint dimension, many identical", sets.one_disjoint_dimension,
        *_both({PURPOSE: [stays_flat], BOUNDS: _DISJOINT}),
    ),
    MetricCheck(
        "discrete and continuous numbers", sets.discrete_and_continuous, *_both({PURPOSE: [stays_flat]}),
        of_group={
            "real discrete": ({BOUNDS: _DISJOINT}, {BOUNDS: list(_WIDE.values())}),
            "real continuous": ({BOUNDS: [_ONE(FIRST), _ONE(LAST)]}, {BOUNDS: _DISJOINT}),
        },
    ),
)  # fmt: skip


def run_metric_checks(only: str = "", said: Callable[[str], None] = lambda name: None) -> list[MetricVerdicts]:
    """The verdicts of the checks whose name contains `only`, in upper or lower case; said: told each check's name.

    GenbenchError when there is none.
    """
    chosen = [check for check in CHECKS if only.lower() in check.name.lower()]
    if not chosen:
        names = [check.name for check in CHECKS]
        near = nearest(only, names) or ";"
        raise GenbenchError(
            f"selftest: no metric check's name contains '{only}'{near} allowed: a part of {', '.join(names)}"
        )
    results = []
    with threadpool_limits(1):  # small arrays, as in the selftest
        for check in chosen:
            said(check.name)
            results += _judged(check, _curves(check))
    return results


def _curves(check: MetricCheck) -> dict[tuple[str, str], Curve]:
    """The mean curve over the repeats of each metric and group."""
    found: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for repeat in range(REPEATS):
        for group, setting, fake, real in check.sets(np.random.default_rng([SEED, repeat])):
            for name, value in _values(fake, real).items():
                found[name, group][float(setting)].append(value)
    return {
        key: Curve(np.array(sorted(points)), np.array([np.mean(points[x]) for x in sorted(points)]))
        for key, points in found.items()
    }


def _values(fake: Array, real: Array) -> dict[str, float]:
    """The metrics' values; NaN where a metric declines the sets."""
    near, values = NeighbourPass(fake, real), {}
    for name in (*FIDELITY, *DIVERSITY):
        try:
            values[name] = get(name).compute(fake=fake, real=real, near=near).value
        except Undefined:
            values[name] = float("nan")
    return values


def _judged(check: MetricCheck, curves: Mapping[tuple[str, str], Curve]) -> list[MetricVerdicts]:
    verdicts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (name, group), curve in curves.items():
        kind = int(name in DIVERSITY)
        for criteria in ((check.fidelity, check.diversity)[kind], (check.of_group or {}).get(group, ({}, {}))[kind]):
            for desideratum, judges in criteria.items():
                verdicts[desideratum][name] += [
                    UNDEFINED if np.isnan(curve.y).any() else judge(curve) for judge in judges
                ]
    return [
        MetricVerdicts(check.name, desideratum, {name: combined(all_of) for name, all_of in of_metrics.items()})
        for desideratum, of_metrics in verdicts.items()
    ]
