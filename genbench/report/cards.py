"""Model cards: what a row is, what it cost, how it was configured, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from genbench.records import FAILED
from genbench.report.about import About
from genbench.report.aggregate import Row
from genbench.report.board_view import SCALE_LINES
from genbench.report.claims import Verdict
from genbench.report.curves import Panel
from genbench.report.metric_help import plain
from genbench.report.pictures import WIDE, Tiles
from genbench.report.training import TRAINING_TIME
from genbench.text import duration, printable

MILLION = 1_000_000
GIVEN = {
    "class": "the class of each image that it draws",
    "caption": "a caption of each image that it draws",
    "image": "an image to translate",
}
ONE_WIDE, FEW_WIDE = 160, 96  # CSS pixels of a single image with its prompt, and of each of several
LONGEST_PROMPT = 300  # characters
SCALE_ROWS_SHOWN = 3  # rows of a scale row's grid


@dataclass(frozen=True)
class Picture:
    """A grid of images: a data: address, its width in CSS pixels, a legend, and words for who cannot see it.

    strips: in place of the address, for each row of the grid its address and its prompt. alone: whether a row is one
    image.
    """

    source: str
    width: int
    legend: str
    words: str
    strips: tuple[tuple[str, str], ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class Card:
    """One row. facts: (word, text)."""

    anchor: str
    name: str
    role: str
    what: str
    facts: tuple[tuple[str, str], ...]
    picture: Picture | None
    neighbours: Picture | None
    panels: tuple[Panel, ...]
    verdicts: tuple[Verdict, ...]
    papers: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    failed: str = ""
    warnings: tuple[str, ...] = ()


def card(
    row: Row, anchor: str, about: About | None, pictures: Mapping[str, Picture], panels: Sequence[Panel],
    verdicts: Sequence[Verdict],
) -> Card:  # fmt: skip
    """The card of a row. pictures: `samples` and `neighbours`, where there are any."""
    failed = next((e.reason for e in row.entries.values() if e.status == FAILED), "")
    warnings = tuple(dict.fromkeys(w for e in row.entries.values() for w in e.record.warnings))
    what = about.what if about else SCALE_LINES.get(row.model, "")
    return Card(
        anchor, row.model, row.role, what, tuple(_facts(row, panels)), pictures.get("samples"),
        pictures.get("neighbours"), tuple(panels), tuple(verdicts), about.papers if about else (),
        about.deviations if about else (), failed, warnings,
    )  # fmt: skip


def _facts(row: Row, panels: Sequence[Panel]) -> Iterator[tuple[str, str]]:
    if row.family not in ("", row.model):
        yield "Family", row.family
    if row.given:
        yield "Given", GIVEN.get(row.given, row.given)
    if caveat := row.model_fact("caveat"):
        yield "Caveat", str(caveat)
    yield from _costs(row)
    terms = ", ".join(panel.term for panel in panels)
    if terms:
        yield "Loss terms", terms
    if sampler := row.model_fact("sampler"):
        yield "Sampler", plain(sampler)
    if config := row.model_fact("config"):
        yield "Configuration", plain(config)
    if ema := row.model_fact("ema"):
        yield "Averaged weights", f"decay {ema}"


def _costs(row: Row) -> Iterator[tuple[str, str]]:
    if parameters := _number(row, "parameters"):
        small = parameters < MILLION / 10
        yield "Parameters", f"{parameters:,.0f}" if small else f"{parameters / MILLION:.2f} M"
    images, seconds = _number(row, "images_seen"), _number(row, TRAINING_TIME)
    training = [f"{images:,.0f} images seen"] if images else []
    training += [duration(seconds)] if seconds else []
    if training:
        yield "Training", " in ".join(training)
    if evaluations := _number(row, "evaluations"):
        plural = "" if evaluations == 1 else "s"
        yield "Drawing", f"{evaluations:,.0f} network evaluation{plural} an image"


def _number(row: Row, name: str) -> float | None:
    """A number about the model: a field of the protocol, or a metric of that name."""
    entry = row.entries.get(name)
    value = row.model_fact(name) if entry is None or not entry.ok else entry.value
    return float(value) if isinstance(value, int | float) else None


def legend(row: Row, rows: int, seed: int) -> str:
    """What a grid shows."""
    kind = row.given
    if kind == "image":
        return "Rows in turn: input, output, and the output translated back."
    if kind:
        return f"One row for each class, in the order of the classes; seed {seed}."
    return f"The first {10 * rows} images of seed {seed}, not selected." if row.is_model else ""


def prompted(row: Row, tiles: Tiles, rows: int) -> Picture:
    """The picture of a grid with a prompt for each row."""
    strips = tuple((source, _shortened(text)) for source, text in tiles.strips(rows))
    columns, side = tiles.images.shape[1], tiles.size[1]
    alone = columns == 1
    width = min(ONE_WIDE, side * max(1, ONE_WIDE // side)) if alone else tiles.width(min(WIDE, FEW_WIDE * columns))
    what = "An image" if alone else f"{columns} images"
    text = f"{what} for each of the first {len(strips)} prompts, seed {min(row.seeds, default=0)}, not selected."
    return Picture("", width, text, f"samples of {row.model}", strips, alone)


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST_PROMPT else f"{text[:LONGEST_PROMPT]}…"
