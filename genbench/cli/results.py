"""Commands on results: render, compare, follow over time, and convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genbench.cli.options import echo, names


def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; needed for several folders.")] = None,
    columns: Annotated[str, typer.Option(help="Metrics of the .md and .tex tables, separated by commas.")] = "",
    figures: Annotated[str, typer.Option(help="Also figures for a paper: pdf, png or eps.")] = "",
    url: Annotated[str, typer.Option(help="Where the folder will be on the web, for previews of links to it.")] = "",
) -> None:
    """Write tables, figures and the page of DIR again from its records; several folders become one result."""
    from genbench import report as renderer

    written, findings = renderer.render(directories, out, names(columns) or (), figures, url)
    for text in (*findings, *written):
        echo(text)


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result's folder, or its records.jsonl.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The result to judge.")],
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 1 when B is worse beyond its tolerance.")] = False,
    tolerance: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER or NAME=NUMBER%; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show what does not differ too.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with the samples of both to this file.")] = None,
) -> None:
    """Compare two results metric by metric: better, worse, or cannot tell; and which parts of the protocols differ."""
    from genbench.commands.diff import compare_results

    comparison = compare_results(a, b, gate, tolerance or [], everything, html)
    echo(comparison.sentence, err=as_json)
    if as_json:
        echo(comparison.data)
    for line in () if as_json else comparison.lines:
        echo(line.text, colour=line.colour)
    for text in comparison.closed:
        echo(text, err=True)
    raise typer.Exit(1 if comparison.closed else 0)


def history(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Results of one suite.")],
    metrics: Annotated[str, typer.Option(help="Only these metrics, separated by commas.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show what did not change too.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw the values into this SVG file.")] = None,
) -> None:
    """Show a suite's values over several runs in order of time, with intervals and the steps that are significant."""
    from genbench.commands.history import describe_history

    echo(describe_history(directories, names(metrics) or (), everything, svg))


def convert(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder written by genbench 0.1.")],
) -> None:
    """Rewrite DIR, the result of an older genbench, in the current format. No value changes."""
    from genbench.commands.convert import convert_result

    echo(convert_result(directory))
