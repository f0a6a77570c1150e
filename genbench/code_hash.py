"""The hash of the code of a model or plug-in, on which stored artefacts depend in addition to options.

Comments, docstrings and empty lines do not count: editing them does not trigger retraining.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from genbench.registry import Registry, distribution_of, load_module

FOREIGN = {"genbench", "torch", "builtins", "abc", "typing"}
LAYOUT = {tokenize.NL, tokenize.COMMENT}
STATEMENT_STARTS = {None, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_hash(kind: type) -> str:
    """SHA-256 (hex) of a class's name and code, and of the name and version of the packages that offer it.

    The code is that of the class's module, of its bases' modules, and of all modules that these import from their own
    package or from the zoo, however deep. Editing a model's code trains it again; editing genbench or a library does
    not, but a new version of an installed plug-in does.
    """
    return _hash(kind.__qualname__, _modules(kind))


def plugin_hash(registry: Registry, name: str, folder: Path | None = None) -> str:
    """SHA-256 (hex) of the code and version of a dataset, metric or extractor; "" for what genbench ships.

    name, folder: as for Registry.load, which raises when there is no such object.
    """
    if registry.is_built_in(name):
        return ""
    target = registry.target(name)
    return _hash(target.rpartition(":")[2], [load_module(target, folder, registry.error).__name__])


def _hash(name: str, modules: list[str]) -> str:
    versions = sorted({distribution_of(module) for module in modules} - {""})
    code = sorted(code_text(file.read_text(encoding="utf-8")) for file in source_files(modules))
    return hashlib.sha256("\0".join([name, *versions, *code]).encode()).hexdigest()


def files_of(kind: type) -> set[Path]:
    """The source files that count for a class."""
    return source_files(_modules(kind))


def _modules(kind: type) -> list[str]:
    return [c.__module__ for c in kind.__mro__ if c.__module__.split(".")[0] not in FOREIGN]


def source_files(modules: Iterable[str]) -> set[Path]:
    """The source files of modules, and of what they import from their own package or from the zoo."""
    files: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path and path not in files:
            files.add(path)
            waiting += [n for n in _imports(name, path) if n.split(".")[0] in {name.split(".")[0], "zoo"}]
    return files


def code_text(source: str) -> str:
    """The source without comments, docstrings (any statement that is one plain string) and empty lines.

    Everything else stays as it was written, so that the text is the same for every version of Python.
    """
    lines = source.split("\n")
    for (row, column), (last_row, last_column) in reversed(list(_remarks(source))):
        rest = (lines[row - 1][:column] + lines[last_row - 1][last_column:]).rstrip()
        lines[row - 1 : last_row] = [rest] if rest else []
    return "\n".join(lines)


def _remarks(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (row from 1, column from 0) of every comment, docstring and empty line."""
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
    """The source file of a module; None for what is not a module, or not written in Python."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
