"""Commands on a suite: run it, plan it, measure the speed of its models, and the schema of the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from genbench.cli.options import (
    DeviceName,
    Download,
    ExecutorName,
    ExecutorOptions,
    LimitImages,
    RunDevice,
    StoreLocation,
    SuitePath,
    allow_downloads,
    echo,
    names,
    numbers,
)


def run(
    suite: SuitePath,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: reports/<suite>/.")] = None,
    models: Annotated[str, typer.Option(help="Only these labels, separated by commas.")] = "",
    seeds: Annotated[str, typer.Option(help="Only these seeds, separated by commas.")] = "",
    device: RunDevice = "auto",
    limit_images: LimitImages = None,
    cell_timeout: Annotated[float | None, typer.Option(min=1, help="Seconds after which a cell fails.")] = None,
    executor: ExecutorName = "local",
    address: Annotated[str, typer.Option(help="With --executor ray: of a cluster that runs.")] = "",
    executor_option: ExecutorOptions = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that compute each training and evaluation together.")
    ] = None,
    store: StoreLocation = "",
    download: Download = False,
) -> None:
    """Run or continue SUITE: train, sample, measure, and write the leaderboard. Finished work is not repeated."""
    from genbench.runner.early import begin_workers, default_folder
    from genbench.suite.schema import read_suite

    allow_downloads(download)
    read = read_suite(suite)
    if executor == "local":  # before torch is imported
        begin_workers(read, default_folder(read) if out is None else out)
    from genbench.runner import run as runner

    result = runner.run(
        read,
        out=out,
        models=names(models),
        seeds=numbers(seeds),
        device=device,
        limit_images=limit_images,
        cell_timeout=cell_timeout,
        executor=executor,
        processes=processes,
        executor_options=[*(executor_option or ()), *([f"address={address}"] if address else ())],
    )
    raise typer.Exit(1 if result.failed else 0)


def plan(
    suite: SuitePath,
    device: DeviceName = "auto",
    limit_images: LimitImages = None,
    no_code: Annotated[bool, typer.Option("--no-code", help="Import no code that SUITE names; list it.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Try each part for a moment; show time and space.")
    ] = False,
    download: Download = False,
    store: StoreLocation = "",
) -> None:
    """List the cells of SUITE, what is stored already, and what does not apply and why. Trains and draws nothing.

    With --estimate a few steps and samples of each row, and from them the time, memory and disk of the whole.
    Imports the code that SUITE names (`source:`, file.py:Object, plug-ins); --no-code lists it instead.
    """
    from genbench.commands.plan import describe_plan, describe_without_code

    allow_downloads(download)
    if no_code:
        echo(describe_without_code(suite))
        return
    if estimate:
        from genbench.commands.estimate import describe_estimate

        echo(describe_estimate(suite, device, limit_images, lambda line: echo(line, err=True)))
        return
    echo(describe_plan(suite, device, limit_images))


def speed(
    suite: SuitePath,
    save: Annotated[Path | None, typer.Option(help="Measure, and write a baseline to this file.")] = None,
    against: Annotated[Path | None, typer.Option(help="Measure, and compare with that baseline.")] = None,
    base: Annotated[str, typer.Option(help="Compare the work tree with this commit, branch or tag.")] = "",
    models: Annotated[str, typer.Option(help="Only these labels, separated by commas.")] = "",
    device: DeviceName = "auto",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Use untrained models (always with --base).")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per call; default: the suite's.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads on a CPU; 0 uses all cores, 1 varies least.")] = 1,
    tolerance: Annotated[
        str, typer.Option(help="The gate fails when a model is slower by more; default 5%, with --base 2%.")
    ] = "",
    max_minutes: Annotated[float, typer.Option(min=0.1, help="With --base: time for all models together.")] = 10.0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the models; not with --save, --against or --base.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON to this file.")] = None,
    store: StoreLocation = "",
) -> None:
    """Measure the cost of drawing from SUITE's models, or compare it with a baseline or another revision."""
    from genbench.speed.commands import Request, speed

    request = Request(
        suite, save, against, base, names(models), device, random_weights, batch, threads, tolerance, max_minutes,
        compiled, json_file,
    )  # fmt: skip
    text, passed = speed(request, lambda line: echo(line, err=True))
    echo(text)
    raise typer.Exit(0 if passed else 1)


def schema(
    reference: Annotated[bool, typer.Option("--reference", help="Print docs/suite_reference.md instead.")] = False,
) -> None:
    """Print the JSON Schema of a suite, for editors."""
    from genbench.suite.reference import suite_reference
    from genbench.suite.schema import suite_json_schema

    if reference:
        echo(suite_reference().rstrip())
        return
    echo(json.dumps(suite_json_schema(), indent=2))
