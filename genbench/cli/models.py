"""Commands on models: what one is, whether it meets the contract, a new one, and a trained one for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genbench.cli.options import StoreLocation, echo


def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, module:Class or path/to/file.py:Class.")],
    shape: Annotated[str, typer.Option(help="Channels x height x width of the images.")] = "1x28x28",
    levels: Annotated[int, typer.Option(min=2, max=256, help="Grey levels of the images.")] = 256,
    small: Annotated[bool, typer.Option("--small", help="As in `preset: small` instead of `preset: paper`.")] = False,
) -> None:
    """Show MODEL for images of a size: config, sampler, recipe and abilities, each with its default."""
    from genbench.commands.shapes import read_shape
    from genbench.commands.show import describe_model

    echo(describe_model(model, read_shape(shape, levels), small))


def check(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name, module:Class, path/to/file.py:Class, or a label of --suite.")
    ],
    suite: Annotated[Path | None, typer.Option(help="Check the row with this label, as this suite has it.")] = None,
    shape: Annotated[str, typer.Option(help="Channels x height x width of the images to try.")] = "1x8x8",
    levels: Annotated[int, typer.Option(min=2, max=256, help="Grey levels of the images to try.")] = 17,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
) -> None:
    """Check MODEL against the contract: one line for each rule, with the reason where it is violated."""
    from genbench.commands.check import run_checks

    raise typer.Exit(0 if run_checks(model, suite, shape, levels, device, echo) else 1)


def new(
    what: Annotated[str, typer.Argument(metavar="KIND", help="model.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new file, e.g. my_flow.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
) -> None:
    """Write NAME.py, a small model that passes `check`, and NAME.yaml, a suite that runs it."""
    from genbench.commands.new import write_skeleton

    echo(write_skeleton(what, name, out))


def export(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A label, or model/dataset/s0, of a run.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    suite: Annotated[Path, typer.Option(help="The suite of the cell.")],
    store: StoreLocation = "",
) -> None:
    """Write a trained CELL to DIR: weights, config, model card; for diffusers or ONNX runtimes where they have it."""
    from genbench.commands.export import export_cell

    echo(export_cell(cell, suite, directory))
