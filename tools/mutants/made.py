"""The mutants of a file: those of mutmut that are not only about words, with names that outlive an edit elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, create_mutations
from mutmut.mutation.trampoline_templates import mangle_function_name

AROUND = 40  # characters of context on each side of a change
TEXTS = re.compile(r"\bhow = \[|\[how -> |\[how=")  # changes of a variable or argument that holds a text for people


@dataclass(frozen=True)
class Mutant:
    """A change of one expression or statement in a function.

    name: mutmut's. key: a hash of file, function, the two texts, and a number where a function has the same change
    several times; it stays while the function contains the expression.
    """

    name: str
    key: str
    file: str
    function: str
    line: int
    change: str

    @property
    def rank(self) -> float:
        """A number in [0, 1): a sample of share p has the mutants whose rank is below p."""
        return int(self.key, 16) / 16 ** len(self.key)


def mutants_of(file: str, root: Path) -> list[Mutant]:
    """The mutants of a file below root, in the order of the file; reads mutmut's settings in the current folder."""
    source = (root / file).read_text(encoding="utf-8")
    module, mutations, _, _ = create_mutations(file, source)
    lines = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    owners = dict(_functions(module))
    numbers, same, made = Counter[str](), Counter[tuple[str, ...]](), list[Mutant]()
    for mutation in mutations:
        outer = mutation.contained_by_top_level_function
        if not isinstance(outer, cst.FunctionDef) or outer not in owners:
            continue
        class_name = owners[outer]
        mangled = mangle_function_name(name=outer.name.value, class_name=class_name)
        numbers[mangled] += 1
        function = f"{class_name}.{outer.name.value}" if class_name else outer.name.value
        where = lines.get(mutation.original_node)
        was, now = (_one_line(text) for text in _texts(module, mutation, where, source.splitlines()))
        if only_words(mutation) or TEXTS.search(change(was, now)):
            continue
        identity = (file, function, was, now)
        same[identity] += 1
        text = "\0".join((*identity, str(same[identity])))
        made.append(
            Mutant(
                name=f"{file.removesuffix('.py').replace('/', '.')}.{mangled}__mutmut_{numbers[mangled]}",
                key=hashlib.sha256(text.encode()).hexdigest()[:12],
                file=file,
                function=function,
                line=0 if where is None else where.start.line,
                change=change(was, now),
            )
        )
    return made


def _functions(module: cst.Module) -> Iterator[tuple[cst.FunctionDef, str | None]]:
    """Functions of the module and methods of its classes, each with the name of its class."""
    for statement in module.body:
        if isinstance(statement, cst.FunctionDef):
            yield statement, None
        elif isinstance(statement, cst.ClassDef):
            yield from ((m, statement.name.value) for m in statement.body.body if isinstance(m, cst.FunctionDef))


def only_words(mutation: Mutation) -> bool:
    """Whether the change is in a text for people (it contains a space), or only of upper and lower case."""
    was, now = mutation.original_node, mutation.mutated_node
    if not isinstance(was, cst.SimpleString) or not isinstance(now, cst.SimpleString):
        return False
    return " " in was.value or was.value.lower() == now.value.lower()


def _texts(module: cst.Module, mutation: Mutation, where: CodeRange | None, lines: list[str]) -> tuple[str, str]:
    """The lines of the change before and after it; the changed code alone where mutmut does not know its lines."""
    was, now = (module.code_for_node(node) for node in (mutation.original_node, mutation.mutated_node))
    if where is None:
        return was, now
    head, tail = lines[where.start.line - 1][: where.start.column], lines[where.end.line - 1][where.end.column :]
    return f"{head}{was}{tail}", f"{head}{now}{tail}"


def _one_line(code: str) -> str:
    return re.sub(r"\s+", " ", code).strip()


def change(was: str, now: str) -> str:
    """The two texts with a common beginning and end once: `f(x, [1 -> 2])`, shortened far from the change."""
    start = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    start = len(re.match(r"(?s).*\W|", was[:start])[0])  # whole words  # type: ignore[index]
    rest, other = was[start:], now[start:]
    end = next((i for i, (a, b) in enumerate(zip(rest[::-1], other[::-1], strict=False)) if a != b), None)
    end = min(len(rest), len(other)) if end is None else end
    tail = re.search(r"(?s)\W.*|$", rest[len(rest) - end :])[0]  # type: ignore[index]
    rest, other = rest[: len(rest) - len(tail)], other[: len(other) - len(tail)]
    head = was[:start] if start <= AROUND else "..." + was[start - AROUND : start]
    tail = tail if len(tail) <= AROUND else tail[:AROUND] + "..."
    return f"{head}[{_short(rest)} -> {_short(other)}]{tail}"


def _short(text: str) -> str:
    return text if len(text) <= 2 * AROUND else f"{text[:AROUND]}...{text[-AROUND:]}"
