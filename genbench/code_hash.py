"""The hash of the code of a model or plug-in, on which stored artefacts depend in addition to options.

Comments, docstrings and empty lines do not count: editing them does not trigger retraining.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from genbench import code_parts, neighbours
from genbench.code_parts import Walk, module_file, package_of
from genbench.registry import Registry, distribution_of, load_module
from genbench.store import kept_text

FOREIGN = {"genbench", "torch", "builtins", "abc", "typing"}
LAYOUT = {tokenize.NL, tokenize.COMMENT}
Root = tuple[str, str | None]
_OWN = [Path(file) for file in (__file__, code_parts.__file__, neighbours.__file__)]  # a hash depends on these, too
STATEMENT_STARTS = {None, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_hash(kind: type) -> str:
    """SHA-256 (hex) of the name and code of a class, and of the names and versions of the packages that offer it.

    The code is the class's statement, those of its bases, and every top-level statement of their modules that these
    use, directly or indirectly, in modules of their own package and of the zoo. Editing a model's code trains it
    again; editing another class of the same file, genbench or a library does not, but a new version of an installed
    plug-in does. An adapter counts like a package of its own.
    """
    return _hash(kind.__qualname__, _roots(kind))


def plugin_hash(registry: Registry, name: str, folder: Path | None = None) -> str:
    """SHA-256 (hex) of the code and version of a dataset, metric or extractor; "" for what genbench ships.

    name, folder: as for Registry.load, which raises when there is no such object.
    """
    if registry.is_built_in(name):
        return ""
    target = registry.target(name)
    return _hash(target.rpartition(":")[2], [(load_module(target, folder, registry.error).__name__, None)])


def _hash(name: str, roots: list[Root]) -> str:
    """Kept by the store: following names through the modules takes a tenth of a second for each class."""
    versions = sorted({distribution_of(module) for module, _ in roots} - {""})

    def make() -> tuple[str, list[Path]]:
        walk = _walk(roots)
        code = sorted(code_text(uses.text) for uses in walk.uses.values())
        return hashlib.sha256("\0".join([name, *versions, *code]).encode()).hexdigest(), [*walk.uses, *_OWN]

    places = [*(str(module_file(module)) for module, _ in roots), _place_of_the_zoo()]
    return kept_text("\0".join([name, *versions, *map(str, roots), *places, *sys.path]), make)


@cache
def _place_of_the_zoo() -> str:
    return str(module_file("zoo"))


def files_of(kind: type) -> set[Path]:
    """The source files that the hash of a class depends on."""
    return set(_walk(_roots(kind)).uses)


def _roots(kind: type) -> list[Root]:
    """Module and top-level name of a class and its bases."""
    classes = [c for c in kind.__mro__ if package_of(c.__module__) not in FOREIGN]
    return [(c.__module__, c.__qualname__.partition(".")[0]) for c in classes]


def _walk(roots: list[Root]) -> Walk:
    walk = Walk()
    for module, name in roots:
        walk.add(module, name)
    return walk


@lru_cache(maxsize=256)
def code_text(source: str) -> str:
    """The source without comments, docstrings (any statement that is one plain string) and empty lines.

    Everything else is unchanged, so that the text is the same in every version of Python.
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
