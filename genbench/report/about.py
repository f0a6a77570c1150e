"""What the source code of a model says about it: its docstring, read as text. No code is imported or run."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from genbench.errors import GenbenchError
from genbench.registry import MODELS

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
SENTENCE = re.compile(r"(?<=[.!?])(?<!al\.)(?<!eq\.)(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)\s+(?=[A-Z(])")
MOST = 400  # letters of a description


@dataclass(frozen=True)
class About:
    """what: at most two sentences. papers: identifiers at arXiv. deviations: from the paper."""

    what: str
    papers: tuple[str, ...]
    deviations: tuple[str, ...]


def about_model(name: str, folder: Path) -> About | None:
    """What the docstring of a model's file says; None where there is no file or no docstring.

    name: built in, or path/to/file.py:Class, relative to `folder`.
    """
    path = _source(name, folder)
    return None if path is None else _about_file(path)


def _source(name: str, folder: Path) -> Path | None:
    try:
        target = MODELS.target(name).rpartition(":")[0]
    except GenbenchError:
        return None
    if target.endswith(".py"):
        return folder / target if (folder / target).is_file() else None
    if not MODELS.is_built_in(name):
        return None  # finding an installed module would import the packages above it
    spec = importlib.util.find_spec(target)
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _about_file(path: Path) -> About | None:
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (OSError, ValueError, SyntaxError):
        return None
    parts = [part.strip() for part in text.split("\n\n")]
    listed = next((part for part in parts if part.startswith("Deviations")), "")
    if not parts[0]:
        return None
    told = [" ".join(part.split()) for part in parts if not part.startswith(("Deviations", "Symbols"))]
    return About(_two_sentences(told), tuple(dict.fromkeys(ARXIV.findall(parts[0] + text))), tuple(_items(listed)))


def _two_sentences(paragraphs: list[str]) -> str:
    sentences = [s for paragraph in paragraphs[:2] for s in SENTENCE.split(paragraph)]
    first, *rest = sentences
    second = rest[0].removeprefix("Implemented: ") if rest else ""
    second = f"{second[:1].upper()}{second[1:]}"
    return f"{first} {second}".strip() if len(second) <= MOST else first


def _items(text: str) -> list[str]:
    """The items of a list of lines that start with "- "."""
    items = re.split(r"\n- ", f"\n{text.partition(chr(10))[2]}")
    return [" ".join(item.split()) for item in items if item.strip()]
