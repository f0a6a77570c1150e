"""The table of metric checks as Markdown; docs/metric_checks.md is what `genbench selftest --metrics` prints."""

from __future__ import annotations

from collections.abc import Sequence

from genbench.metrics import get
from genbench.selftest.check_sets import N
from genbench.selftest.curves import HIGH, LOW, NEAR, YES
from genbench.selftest.metric_checks import CHECKS, DIVERSITY, FIDELITY, REPEATS, SEED, MetricVerdicts

INTRODUCTION = f"""# Which fidelity and diversity metrics pass which sanity check

Printed by `genbench selftest --metrics` (`--only NAME` runs some of the checks). The {len(CHECKS)} checks are those of
Raisa, van Breugel and van der Schaar 2025 ([arXiv 2505.22450](https://arxiv.org/abs/2505.22450)). Each of them varies
one thing between two simple sets, for example the mean of a Gaussian, and requires a shape of the metric's curve and
its values where these are known (within {NEAR}). The paper draws {N:,} samples at up to 51 settings, ten times; here
the settings are fewer and each is drawn {REPEATS} times (seed {SEED}). The largest sets have 3,162 samples, not 10,000.

What a row tests: *purpose*, whether the value follows the quality that it is named after; *bounds*, whether it is 1 for
equal and 0 for disjoint distributions; *data* and *hyperparameters*, whether it settles as the sets or the generated
set grow; *invariance*, whether the unit of one feature matters.

yes: all criteria are met in all numbers of dimensions. no: at least one is not. low, high: met by a diversity metric
for which samples that are too wide are not diverse (low) or diverse (high). n/a: the metric declines some of the sets,
because most of their samples are repeated. Distances such as FID have no upper bound and are not part of the checks;
what each metric cannot detect is in `genbench ls metrics`.
"""


def check_table(results: Sequence[MetricVerdicts]) -> str:
    """The introduction, a row for each check and desideratum, and how many each metric passes."""
    names = (*FIDELITY, *DIVERSITY)
    heads = ["check", "tests", *(f"{get(name).title} ({_kind(name)})" for name in names)]
    rows = [[r.check, r.desideratum, *(r.verdicts.get(name, "") for name in names)] for r in results]
    passed = [sum(r.verdicts.get(name) in (YES, LOW, HIGH) for r in results) for name in names]
    rows.append([f"passed, of {len(results)}", "", *map(str, passed)])
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([INTRODUCTION, *lines])


def _kind(name: str) -> str:
    return "fidelity" if name in FIDELITY else "diversity"
