"""`genbench cache`: what the artefact store contains, or how much was freed."""

from __future__ import annotations

from genbench.store import Store


def verify_store() -> tuple[str, bool]:
    """Computes every checksum in the store: what was damaged, and whether nothing was."""
    store = Store()
    damaged = store.verify()
    lines = [f"{a.path}: damaged, removed; the next run makes it again" for a in damaged]
    return "\n".join([*lines, f"{store.location}: {len(damaged)} damaged, {len(store.entries())} intact"]), not damaged


def describe_store(prune: bool) -> str:
    """What the store contains, by kind; prune: deletes all of it instead."""
    store = Store()
    if prune:
        return f"{store.location}: {size(store.prune())} freed"
    entries = store.entries()
    kinds = sorted({(e.kind, e.finished) for e in entries})
    lines = [f"{store.location}: {size(sum(e.size for e in entries))}"]
    for kind, finished in kinds:
        group = [e for e in entries if (e.kind, e.finished) == (kind, finished)]
        name = kind if finished else f"{kind} (unfinished)"
        lines.append(f"  {name:24} {len(group):6,}  {size(sum(e.size for e in group))}")
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes as text."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"
