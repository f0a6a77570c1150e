"""Commands on this installation: names, the store, and the test of the measuring code."""

from __future__ import annotations

from typing import Annotated

import typer

from genbench.cli.options import StoreLocation, echo


def ls(what: Annotated[str, typer.Argument(help="models, datasets, metrics, features or suites.")] = "models") -> None:
    """List models, datasets, metrics, features or suites, those of installed plug-ins included."""
    from genbench.commands.ls import list_names

    echo(list_names(what))


def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Delete all of it.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compute every checksum; remove what is damaged.")] = False,
    store: StoreLocation = "",
) -> None:
    """Show what the artefact store contains, verify it, or delete all of it."""
    from genbench.commands.cache import describe_store, verify_store

    if verify:
        text, sound = verify_store()
        echo(text)
        raise typer.Exit(0 if sound else 1)
    echo(describe_store(prune))


def selftest(
    only: Annotated[str, typer.Option(help="Only problems or checks whose name contains this text.")] = "",
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Check the metrics of fidelity and diversity instead; takes a minute.")
    ] = False,
) -> None:
    """Run the code that measures models on problems with known answers: a table of measured and true values.

    --metrics prints which metrics of fidelity and diversity pass which sanity check, as in docs/metric_checks.md.
    """
    from genbench import selftest as problems

    if metrics:
        echo(problems.check_table(problems.run_metric_checks(only, lambda name: echo(name, err=True))))
        return

    rows = problems.run_selftest(only)
    echo(problems.result_table(rows))
    raise typer.Exit(0 if all(row.ok for row in rows) else 1)
