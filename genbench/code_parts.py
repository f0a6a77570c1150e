"""The parts of modules that a class or function uses: top-level statements, followed by name from module to module.

Where a name could be reached in a way that cannot be seen in the source, the whole module counts: too much is trained
again rather than too little.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from genbench.neighbours import meant

ADAPTERS = "genbench.adapters"
DYNAMIC = {"globals", "eval", "exec", "__import__", "import_module", "__subclasses__", "__init_subclass__"}
# Decorators that only change the function or class that they are on; any other may register it somewhere.
LOCAL_DECORATORS = {
    "dataclass", "cache", "lru_cache", "cached_property", "no_grad", "inference_mode", "contextmanager", "wraps",
    "final", "runtime_checkable", "total_ordering", "script", "compile", "overload",
}  # fmt: skip
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
Names = Collection[str]


@dataclass(frozen=True)
class Part:
    """A top-level statement: all nodes of it, its lines (from 1), the names that it binds, and whether importing the
    module needs it.
    """

    node: ast.stmt
    nodes: tuple[ast.AST, ...]
    first: int
    last: int
    binds: frozenset[str]
    always: bool

    @cached_property
    def uses(self) -> frozenset[str]:
        """Names that the statement mentions, also as text, as in an annotation."""
        names = {n.id for n in self.nodes if isinstance(n, ast.Name)}
        texts = {n.value for n in self.nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        return frozenset(names | {text for text in texts if text.isidentifier()})

    @cached_property
    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """The import statements in it."""
        return [n for n in self.nodes if isinstance(n, IMPORTS)]


@dataclass(frozen=True)
class ModuleSource:
    """A module's text and its top-level statements; whole: whether names can be reached in a way not seen here."""

    text: str
    parts: tuple[Part, ...]
    whole: bool

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that its statements bind."""
        return frozenset(name for part in self.parts for name in part.binds)

    def binding(self, name: str) -> list[int]:
        """The numbers of the statements that bind a name."""
        return [i for i, part in enumerate(self.parts) if name in part.binds]


@dataclass
class Uses:
    """What is used of one module: numbers of its statements, and of an import statement the aliases."""

    source: ModuleSource
    parts: set[int] = field(default_factory=set)
    aliases: dict[int, set[str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The source of the statements, in order; import statements with the names that are used."""
        lines = self.source.text.split("\n")
        return "\n".join(self._text_of(i, lines) for i in sorted(self.parts)) + "\n"

    def _text_of(self, number: int, lines: list[str]) -> str:
        part = self.source.parts[number]
        if isinstance(part.node, IMPORTS):
            chosen = [a for a in part.node.names if _bound(a) in self.aliases[number]]
            return "\n".join(ast.unparse(_with_names(part.node, [alias])) for alias in chosen)
        return "\n".join(lines[part.first - 1 : part.last])


class Walk:
    """Follows names from statement to statement, through the modules of the same package and the zoo's."""

    def __init__(self) -> None:
        self.uses: dict[Path, Uses] = {}
        self._files: dict[str, Path | None] = {}

    def add(self, module: str, name: str | None) -> None:
        """What the name of a module needs; None: all of the module."""
        waiting: list[tuple[str, str | None]] = [(module, name)]
        done = set()
        while waiting:
            entry = waiting.pop()
            if entry not in done:
                done.add(entry)
                waiting += self._visit(*entry)

    def _visit(self, module: str, name: str | None) -> Iterator[tuple[str, str | None]]:
        first = module not in self._files
        if first:
            self._files[module] = module_file(module)
        path = self._files[module]
        if path is None:
            return
        if path not in self.uses:
            self.uses[path] = Uses(read_module(path, path.stat().st_mtime_ns, path.stat().st_size))
        source = self.uses[path].source
        every = range(len(source.parts))
        chosen = [i for i in every if source.parts[i].always]
        named = None if name is None or source.whole else source.binding(name)
        if name is not None and not named and name != "":
            yield f"{module}.{name}", None  # a module of a package, or nothing
        bare = name == ""
        chosen += [] if bare else (named or list(every))
        for number in chosen:
            yield from self._take(module, path, number, name if named else None)
        for part in source.parts if first else ():  # importing a module imports what it imports
            if isinstance(part.node, IMPORTS):
                yield from ((other, "") for other, _ in imported(module, path, part.node) if _own(other, module))

    def _take(self, module: str, path: Path, number: int, name: str | None) -> Iterator[tuple[str, str | None]]:
        uses, part = self.uses[path], self.uses[path].source.parts[number]
        if isinstance(part.node, IMPORTS):
            aliases = [a for a in part.node.names if name is None or _bound(a) == name]
            uses.parts.add(number)
            uses.aliases.setdefault(number, set()).update(map(_bound, aliases))
            found = imported(module, path, _with_names(part.node, aliases))
            yield from ((other, of) for other, of in found if _own(other, module))
            return
        if number in uses.parts:
            return
        uses.parts.add(number)
        yield from ((module, used) for used in part.uses & uses.source.names)
        for node in part.imports:
            yield from ((other, of) for other, of in imported(module, path, node) if _own(other, module))


def imported(module: str, path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str | None]]:
    """(module, name) for what an import statement in a module imports; None: the whole module."""
    if isinstance(node, ast.Import):
        yield from ((meant(module, alias.name), None) for alias in node.names)
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
    base = base if node.level else meant(module, base)
    yield from ((base, None if alias.name == "*" else alias.name) for alias in node.names)


def module_file(name: str) -> Path | None:
    """The source file of a module; None for what is not a module, or not written in Python."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@lru_cache(maxsize=256)
def read_module(path: Path, changed: int, size: int) -> ModuleSource:
    """The statements of a file; changed, size: its time of change in nanoseconds and its bytes."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    parts = tuple(_part(node) for node in tree.body if not _is_main(node))
    nodes = list(ast.walk(tree))
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    names |= {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    names |= {n.name for n in nodes if isinstance(n, DEFINITIONS)}
    starred = any(a.name == "*" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names)
    return ModuleSource(text, parts, starred or bool(names & DYNAMIC))


def _part(node: ast.stmt) -> Part:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    nodes = tuple(ast.walk(node))
    return Part(node, nodes, first, node.end_lineno or node.lineno, frozenset(_binds(node)), _acts(node))


def _binds(node: ast.AST) -> Iterator[str]:
    """Names of the module that a statement binds, in functions by `global`."""
    if isinstance(node, DEFINITIONS):
        yield node.name
        yield from (name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names)
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, IMPORTS):
        yield from map(_bound, node.names)
    for child in ast.iter_child_nodes(node):
        yield from _binds(child)


def _acts(node: ast.stmt) -> bool:
    """Whether a statement may do more than bind names."""
    if isinstance(node, DEFINITIONS):
        return not {_last_name(d) for d in node.decorator_list} <= LOCAL_DECORATORS
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        inner = [n for target in targets for n in ast.walk(target)]
        return any(isinstance(n, (ast.Attribute, ast.Subscript)) or getattr(n, "id", "") == "_" for n in inner)
    if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
        return False
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not (text or isinstance(node, (*IMPORTS, ast.Pass)))


def _is_main(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Compare) and getattr(test.left, "id", "") == "__name__"


def _last_name(node: ast.AST) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _with_names(node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> ast.Import | ast.ImportFrom:
    if isinstance(node, ast.Import):
        return ast.Import(names)
    return ast.ImportFrom(node.module, names, node.level)


def _own(other: str, module: str) -> bool:
    """Whether a module is of the same package, or of the zoo."""
    return package_of(other) in {package_of(module), "zoo"}


def package_of(module: str) -> str:
    """The package whose code counts together; the adapters are one of their own inside of genbench."""
    return ADAPTERS if module.startswith(ADAPTERS) else module.partition(".")[0]
