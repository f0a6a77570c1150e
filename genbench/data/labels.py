"""Labels of images made elsewhere, and whether they are the classes of what the images are compared with.

Folders are named by a class ("cat", "3", "03", "class_3", "3_cat") or by a counter ("000000", as many programs write
every thousand images into a new folder). Only names that match the other side's classes become labels of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.captions import CLASS_NAMES
from genbench.errors import DataError

NUMBERED = re.compile(r"^(?:class|label|digit|category|cls|c|y)?[\W_]*(\d+)(?:[\W_]+(.*\D.*))?$", re.IGNORECASE)
SPARE = 1  # leading zeros that a class number may have beyond the width of the largest one


@dataclass(frozen=True, eq=False)
class Labels:
    """numbers: (N,) int64. names: of the classes by number, () for plain numbers. written: as in `names`, but of
    folders with numbers for names, whose leading zeros may tell a counter from a class.
    """

    numbers: Tensor
    names: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classes:
    """count: how many. names: of each class, every spelling that is accepted; () where classes are plain numbers."""

    count: int
    names: tuple[tuple[str, ...], ...] = ()


def classes_of_dataset(name: str, count: int) -> Classes:
    """The classes of a dataset by its name."""
    return Classes(count, CLASS_NAMES.get(name, ()))


def classes_named(names: Sequence[str]) -> Classes:
    """The classes with these names by number; names "0", "1", ... are plain numbers."""
    plain = all(name == str(number) for number, name in enumerate(names))
    return Classes(len(names), () if plain else tuple((name,) for name in names))


def classes_of_labels(labels: Labels) -> Classes:
    """The classes that a labelled set has."""
    if labels.names:
        return Classes(len(labels.names), tuple((name,) for name in labels.names))
    return Classes(int(labels.numbers.max()) + 1)


def as_classes(labels: Labels, classes: Classes) -> tuple[Tensor | None, str]:
    """The labels as numbers of these classes (N,), or None and the reason."""
    if not labels.names and not labels.written:
        highest = int(labels.numbers.max())
        if highest < classes.count:
            return labels.numbers, ""
        return None, f"labels go up to {highest}, but the classes are 0 to {classes.count - 1}"
    written = labels.names or labels.written
    numbers = [class_number(name, classes) for name in written]
    strange = [name for name, number in zip(written, numbers, strict=True) if number is None]
    if strange:
        shown = ", ".join(repr(name) for name in strange[:3])
        names = _allowed(classes)
        allowed = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        return None, f"{len(strange)} of {len(written)} labels name no class: {shown}; the classes are {allowed}"
    if len(set(numbers)) < len(numbers):
        return None, f"several labels name the same class: {', '.join(map(repr, written[:3]))}, ..."
    lookup = torch.tensor([n for n in numbers if n is not None])
    return lookup[_positions(labels)], ""


def _positions(labels: Labels) -> Tensor:
    """Of each image the position of its label among the written names."""
    if labels.names:
        return labels.numbers
    order = {int(name): i for i, name in enumerate(labels.written)}
    return torch.tensor([order[number] for number in labels.numbers.tolist()])


def _allowed(classes: Classes) -> list[str]:
    return [spellings[0] for spellings in classes.names] or [str(k) for k in range(classes.count)]


def class_number(name: str, classes: Classes) -> int | None:
    """The class that a folder's or label's name tells, None for no class."""
    for number, spellings in enumerate(classes.names):
        if plain_name(name) in {plain_name(spelling) for spelling in spellings}:
            return number
    numbered = NUMBERED.match(name)
    if numbered is None or int(numbered[1]) >= classes.count:
        return None
    number = int(numbered[1])
    if len(numbered[1]) > len(str(classes.count - 1)) + SPARE:
        return None
    if numbered[2] is None:
        return number
    agrees = not classes.names or plain_name(numbered[2]) in {
        plain_name(spelling) for spelling in classes.names[number]
    }
    return number if agrees else None


def plain_name(name: str) -> str:
    """A name without case, punctuation, spaces and leading article."""
    return re.sub(r"[\W_]", "", re.sub(r"^(a|an|the)[\s_]+", "", name.casefold()))


def folder_labels(tops: Sequence[str]) -> Labels:
    """Labels of images whose folders have these names (N,)."""
    names = sorted(set(tops), key=lambda name: (not name.isdecimal(), name))
    if all(name.isdecimal() for name in names) and len({int(name) for name in names}) == len(names):
        return Labels(torch.tensor([int(name) for name in tops]), written=tuple(names))
    order = {name: i for i, name in enumerate(names)}
    return Labels(torch.tensor([order[name] for name in tops]), tuple(names))


def array_labels(raw: np.ndarray | None, count: int, path: Path | str) -> Labels | None:
    """Labels (count,) from numbers, whole floats, names, or one row of zeros and a one for each image; None for none.

    Raises DataError for anything else.
    """
    if raw is None:
        return None
    labels = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    if labels.ndim == 2 and len(labels) == count and _is_one_hot(labels):
        return Labels(torch.from_numpy(labels.argmax(axis=1).astype(np.int64)))
    if labels.shape == (count,) and labels.dtype.kind in "US":
        names, numbers = np.unique(labels.astype(str), return_inverse=True)
        return Labels(torch.from_numpy(numbers.astype(np.int64)), tuple(names.tolist()))
    whole = labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all()))
    if labels.shape != (count,) or not whole or (count and labels.min() < 0):
        least = f", lowest {labels.min()}" if labels.dtype.kind in "iuf" and labels.size else ""
        raise DataError(
            f"{path}: labels of {labels.dtype} and shape {labels.shape}{least}, allowed: integers from 0, shape "
            f"({count},), names, or one-hot rows ({count}, K)"
        )
    return Labels(torch.from_numpy(labels.astype(np.int64)))


def _is_one_hot(rows: np.ndarray) -> bool:
    return rows.dtype.kind in "biuf" and bool(
        ((rows == 1).sum(axis=1) == 1).all() and ((rows != 0).sum(axis=1) == 1).all()
    )
