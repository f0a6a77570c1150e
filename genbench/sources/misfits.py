"""What of a set of weights does not fit a model: what is missing, unknown, or of another shape or type, as a whole."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genbench.text import escaped

SHOWN = 3  # names of each kind in a message
WIDTH = 80  # columns of its lines, except the first, which begins with the file
Differs = tuple[str, str, str]  # name, what the file has, what the model has


@dataclass(frozen=True)
class Misfits:
    """Tensors by name. fitting: how many of the model's `own` are in the file as they should be."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    shapes: tuple[Differs, ...]
    types: tuple[Differs, ...]
    fitting: int
    own: int

    def __len__(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.shapes) + len(self.types)

    def text(self, where: str, remedy: str) -> str:
        """One misfit as a sentence; several as a line for each kind, with its number and its first names.

        where: "" or such as " under 'ema'". remedy: "" or what to do. Lines can be joined to one.
        """
        if len(self) == 1:
            return self._only() + where + (f"; {remedy}" if remedy else "")
        lines = [_line("missing", self.missing), _line("unknown", self.unknown)]
        lines += [_line("of another shape", _compared(self.shapes)), _line("of another type", _compared(self.types))]
        hint = "sizes of networks are in `config`: compare it with the one of the training" if self.shapes else ""
        found = f"{self.fitting:,} of its {self.own:,} tensors fit{where}"
        return ";\n".join([found, *filter(None, [*lines, _indented(hint), _indented(remedy)])])

    def _only(self) -> str:
        sentences = [f"{name} is missing" for name in self.missing]
        sentences += [f"{name} is not in the model" for name in self.unknown]
        sentences += [f"{name} has shape {found}, the model's has {own}" for name, found, own in self.shapes]
        sentences += [f"{name} holds {found}, the model's {own}" for name, found, own in self.types]
        return sentences[0]


def _compared(entries: Sequence[Differs]) -> list[str]:
    return [f"{name} {found} for {own}" for name, found, own in entries]


def _line(kind: str, entries: Sequence[str]) -> str:
    more = f" and {len(entries) - SHOWN:,} more" if len(entries) > SHOWN else ""
    return _indented(f"{len(entries):,} {kind}: {', '.join(entries[:SHOWN])}{more}") if entries else ""


def _indented(text: str) -> str:
    """The text in lines of WIDTH, indented; names are not broken."""
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Misfits:
    """What of a file's tensors does not fit the model's own."""
    both = {_quoted(name): (tensor, own[name]) for name, tensor in state.items() if name in own}
    shapes = _differing({name: (tuple(theirs.shape), tuple(ours.shape)) for name, (theirs, ours) in both.items()})
    types = {name: (_type(theirs), _type(ours)) for name, (theirs, ours) in both.items() if not _alike(theirs, ours)}
    wrong = {name for name, *_ in shapes} | set(types)
    return Misfits(
        tuple(_quoted(name) for name in own if name not in state),
        tuple(_quoted(name) for name in state if name not in own),
        shapes, _differing(types), len(both) - len(wrong), len(own),
    )  # fmt: skip


def _differing(pairs: Mapping[str, tuple[Any, Any]]) -> tuple[Differs, ...]:
    return tuple((name, str(found), str(own)) for name, (found, own) in pairs.items() if found != own)


def _quoted(name: str) -> str:
    return f"'{escaped(name)}'"


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether both are whole numbers, floating-point or complex numbers, within which load_state_dict converts."""
    return (a.is_floating_point(), a.is_complex()) == (b.is_floating_point(), b.is_complex())


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
