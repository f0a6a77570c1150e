"""docs/mutants.md from the results of mutation testing, and the file of these results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import yaml
from made import Mutant

FOLDER = Path(__file__).resolve().parent
RESULTS, EQUIVALENT = FOLDER / "results.jsonl", FOLDER / "equivalent.yaml"
PAGE = FOLDER.parents[1] / "docs" / "mutants.md"
TEXT = FOLDER / "mutants.md"  # what stands before the tables
Z = 1.96
GROUPS = {"zoo/": "zoo/", "genbench/metrics/": "genbench/metrics/", "genbench/": "space, train, draw"}


class Row(NamedTuple):
    """Counts of the mutants of one file, or of several."""

    name: str
    mutants: int
    tested: int
    killed: int
    equivalent: int
    sampled_alike: bool = True  # every mutant had the same chance to be tested

    @property
    def survived(self) -> int:
        """Tested mutants that no test noticed and that are not known to be equivalent."""
        return self.tested - self.killed - self.equivalent

    def __str__(self) -> str:
        """A line of the table."""
        counts = " | ".join(f"{n:,}" for n in self[1:4])
        return f"| {self.name} | {counts} | {self.survived} | {self.equivalent} | {self.share()} |"

    def share(self) -> str:
        """Killed of those that are not equivalent, in percent, with Wilson's interval of a random sample."""
        n = self.tested - self.equivalent
        if n == 0:
            return ""
        p = self.killed / n
        if self.tested == self.mutants or not self.sampled_alike:
            return f"{p:.1%}".replace("%", " %")
        middle, half = p + Z**2 / (2 * n), Z * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
        low, high = ((middle + sign * half) / (1 + Z**2 / n) for sign in (-1, 1))
        return f"{100 * p:.1f} ({100 * low:.0f} - {100 * min(high, 1):.0f}) %"


def read_results() -> dict[str, dict[str, str]]:
    """Results by the mutant's key."""
    if not RESULTS.is_file():
        return {}
    rows = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}


def write_results(results: Mapping[str, dict[str, str]]) -> None:
    """Writes all results, sorted by file and key."""
    rows = sorted(results.values(), key=lambda row: (row["file"], row["key"]))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partly = RESULTS.with_suffix(".part")
    partly.write_text(text, encoding="utf-8")
    partly.replace(RESULTS)


def read_equivalent() -> list[dict[str, str]]:
    """The entries of equivalent.yaml."""
    return yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []


def reason(mutant: Mutant, known: Sequence[Mapping[str, str]]) -> str | None:
    """Why no test can notice the mutant, or None. known: entries with patterns `at` (file, function) and `change`."""
    at = f"{mutant.file} {mutant.function}"
    for entry in known:
        if fnmatchcase(at, entry["at"]) and fnmatchcase(mutant.change, _literal(entry["change"])):
            return entry["why"]
    return None


def _literal(pattern: str) -> str:
    """The pattern with brackets that mean themselves: changes contain many, and only * is needed."""
    return "".join({"[": "[[]", "?": "[?]"}.get(c, c) for c in pattern)


def write_report(made: Mapping[str, Sequence[Mutant]]) -> None:
    """Writes docs/mutants.md; made: the mutants of each file that was tested. Results of other mutants are dropped."""
    results = read_results()
    known = read_equivalent()
    present = {m.key for mutants in made.values() for m in mutants}
    results = {key: row for key, row in results.items() if key in present or row["file"] not in made}
    write_results(results)
    survivors = [
        (m, reason(m, known)) for mutants in made.values() for m in mutants
        if results.get(m.key, {}).get("status") == "survived"
    ]  # fmt: skip
    rows = [count(file, mutants, results, survivors) for file, mutants in made.items()]
    lines = [
        TEXT.read_text(encoding="utf-8").rstrip(), "", "## Files", "",
        "| file | mutants | tested | killed | survived | equivalent | killed of those not equivalent |",
        "|---|---|---|---|---|---|---|",
        *map(str, rows), *map(str, totals(rows)), "", "## Survivors", "",
        *listed([(m, "") for m, why in survivors if why is None]), "", "## Equivalent mutants", "",
        *listed([(m, why) for m, why in survivors if why is not None]), "",
    ]  # fmt: skip
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(*rows, *totals(rows), sep="\n")


def count(
    file: str, mutants: Sequence[Mutant], results: Mapping[str, object], survivors: Sequence[tuple[Mutant, str | None]]
) -> Row:
    """The row of one file."""
    tested = sum(m.key in results for m in mutants)
    mine = [why for m, why in survivors if m.file == file]
    equivalent = sum(why is not None for why in mine)
    return Row(f"`{file}`", len(mutants), tested, tested - len(mine), equivalent)


def totals(rows: Sequence[Row]) -> Iterator[Row]:
    """A row for each group of files."""
    left = list(rows)
    for start, name in GROUPS.items():
        group = [row for row in left if row.name.startswith(f"`{start}")]
        left = [row for row in left if row not in group]
        if group:
            counts = [sum(column) for column in list(zip(*group, strict=True))[1:5]]
            yield Row(f"**{name}**", *counts, sampled_alike=False)


def listed(mutants: Sequence[tuple[Mutant, str]]) -> Iterator[str]:
    """A table of mutants; the second of each pair is the reason."""
    if not mutants:
        yield "None."
        return
    reasons = any(why for _, why in mutants)
    yield f"| file | function | change |{' why |' if reasons else ''}"
    yield f"|---|---|---|{'---|' if reasons else ''}"
    for m, why in mutants:
        change = m.change.replace("|", "\\|").replace("`", "'")
        yield f"| {m.file} | {m.function} | `{change}` |{f' {why} |' if reasons else ''}"
