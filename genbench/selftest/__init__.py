"""Test problems with known answers, measured by the code that measures models: a table of measured and true values."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from genbench.errors import GenbenchError
from genbench.options import nearest
from genbench.selftest.base import KnownProblem, Measurement, ProblemResult, measure_problem
from genbench.selftest.check_table import check_table
from genbench.selftest.colours import COLOUR_PROBLEMS
from genbench.selftest.distances import DISTANCE_PROBLEMS
from genbench.selftest.likelihoods import LIKELIHOOD_PROBLEMS
from genbench.selftest.metric_checks import run_metric_checks
from genbench.selftest.reading import READING_PROBLEMS
from genbench.selftest.results import RESULT_PROBLEMS
from genbench.selftest.samplers import SAMPLER_PROBLEMS
from genbench.selftest.speed import SPEED_PROBLEMS

__all__ = [
    "PROBLEMS", "KnownProblem", "Measurement", "ProblemResult", "check_table", "result_table", "run_metric_checks",
    "run_selftest",
]  # fmt: skip

PROBLEMS: tuple[KnownProblem, ...] = (
    *DISTANCE_PROBLEMS, *LIKELIHOOD_PROBLEMS, *SAMPLER_PROBLEMS, *SPEED_PROBLEMS, *READING_PROBLEMS,
    *COLOUR_PROBLEMS, *RESULT_PROBLEMS,
)  # fmt: skip
COLUMN_HEADS = ("problem", "measured", "true", "tolerance", "verdict", "follows from")
NOTE = (
    "tolerance: for rounding errors; 4 s.e.: four standard errors over repeats with fixed seeds, plus the error of the "
    "method where it has one; grid: for the error of an integral over cells"
)


def run_selftest(only: str = "") -> list[ProblemResult]:
    """Measures the problems whose name contains `only`, in upper or lower case; GenbenchError when there is none."""
    chosen = [problem for problem in PROBLEMS if only.lower() in problem.name.lower()]
    if not chosen:
        examples = ("FID", "bits/dim", "DDIM")
        near = nearest(only, examples) or ";"
        raise GenbenchError(
            f"selftest: no problem's name contains '{only}'{near} allowed: a part of a name in the table's first "
            f"column, such as {', '.join(examples)}"
        )
    with threadpool_limits(1):  # small arrays: a second thread gains nothing, and is slow next to a busy process
        return [measure_problem(problem) for problem in chosen]


def result_table(rows: list[ProblemResult]) -> str:
    """The rows as text: aligned columns, then how many agree and how many seconds they took."""
    lines = [COLUMN_HEADS, *(_cells(r) for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMN_HEADS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    good, seconds = sum(r.ok for r in rows), sum(r.seconds for r in rows)
    return "\n".join([*text, "", NOTE, f"{good} of {len(rows)} problems agree; {seconds:.1f} s"])


def _cells(row: ProblemResult) -> tuple[str, ...]:
    if row.measured is None or row.true is None or row.tolerance is None:
        return (row.problem, "-", "-", "-", "OFF", f"{row.source}; raised {row.message}")
    tolerance = f"{row.tolerance:.1e} {row.basis}".rstrip()
    return (row.problem, f"{row.measured:.8g}", f"{row.true:.8g}", tolerance, "ok" if row.ok else "OFF", row.source)
