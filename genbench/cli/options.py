"""Options and arguments that several commands have, and what their texts mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from genbench.errors import GenbenchError
from genbench.text import printable

SuitePath = Annotated[
    Path, typer.Argument(metavar="SUITE", help="A file, e.g. suites/digits.yaml, or a shipped suite's name: digits.")
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto uses the fastest available.")]
RunDevice = Annotated[
    str, typer.Option(help="auto, cpu, cuda (all GPUs), cuda:0,2 (these) or mps; auto uses the fastest available.")
]
ExecutorName = Annotated[str, typer.Option(help="Where the cells run: local, ray or submitit (docs/scaling.md).")]
ExecutorOptions = Annotated[
    list[str] | None, typer.Option("--executor-option", metavar="KEY=VALUE", help="An option of it; repeatable.")
]
LimitImages = Annotated[int | None, typer.Option(min=2, help="Cap on budgets, samples and held-out images.")]


def _use_store(location: str) -> str:
    """For this process and its workers."""
    if location:
        os.environ["GENBENCH_CACHE"] = location
    return location


Download = Annotated[bool, typer.Option("--download", help="Allow downloads of data and weights.")]
StoreLocation = Annotated[  # the callback is what it does: a command does not use the argument
    str,
    typer.Option(callback=_use_store, help="Folder or URL (s3://bucket/path) of the store; default: $GENBENCH_CACHE."),
]


def allow_downloads(allowed: bool) -> None:
    """For this process and its workers."""
    if allowed:
        os.environ["GENBENCH_DOWNLOAD"] = "1"


def echo(text: object, err: bool = False, colour: str = "") -> None:
    """Prints text, without characters that steer a terminal; in a terminal in colour, unless NO_COLOR is set."""
    fg = None if os.environ.get("NO_COLOR") else colour or None
    typer.secho(printable(str(text)), err=err, fg=fg)


def names(text: str) -> list[str] | None:
    """What commas separate; None for nothing."""
    return [part.strip() for part in text.split(",") if part.strip()] or None


def numbers(text: str) -> list[int] | None:
    """Whole numbers that commas separate; None for nothing. Raises GenbenchError for anything else."""
    parts = names(text)
    if parts is None:
        return None
    for part in parts:
        if not part.isdigit():
            raise GenbenchError(f"--seeds: found '{part}', allowed: whole numbers separated by commas")
    return [int(part) for part in parts]
