"""Worlds with known answers, measured by the very code that measures models: measured against true, in a table."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from genbench.errors import GenbenchError
from genbench.options import nearest
from genbench.selftest.base import Found, Row, World, row
from genbench.selftest.distances import DISTANCES
from genbench.selftest.likelihoods import LIKELIHOODS
from genbench.selftest.samplers import SAMPLERS
from genbench.selftest.speed import SPEED

__all__ = ["WORLDS", "Found", "Row", "World", "run", "table"]

WORLDS: tuple[World, ...] = (*DISTANCES, *LIKELIHOODS, *SAMPLERS, *SPEED)
HEAD = ("world", "measured", "true", "tolerance", "verdict", "follows from")
NOTE = (
    "tolerance: of rounding; 4 s.e.: four standard errors over repeats with fixed seeds, and the method's own error "
    "where it has one; grid: of an integral over cells"
)


def run(only: str = "") -> list[Row]:
    """Measures the worlds whose name holds `only`, in any case; GenbenchError when there is none."""
    chosen = [world for world in WORLDS if only.lower() in world.name.lower()]
    if not chosen:
        words = ("FID", "bits/dim", "DDIM")
        near = nearest(only, words) or ";"
        raise GenbenchError(
            f"selftest: no world's name holds '{only}'{near} allowed: a part of a name in the table's first column, "
            f"such as {', '.join(words)}"
        )
    with threadpool_limits(1):  # small arrays: a second thread gains nothing, and loses much to a busy neighbour
        return [row(world) for world in chosen]


def table(rows: list[Row]) -> str:
    """The rows as text: aligned columns, then the number that agree and the seconds it took."""
    lines = [HEAD, *(_cells(r) for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    good, seconds = sum(r.ok for r in rows), sum(r.seconds for r in rows)
    return "\n".join([*text, "", NOTE, f"{good} of {len(rows)} worlds agree; {seconds:.1f} s"])


def _cells(r: Row) -> tuple[str, ...]:
    if r.measured is None or r.true is None or r.tolerance is None:
        return (r.world, "-", "-", "-", "OFF", f"{r.source}; raised {r.message}")
    tolerance = f"{r.tolerance:.1e} {r.basis}".rstrip()
    return (r.world, f"{r.measured:.8g}", f"{r.true:.8g}", tolerance, "ok" if r.ok else "OFF", r.source)
