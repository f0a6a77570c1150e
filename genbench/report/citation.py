"""How to cite a result: a BibTeX entry that states dataset, version and a hash of the records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from genbench.records import Record
from genbench.report.aggregate import Board
from genbench.report.guard import listed

HASH_DIGITS = 12


def bibtex(suite: str, versions: str, boards: Sequence[Board], records: Sequence[Record]) -> str:
    """An entry of type misc."""
    when = max((r.time for r in records), default="")[:10]
    key = re.sub(r"[^a-z0-9]+", "-", f"genbench-{suite}-{versions}".lower()).strip("-")
    data = f"dataset {listed([b.dataset for b in boards])}"
    fields = {
        "title": f"genbench leaderboard {suite}, version {versions}",
        "year": when[:4],
        "note": "; ".join(filter(None, (data, f"records {records_hash(records)}", f"measured {when}" if when else ""))),
    }
    lines = [f"  {name} = {{{_plain(value)}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def records_hash(records: Sequence[Record]) -> str:
    """The first digits of the SHA-256 of all values, whatever their order."""
    lines = sorted(f"{r.dataset} {r.cell} {r.metric} {r.protocol_hash} {r.status} {r.value!r}" for r in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:HASH_DIGITS]


def _plain(text: str) -> str:
    """Text without what BibTeX reads as markup."""
    return re.sub(r"[{}\\%#$&~^]", "", text)
