"""The values inside an operation's arguments, which are nested tuples, lists and dicts.

torch.utils._pytree does the same for every kind of container, ten times slower; a check calls this for each operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def values_in(tree: Any) -> list[Any]:
    """The values in order."""
    found: list[Any] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple | list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            waiting.extend(reversed(node.values()))
        else:
            found.append(node)
    return found


def replaced(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with change(value) for each value."""
    if isinstance(tree, tuple):
        values = [replaced(change, node) for node in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else tuple(values)
    if isinstance(tree, list):
        return [replaced(change, node) for node in tree]
    if isinstance(tree, dict):
        return {key: replaced(change, node) for key, node in tree.items()}
    return change(tree)
