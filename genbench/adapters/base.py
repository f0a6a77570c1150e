"""What an adapter is, and the base of the classes that adapters return."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from genbench.contract import Draws
from genbench.errors import ModelError


def unchanged(text: str, folder: Path) -> str:
    """The text."""
    return text


@dataclass(frozen=True)
class Adapter:
    """A scheme of `source`, such as "onnx" in "onnx:./g.onnx"; an installed package may offer further ones.

    about: one line. bind: from the text after the scheme, and the folder where relative paths start, to a class that
    draws; raises ModelError. pin: the same text with what may change later fixed, such as the revision on a hub.
    """

    about: str
    bind: Callable[[str, Path], type[Draws]]
    pin: Callable[[str, Path], str] = unchanged


class Adapted(Draws):
    """A class bound to one artefact. place: where relative paths start. named: the files as the suite names them."""

    place: ClassVar[Path]
    named: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def files(cls, config: Any) -> tuple[str | Path, ...]:
        """The artefact."""
        return cls.named

    @classmethod
    def beside(cls, name: str | Path) -> Path:
        """The path of a file relative to the suite."""
        return located_in(cls.place, str(name))


def bound_class(kind: type[Draws], place: Path, *abilities: type, name: str = "", text: str = "", **facts: Any) -> Any:
    """A subclass of `kind` for one artefact, with these abilities; facts: its class attributes.

    name: for messages; default: that of `kind`. text: what decides its images beside its files and options; it is part
    of the hash of the class's code.
    """
    members = {"place": place, "__module__": kind.__module__, "__qualname__": f"{kind.__qualname__}.{text}"}
    return type(name or kind.__name__, (kind, *abilities), {"__doc__": kind.__doc__, **members, **facts})


def located_in(folder: Path, text: str) -> Path:
    """A path that may begin with ~ and, where it is relative, starts in the folder."""
    return (folder / os.path.expanduser(text)).absolute()  # noqa: PTH111 - leaves "~nobody" as it is, where Path raises


def existing_file(text: str, folder: Path, scheme: str) -> Path:
    """The file of a scheme. Raises ModelError when there is none."""
    path = located_in(folder, text)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ModelError(f"{scheme}:{text}: found {found} at {path}, allowed: a file")
    return path


def library(name: str, extra: str, scheme: str) -> Any:
    """An optional library. Raises ModelError that names the extra to install."""
    try:
        return import_module(name)
    except ImportError as error:
        remedy = f"pip install 'genbench[{extra}]'"
        raise ModelError(f"{scheme}: needs the package {name.partition('.')[0]} ({error}); {remedy}") from None
