"""From YAML text to plain data with the line of every key.

YAML is read as PyYAML's SafeLoader reads it, with these differences: `1e-3` is a number, as in YAML 1.2 (YAML 1.1
requires `1.0e-3`); a date is text; duplicate keys, keys that are not text, tags (`!!set`) and anchors that contain
themselves are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from genbench.errors import SuiteError
from genbench.files import absence
from genbench.options import nearest
from genbench.suite.shipped import shipped_suites
from genbench.text import escaped

Loc = tuple[str | int, ...]
Problem = tuple[Loc, str]

INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
TEXT, DATE, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"
EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
DEEPEST = 50
LARGEST = 2**63
LONGEST_NUMBER = 100  # characters; 1:00:00:... is a number in base 60, which takes quadratic time
MOST_VALUES = 20_000  # of a suite, each alias and merge key counted with all that it stands for
MOST_BYTES = 2**20


@dataclass(frozen=True)
class Lines:
    """The line on which a value or its key starts, and the lines of every value inside it."""

    line: int = 1
    inside: dict[str | int, Lines] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteSource:
    """Where a suite came from: a YAML file, or Python (path None: messages then start with the key)."""

    path: Path | None = None
    data: Any = None
    lines: Lines = field(default_factory=Lines)

    @property
    def folder(self) -> Path:
        """The folder in which relative paths start: the file's, or the current one."""
        return self.path.parent if self.path else Path()

    def line(self, loc: Loc) -> int:
        """The line of the key at loc, or of the nearest one above it that is in the file."""
        lines = self.lines
        for part in loc:
            if part not in lines.inside:
                break
            lines = lines.inside[part]
        return lines.line

    def where(self, loc: Loc) -> str:
        """`suites/x.yaml:14: models[2].levls`, or only the key for a suite without a file."""
        parts = ([f"{self.path}:{self.line(loc)}"] if self.path else []) + ([spell(loc)] if loc else [])
        return ": ".join(parts) or "suite"

    def error(self, problems: Iterable[Problem], lines: bool = False) -> SuiteError:
        """The first problem as an error, with the number of the others. lines: whether it has several lines."""
        (loc, text), *others = problems
        message = "\n".join(map(escaped, text.split("\n"))) if lines else escaped(text)
        more = f" (and {len(others)} more)" if others else ""
        error = SuiteError(f"{self.where(loc)}: {message}{more}")
        error.problem = message
        return error


def spell(loc: Loc) -> str:
    """("models", 2, "levls") as `models[2].levls`."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p if p.isprintable() else repr(p)}" for p in loc)
    return text.removeprefix(".")


def read_source(path: Path) -> SuiteSource:
    """The data of a YAML file with the lines of its keys. Raises SuiteError for anything that is not plain YAML."""
    try:
        if not path.is_file():
            raise SuiteError(f"{path}: {_absence(path)}")
        if path.stat().st_size > MOST_BYTES:
            raise SuiteError(f"{path}: found {path.stat().st_size:,} bytes, allowed: at most {MOST_BYTES:,}")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SuiteError(f"{path}:{line}: found a byte that is not UTF-8, allowed: UTF-8 text") from None
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> SuiteSource:
    """The data of YAML text; messages name it by path. Raises SuiteError."""
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise SuiteError(f"{path}:1: found an empty file, allowed: a mapping of keys to values")
        problems = list(_problems(node)) or list(_expansion_problems(node))
        if problems:
            line, loc, message = problems[0]
            raise SuiteError(": ".join(filter(None, (f"{path}:{line}", spell(loc), message))))
        data = loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SuiteError(f"{path}:{line}: found character U+{error.character:04X}, allowed: printable text") from None
    except yaml.MarkedYAMLError as error:
        raise SuiteError(f"{path}:{_syntax(error)}") from None
    return SuiteSource(path, data, _lines(node, {}))


class Refusal(yaml.MarkedYAMLError):
    """YAML that is well-formed but not allowed in suites."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class Loader(yaml.SafeLoader):
    """SafeLoader with the differences listed in the module's docstring."""

    depth = 0
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node and its contents; refuses tags and deep nesting."""
        event = self.peek_event()
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise Refusal("found a tag, allowed: plain values", event.start_mark)
        if self.depth >= DEEPEST:
            raise Refusal(f"found more than {DEEPEST} levels of nesting, allowed: fewer", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer of at most 64 bits."""
        try:
            value = super().construct_yaml_int(node) if len(node.value) <= LONGEST_NUMBER else LARGEST
        except ValueError:  # "0x_"
            value = LARGEST
        if abs(value) >= LARGEST:
            raise Refusal(f"found {node.value[:20]}, allowed: an integer of at most 64 bits", node.start_mark)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number of at most LONGEST_NUMBER characters."""
        if len(node.value) > LONGEST_NUMBER:
            found = f"found a number of {len(node.value):,} characters"
            raise Refusal(f"{found}, allowed: at most {LONGEST_NUMBER}", node.start_mark)
        return super().construct_yaml_float(node)


Loader.add_implicit_resolver(FLOAT, EXPONENT, list("-+0123456789"))
Loader.add_constructor(INT, Loader.construct_yaml_int)
Loader.add_constructor(FLOAT, Loader.construct_yaml_float)


def _absence(path: Path) -> str:
    reason = absence(path)
    if reason != "not found":
        return reason or "found a folder, allowed: a YAML file"
    beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    hint = nearest(path.name, beside)
    return f"not found{hint}" if hint or path.suffix else f"not found; {_shipped_names(path.name)}"


def _shipped_names(name: str) -> str:
    known = list(shipped_suites())
    return f"{nearest(name, known).lstrip('; ')} shipped suites: {', '.join(known)}".lstrip()


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    start = f"{error.context} begun on line {begun.line + 1}" if error.context and begun else error.context
    kind = "" if isinstance(error, Refusal) else "not valid YAML: "
    return f"{mark.line + 1 if mark else 1}: {kind}{', '.join(filter(None, (start, error.problem)))}"


def _problems(root: yaml.Node) -> Iterator[tuple[int, Loc, str]]:
    """(line, loc, message) of duplicate keys, keys that are not text and anchors inside themselves; each node once."""
    open_nodes: set[int] = set()
    done: set[int] = set()

    def walk(node: yaml.Node, loc: Loc) -> Iterator[tuple[int, Loc, str]]:
        if id(node) in open_nodes:
            yield node.start_mark.line + 1, loc, "found an anchor that contains itself, allowed: plain values"
        if id(node) in done or id(node) in open_nodes:
            return
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from _key_problems(node, loc)
        for part, value in _items(node):
            yield from walk(value, (*loc, part))
        open_nodes.discard(id(node))
        done.add(id(node))

    return walk(root, ())


def _expansion_problems(root: yaml.Node) -> Iterator[tuple[int, Loc, str]]:
    """What is too large or too deep once aliases and merge keys are replaced by what they stand for; no node is copied.

    No anchor may contain itself. Anchors come before their aliases, so that no call nests deeper than the text does.
    """
    extents: dict[int, tuple[int, int]] = {}

    def extent(node: yaml.Node) -> tuple[int, int]:
        """Values and levels of nesting of a node."""
        if id(node) not in extents:
            inside = [extent(value) for _, value in _items(node)]
            size, depth = sum(s for s, _ in inside), max((d for _, d in inside), default=0)
            extents[id(node)] = (1 + size, 1 + depth)
        return extents[id(node)]

    size, depth = extent(root)
    if size > MOST_VALUES or depth > DEEPEST:
        found, allowed = (f"{depth} levels", DEEPEST) if depth > DEEPEST else (f"{size:,} values", f"{MOST_VALUES:,}")
        yield 1, (), f"found {found} after replacing aliases and merge keys, allowed: at most {allowed}"


def _key_problems(node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[int, Loc, str]]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (TEXT, MERGE):
            text = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
            yield line, loc, f"found {text or 'nothing'} as a key, allowed: text (put it in quotes)"
        elif key.value in first:
            yield line, (*loc, key.value), f"duplicate key, first on line {first[key.value]}; allowed: once"
        else:
            first[key.value] = line


def _items(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)
    elif isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), value) for key, value in node.value)


def _lines(node: yaml.Node, seen: dict[int, Lines]) -> Lines:
    """Lines of a node whose merge keys are resolved; those of an anchor are computed once."""
    if id(node) in seen:
        return seen[id(node)]
    lines = Lines(node.start_mark.line + 1)
    seen[id(node)] = lines
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines.inside[key.value] = replace(_lines(value, seen), line=key.start_mark.line + 1)
        return lines
    lines.inside.update((part, _lines(value, seen)) for part, value in _items(node))
    return lines
