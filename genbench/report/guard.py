"""Which records may be ranked together, and the reasons why others may not.

Two are comparable when their protocol hash, metric version and suite version agree; no other pair is ever ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genbench.protocol import compared, leaves
from genbench.records import Record


def comparable(record: Record) -> tuple[str, int, int]:
    """What must be equal in two records that are ranked together."""
    return record.protocol_hash, record.metric_version, record.suite_version


def differences(named: Sequence[tuple[str, Record]]) -> list[str]:
    """Each field of the protocol that is not the same for all, as text, e.g. "resize is none for a, b; 32 for c"."""
    fields = [_comparable_fields(record) for _, record in named]
    names = dict.fromkeys(name for stated in fields for name in stated)
    phrases = []
    for name in names:
        holders: dict[str, list[str]] = {}
        for (label, _), stated in zip(named, fields, strict=True):
            holders.setdefault(short(stated.get(name, "not stated")), []).append(label)
        if len(holders) > 1:
            phrases.append(f"{name} is " + ", ".join(f"{value} for {listed(who)}" for value, who in holders.items()))
    return phrases or [f"their hashes differ ({', '.join(sorted({r.protocol_hash for _, r in named}))})"]


def _comparable_fields(record: Record) -> dict[str, Any]:
    protocol = dict(leaves(compared(record.protocol)))
    return protocol | {"metric version": record.metric_version, "suite version": record.suite_version}


def short(value: Any) -> str:
    """A value of a protocol as text; long hashes are cut to twelve digits."""
    text = str(value)
    is_hash = len(text) >= 32 and all(c in "0123456789abcdef" for c in text)
    return text[:12] if is_hash else text


def listed(words: Sequence[str]) -> str:
    """Words joined as in a sentence: a; a and b; a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
