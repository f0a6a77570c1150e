"""The commands: each one parses its arguments, calls, prints and exits. torch is imported only when a command runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from genbench.errors import GenbenchError, Terminated
from genbench.interruption import INTERRUPTED, TERMINATED, end_at_once, handle_signals
from genbench.text import printable, shortened

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

TRACEBACK = "GENBENCH_TRACEBACK"  # environment variable: an internal error shows where it was raised
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


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"genbench {version('genbench')}")
        raise typer.Exit


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


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, sample and score generative models of every family under one declared protocol."""


@app.command()
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
    from genbench.runner import run as runner

    _allow_downloads(download)
    result = runner.run(
        suite,
        out=out,
        models=_list(models),
        seeds=_numbers(seeds),
        device=device,
        limit_images=limit_images,
        cell_timeout=cell_timeout,
        executor=executor,
        processes=processes,
        executor_options=[*(executor_option or ()), *([f"address={address}"] if address else ())],
    )
    raise typer.Exit(1 if result.failed else 0)


@app.command()
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

    _allow_downloads(download)
    if no_code:
        _echo(describe_without_code(suite))
        return
    if estimate:
        from genbench.commands.estimate import describe_estimate

        _echo(describe_estimate(suite, device, limit_images, lambda line: _echo(line, err=True)))
        return
    _echo(describe_plan(suite, device, limit_images))


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; needed for several folders.")] = None,
    columns: Annotated[str, typer.Option(help="Metrics of the .md and .tex tables, separated by commas.")] = "",
    figures: Annotated[str, typer.Option(help="Also figures for a paper: pdf, png or eps.")] = "",
    url: Annotated[str, typer.Option(help="Where the folder will be on the web, for previews of links to it.")] = "",
) -> None:
    """Write tables, figures and the page of DIR again from its records; several folders become one result."""
    from genbench import report as renderer

    written, findings = renderer.render(directories, out, _list(columns) or (), figures, url)
    for text in (*findings, *written):
        _echo(text)


@app.command()
def score(
    fake: Annotated[str, typer.Argument(metavar="FAKE", help="A folder of images, .npy, .npz or a dataset's name.")],
    reference: Annotated[
        str, typer.Option(help="The reference: the same kinds as FAKE; a dataset's name means its train split.")
    ],
    features: Annotated[str | None, typer.Option(help="See `genbench ls features`; or file.py:Object.")] = None,
    metrics: Annotated[str, typer.Option(help="Names separated by commas; default: those that apply.")] = "",
    weights: Annotated[Path | None, typer.Option(help="Folder or file of the extractor's weights.")] = None,
    device: DeviceName = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write JSON to this file; - prints JSON and no table.")
    ] = None,
    resize: Annotated[str, typer.Option(help="How images are resized for the extractor.")] = "",
    extraction: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option that the extractor declares; repeatable.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic of the extractor: fp32 or bf16.")] = "fp32",
    download: Annotated[bool, typer.Option("--download", help="Allow downloads of weights and data.")] = False,
    size: Annotated[int | None, typer.Option(help="Bring both sets to this size in pixels first.")] = None,
    fit: Annotated[str, typer.Option(help="With --size: crop, stretch or pad.")] = "crop",
    reference_extractor: Annotated[
        str | None, typer.Option(help="Of an .npz with mu and sigma that does not state it.")
    ] = None,
    reference_count: Annotated[
        int | None, typer.Option(min=2, help="Images behind an .npz with mu and sigma that does not state it.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that extract features together.")] = 1,
    prompts: Annotated[
        Path | None, typer.Option(help="The text of each image, in the order of files; default: metadata.jsonl, ...")
    ] = None,
    store: StoreLocation = "",
) -> None:
    """Score the images FAKE, made elsewhere, against a reference: a table, or JSON."""
    from genbench.commands import score as scoring

    scores = scoring.score_on_screen(
        json_file, fake=fake, reference=reference, features=features, metrics=_list(metrics) or (), weights=weights,
        device=device, resize=resize, precision=precision, download=download, size=size, fit=fit,
        reference_extractor=reference_extractor, reference_count=reference_count, processes=processes,
        extraction=scoring.extraction_options(extraction or ()), prompts=prompts,
    )  # fmt: skip
    _echo(scores.to_json() if str(json_file) == "-" else scores.table())
    raise typer.Exit(1 if scores.failed else 0)


@app.command()
def stats(
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="A folder of images, .npy, .npz or a dataset's name.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    features: Annotated[str | None, typer.Option(help="See `genbench ls features`; or file.py:Object.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder or file of the extractor's weights.")] = None,
    device: DeviceName = "auto",
    resize: Annotated[str, typer.Option(help="How images are resized for the extractor.")] = "",
    extraction: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option that the extractor declares; repeatable.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow downloads of weights and data.")] = False,
    store: StoreLocation = "",
) -> None:
    """Write mean and covariance of the features of IMAGES, for `genbench score --reference` and other tools."""
    from genbench.commands.score import extraction_options
    from genbench.commands.stats import write_reference

    own = extraction_options(extraction or ())
    typer.echo(write_reference(images, out, features, weights, device, resize, download, own))


@app.command()
def sample(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_CELL", help="A model, file.py:Class, or model/dataset/s0 of a run.")
    ],
    suite: Annotated[Path | None, typer.Option(help="The suite of the cell: its file or shipped name.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    out: Annotated[
        Path, typer.Option(help="x.png: one picture; x.npz or x.npy: an array; a name without suffix: a folder.")
    ] = Path("grid.png"),
    device: DeviceName = "auto",
    shape: Annotated[str, typer.Option(help="Of an untrained model's images: channels x height x width.")] = "1x28x28",
    levels: Annotated[int, typer.Option(min=2, max=256, help="Grey levels of an untrained model's images.")] = 256,
    store: StoreLocation = "",
) -> None:
    """Draw N samples of a trained cell (with --suite) or of an untrained model into a picture, an array or a folder."""
    from genbench.commands.sample import write_samples
    from genbench.commands.shapes import read_shape

    _echo(write_samples(model, suite, n, seed, out, device, read_shape(shape, levels)))


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, module:Class or path/to/file.py:Class.")],
    shape: Annotated[str, typer.Option(help="Channels x height x width of the images.")] = "1x28x28",
    levels: Annotated[int, typer.Option(min=2, max=256, help="Grey levels of the images.")] = 256,
    small: Annotated[bool, typer.Option("--small", help="As in `preset: small` instead of `preset: paper`.")] = False,
) -> None:
    """Show MODEL for images of a size: config, sampler, recipe and abilities, each with its default."""
    from genbench.commands.shapes import read_shape
    from genbench.commands.show import describe_model

    _echo(describe_model(model, read_shape(shape, levels), small))


@app.command()
def export(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A label, or model/dataset/s0, of a run.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    suite: Annotated[Path, typer.Option(help="The suite of the cell.")],
    store: StoreLocation = "",
) -> None:
    """Write a trained CELL to DIR: weights, config, model card; for diffusers or ONNX runtimes where they have it."""
    from genbench.commands.export import export_cell

    _echo(export_cell(cell, suite, directory))


@app.command()
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

    raise typer.Exit(0 if run_checks(model, suite, shape, levels, device, _echo) else 1)


@app.command()
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
    _echo(comparison.sentence, err=as_json)
    if as_json:
        _echo(comparison.data)
    for line in () if as_json else comparison.lines:
        _echo(line.text, colour=line.colour)
    for text in comparison.closed:
        _echo(text, err=True)
    raise typer.Exit(1 if comparison.closed else 0)


@app.command()
def history(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Results of one suite.")],
    metrics: Annotated[str, typer.Option(help="Only these metrics, separated by commas.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show what did not change too.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw the values into this SVG file.")] = None,
) -> None:
    """Show a suite's values over several runs in order of time, with intervals and the steps that are significant."""
    from genbench.commands.history import describe_history

    _echo(describe_history(directories, _list(metrics) or (), everything, svg))


@app.command()
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
        suite, save, against, base, _list(models), device, random_weights, batch, threads, tolerance, max_minutes,
        compiled, json_file,
    )  # fmt: skip
    text, passed = speed(request, lambda line: _echo(line, err=True))
    _echo(text)
    raise typer.Exit(0 if passed else 1)


@app.command()
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
        _echo(problems.check_table(problems.run_metric_checks(only, lambda name: _echo(name, err=True))))
        return

    rows = problems.run_selftest(only)
    _echo(problems.result_table(rows))
    raise typer.Exit(0 if all(row.ok for row in rows) else 1)


@app.command()
def new(
    what: Annotated[str, typer.Argument(metavar="KIND", help="model.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new file, e.g. my_flow.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
) -> None:
    """Write NAME.py, a small model that passes `check`, and NAME.yaml, a suite that runs it."""
    from genbench.commands.new import write_skeleton

    _echo(write_skeleton(what, name, out))


@app.command("ls")
def ls(what: Annotated[str, typer.Argument(help="models, datasets, metrics, features or suites.")] = "models") -> None:
    """List models, datasets, metrics, features or suites, those of installed plug-ins included."""
    from genbench.commands.ls import list_names

    _echo(list_names(what))


@app.command()
def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Delete all of it.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compute every checksum; remove what is damaged.")] = False,
    store: StoreLocation = "",
) -> None:
    """Show what the artefact store contains, verify it, or delete all of it."""
    from genbench.commands.cache import describe_store, verify_store

    if verify:
        text, sound = verify_store()
        _echo(text)
        raise typer.Exit(0 if sound else 1)
    _echo(describe_store(prune))


@app.command()
def convert(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder written by genbench 0.1.")],
) -> None:
    """Rewrite DIR, the result of an older genbench, in the current format. No value changes."""
    from genbench.commands.convert import convert_result

    _echo(convert_result(directory))


@app.command()
def schema(
    reference: Annotated[bool, typer.Option("--reference", help="Print docs/suite_reference.md instead.")] = False,
) -> None:
    """Print the JSON Schema of a suite, for editors."""
    from genbench.suite.reference import suite_reference
    from genbench.suite.schema import suite_json_schema

    if reference:
        _echo(suite_reference().rstrip())
        return
    _echo(json.dumps(suite_json_schema(), indent=2))


def main() -> None:
    """The program. A user's mistake prints one line and exits with 2; an interruption exits with 130."""
    handle_signals()
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            end_at_once(INTERRUPTED)
        raise
    except Terminated:
        end_at_once(TERMINATED)
    except GenbenchError as error:
        _echo(f"genbench: {shortened(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:
        _echo(f"genbench: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _echo(
            f"genbench: internal error: {type(error).__name__}: {shortened(str(error))}; {TRACEBACK}=1 shows where",
            err=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        end_at_once(INTERRUPTED)


def _allow_downloads(allowed: bool) -> None:
    """For this process and its workers."""
    if allowed:
        os.environ["GENBENCH_DOWNLOAD"] = "1"


def _echo(text: object, err: bool = False, colour: str = "") -> None:
    """Prints text, without characters that steer a terminal; in a terminal in colour, unless NO_COLOR is set."""
    fg = None if os.environ.get("NO_COLOR") else colour or None
    typer.secho(printable(str(text)), err=err, fg=fg)


def _list(text: str) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] or None


def _numbers(text: str) -> list[int] | None:
    parts = _list(text)
    if parts is None:
        return None
    for part in parts:
        if not part.isdigit():
            raise GenbenchError(f"--seeds: found '{part}', allowed: whole numbers separated by commas")
    return [int(part) for part in parts]


if __name__ == "__main__":
    main()
