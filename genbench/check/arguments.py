"""The values inside an operation's arguments, which are nested tuples, lists and dicts.

torch.utils._pytree does the same for every kind of container, ten times slower; a check calls this for each operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

SEQUENCES = (tuple, list)
CONTAINERS = (tuple, list, dict)


def values_in(tree: Any) -> list[Any]:
    """The values in order."""
    values: list[Any] = []
    _gather((tree,), values)
    return values


def _gather(nodes: Iterable[Any], values: list[Any]) -> None:
    for node in nodes:
        if not isinstance(node, CONTAINERS):
            values.append(node)
        else:
            _gather(node if isinstance(node, SEQUENCES) else node.values(), values)


def replaced(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with change(value) for each value."""
    if not isinstance(tree, CONTAINERS):
        return change(tree)
    if isinstance(tree, dict):
        return dict(zip(tree, replaced(change, [*tree.values()]), strict=True))
    values = [replaced(change, node) if isinstance(node, CONTAINERS) else change(node) for node in tree]
    if isinstance(tree, list):
        return values
    return type(tree)(*values) if hasattr(tree, "_fields") else tuple(values)
