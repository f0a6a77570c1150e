"""Commands on images: score them, write the statistics of a reference, draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genbench.cli.options import DeviceName, StoreLocation, echo, names


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
        json_file, fake=fake, reference=reference, features=features, metrics=names(metrics) or (), weights=weights,
        device=device, resize=resize, precision=precision, download=download, size=size, fit=fit,
        reference_extractor=reference_extractor, reference_count=reference_count, processes=processes,
        extraction=scoring.extraction_options(extraction or ()), prompts=prompts,
    )  # fmt: skip
    echo(scores.to_json() if str(json_file) == "-" else scores.table())
    raise typer.Exit(1 if scores.failed else 0)


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

    echo(write_samples(model, suite, n, seed, out, device, read_shape(shape, levels)))
