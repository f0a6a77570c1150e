"""The hash of the code that a model is made of, which its weights and its samples depend on beside its options.

Comments, docstrings and empty lines do not count: who only explains a model better does not train it again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from genbench.contract import Draws

FOREIGN = {"genbench", "torch", "builtins", "abc", "typing"}
LAYOUT = {tokenize.NL, tokenize.COMMENT}
STATEMENT_STARTS = {None, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_hash(kind: type[Draws]) -> str:
    """SHA-256 over the class's name and the code of its module, of its bases' modules and of all that these import
    from their own package or from the zoo, however far down.

    Editing a model's code trains it again; editing the harness or a library does not.
    """
    texts = [kind.__qualname__, *sorted(code_text(f.read_text(encoding="utf-8")) for f in files_of(kind))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def files_of(kind: type[Draws]) -> set[Path]:
    """The source files that count for a class."""
    found: set[Path] = set()
    waiting = [c.__module__ for c in kind.__mro__ if c.__module__.split(".")[0] not in FOREIGN]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path and path not in found:
            found.add(path)
            waiting += [n for n in _imports(name, path) if n.split(".")[0] in {name.split(".")[0], "zoo"}]
    return found


def code_text(source: str) -> str:
    """The source without comments, docstrings (any statement that is one plain string) and empty lines.

    Everything else stays as it was written, so that the text is the same under every Python.
    """
    lines = source.split("\n")
    for (row, column), (last_row, last_column) in reversed(list(_remarks(source))):
        rest = (lines[row - 1][:column] + lines[last_row - 1][last_column:]).rstrip()
        lines[row - 1 : last_row] = [rest] if rest else []
    return "\n".join(lines)


def _remarks(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (row from 1, column from 0) of all that explains or spaces."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    before = None
    for token, after in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        empty = token.type == tokenize.NL and not token.line.strip()
        ends = after.type in {tokenize.NEWLINE, tokenize.COMMENT}
        docstring = token.type == tokenize.STRING and before in STATEMENT_STARTS and ends
        if empty or docstring or token.type == tokenize.COMMENT:
            yield token.start, token.end
        if token.type not in LAYOUT:
            before = token.type


def _imports(name: str, path: Path) -> Iterator[str]:
    """The module names that the import statements of a module may mean, relative ones made absolute."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file(name: str) -> Path | None:
    """Where a module's source stands; None for what is no module, or none written in Python."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
