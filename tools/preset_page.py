"""The trials of `preset: small` as rows of docs/presets/trials.csv, and docs/presets.md, which shows them.

python -m tools.preset_page        writes docs/presets.md from the rows, for instance after a preset was changed
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from genbench.contract import DataSpec, Model
from genbench.registry import resolve_model
from genbench.train.presets import fitted_recipe, small_form

PAGE = Path(__file__).parent.parent / "docs" / "presets.md"
TRIALS = PAGE.parent / "presets" / "trials.csv"
CLASSIFIER = TRIALS.with_name("classifier.txt")  # a sentence on what it makes of pictures
MODELS = ("gan", "dcgan", "cgan", "stylegan", "vae", "realnvp", "glow", "ddpm", "latent_diffusion", "flow_matching",
          "edm", "mean_flow", "pixelcnn", "cyclegan")  # fmt: skip
ROWS = (*MODELS[:8], "ddim", *MODELS[8:])  # with the sampler that draws with the weights of a model
SIZES = ("16", "28", "32", "40x48", "64")
JUDGEMENTS = ("no", "partly", "recognisable")
MOST, LEAST = 0.7, 0.35  # shares of samples that are garments, from which they are recognisable, or partly
COMPARED = 100_000  # images of the training whose lengths two presets are compared by
VARIED = 4.0  # classes, from which samples are recognisable
LONG = 15.0  # minutes, after which a model whose samples are not recognisable needs more
TRIED, FOLLOWS, UNKNOWN = "needs more: tried", "needs more: follows", "not known"
STATES = ("recognisable", TRIED, FOLLOWS, UNKNOWN)


@dataclass(frozen=True)
class Trial:
    """One training with `preset: small` and what its samples are.

    minutes: asked for. seconds: of the processor's time, spent. images: trained on. ms_per_image: of training.
    garments, classes, distance: as in tools.preset_pictures.Verdict; the distance is nan where drawing failed, as it
    does when samples are not finite. key: of the preset. machine: its processor. drawn: samples that are judged. seen:
    a judgement by eye on them, written into the table where it is lower than the classifier's.
    """

    model: str
    size: str
    minutes: float
    seconds: int
    images: int
    ms_per_image: float
    parameters: int
    garments: float
    classes: float
    distance: float
    key: str
    machine: str
    drawn: int
    seen: str = ""

    @property
    def classified(self) -> str:
        """Recognisable, partly or no, by the share of garments and the number of their classes."""
        if self.garments >= MOST and self.classes >= VARIED:
            return "recognisable"
        return "partly" if self.garments >= LEAST else "no"

    @property
    def judgement(self) -> str:
        """The lower one of the classifier's judgement and that by eye."""
        return min(self.classified, self.seen or self.classified, key=JUDGEMENTS.index)


def preset_key(model: str, size: str) -> str:
    """Of what `preset: small` has for colour pictures of a size, but the length of a training: 8 hexadecimal digits."""
    height, _, width = size.partition("x")
    kind = resolve_model("ddpm" if model == "ddim" else model)
    assert issubclass(kind, Model)
    config, recipe = small_form(kind, DataSpec(3, int(height), int(width or height), 256, 10))
    same = fitted_recipe(replace(recipe, images=0), COMPARED, kind.stages)
    return hashlib.sha256(repr((config, same)).encode()).hexdigest()[:8]


def is_present(trial: Trial) -> bool:
    """Whether the preset that was tried is that of now."""
    return trial.key == preset_key(trial.model, trial.size)


def read_trials(path: Path) -> list[Trial]:
    """The rows of a table, none where there is no file."""
    if not path.exists():
        return []
    kinds = {field.name: {"float": float, "int": int}.get(str(field.type), str) for field in fields(Trial)}
    with path.open(newline="") as file:
        return [Trial(**{name: kinds[name](text) for name, text in row.items()}) for row in csv.DictReader(file)]


def write_trials(path: Path, trials: list[Trial]) -> None:
    """The table in the order of models and sizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Trial)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(t) for t in sorted(trials, key=lambda t: (ROWS.index(t.model), SIZES.index(t.size))))


def latest(trials: list[Trial], model: str, size: str) -> Trial | None:
    """The last trial of a case, whose samples are shown."""
    return next((t for t in reversed(trials) if (t.model, t.size) == (model, size)), None)


def write_page(path: Path, trials: list[Trial]) -> None:
    """The page of these trials."""
    sections = (line for model in ROWS for line in section(trials, model))
    path.write_text("\n".join([*introduction(trials), *summary(trials), *method(trials), *table(trials), *sections]))


def present(trials: list[Trial], model: str, size: str) -> Trial | None:
    """The last trial of a case, if its preset is that of now."""
    trial = latest(trials, model, size)
    return trial if trial is not None and is_present(trial) else None


def smaller_that_needs_more(trials: list[Trial], model: str, size: str) -> Trial | None:
    """A trial of LONG minutes with smaller pictures whose samples were not recognisable."""
    tried = (present(trials, model, smaller) for smaller in SIZES[: SIZES.index(size)])
    return next((t for t in tried if t and t.judgement != "recognisable" and t.minutes >= LONG), None)


def state(trials: list[Trial], model: str, size: str) -> str:
    """What is known about a case: one of STATES."""
    trial = present(trials, model, size)
    if trial is not None and trial.judgement == "recognisable":
        return "recognisable"
    if trial is not None and trial.minutes >= LONG:
        return TRIED
    return FOLLOWS if smaller_that_needs_more(trials, model, size) else UNKNOWN


def introduction(trials: list[Trial]) -> Iterator[str]:
    """How much was tried, and for how long."""
    cases = [(model, size) for model in ROWS for size in SIZES]
    last = [t for t in (present(trials, *case) for case in cases) if t]
    counts = Counter(state(trials, *case) for case in cases)
    enough = [t.seconds / 60 for t in last if t.judgement == "recognisable"]
    unknown = [t.seconds / 60 for t in last if state(trials, t.model, t.size) == UNKNOWN]
    yield f"""# What `preset: small` draws

Which models draw recognisable colour pictures of these sizes with `preset: small` ([suites.md](suites.md#presets)), and
after how many minutes of one core. {len(last)} of {len(cases)} cases were tried.

- *Recognisable*: {counts["recognisable"]}, after {spanned(enough)} minutes.
- *Needs more: tried*: {counts[TRIED]}, not recognisable after {LONG:g} minutes.
- *Needs more: follows*: {counts[FOLLOWS]}, not tried for {LONG:g} minutes, but smaller pictures of the
  same model needed more, and larger ones cost more per image."""
    if counts[UNKNOWN]:
        yield f"""- *Not known*: {counts[UNKNOWN]}, not tried, or not recognisable after {spanned(unknown)} minutes;
  whether {LONG:g} are enough is not known."""
    yield """
A share of 70% of 20 samples has a 95% interval of 48% to 85%.
"""


def spanned(minutes: list[float]) -> str:
    """The least and the most of them as text."""
    return f"{min(minutes):.1f} to {max(minutes):.1f}" if minutes else "no"


def summary(trials: list[Trial]) -> Iterator[str]:
    """The models of each state at each size."""
    found = {size: {model: state(trials, model, size) for model in ROWS} for size in SIZES}
    kinds = [kind for kind in STATES if any(kind in own.values() for own in found.values())]
    yield "| size | " + " | ".join(kinds) + " |"
    yield "|---" * (1 + len(kinds)) + "|"
    for size, own in found.items():
        yield f"| {size} | " + " | ".join(", ".join(f"`{m}`" for m in ROWS if own[m] == kind) for kind in kinds) + " |"
    yield ""


def method(trials: list[Trial]) -> Iterator[str]:
    """What the pictures are, and how samples are judged."""
    classifier = CLASSIFIER.read_text(encoding="utf-8").strip() if CLASSIFIER.exists() else ""
    machines = sorted({t.machine for t in trials})
    lowered = sum(t.judgement != t.classified for t in trials)
    yield f"""## How it was tried

This page is written by `python -m tools.preset_trial OUT --minutes 15`. The pictures are Fashion-MNIST's garments,
tinted, on coloured backgrounds, 9,000 of them for training (4,750 of each domain for `cyclegan`, which colours grey
garments). A training has one thread of {" or ".join(machines) or "a processor"}, which other processes share; minutes
are of the processor's time. The rows are in [presets/trials.csv](presets/trials.csv). What is recognisable after fewer
minutes than 15 is not tried longer. The command continues with the other cases.

A classifier with one class for each garment and one for spoiled pictures (shuffled blocks, bent pictures, spots) judges
the samples of each training, brought to 16x16 pixels. *Recognisable*: at least {MOST:.0%} of them are garments for it,
as varied as {VARIED:g} equally frequent classes; *partly*: at least {LEAST:.0%} are. It detects neither fine noise nor
blur, nor whether `cyclegan`, whose garments are given, colours them. The distance detects these in part: it is the
squared Frechet distance of its features to those of held-out pictures.
{classifier}
Where the samples below look worse than that, the lower judgement is used, as for {lowered} of the {len(trials)} rows:
the column "by eye". It is "partly" where most samples are blurred outlines of a garment, and for `cyclegan` where all
garments have the same colour; "no" where they stay grey.
"""


def table(trials: list[Trial]) -> Iterator[str]:
    """The judgements of all models at all sizes."""
    yield "| model | " + " | ".join(SIZES) + " |"
    yield "|---" * (1 + len(SIZES)) + "|"
    for model in ROWS:
        yield f"| [`{model}`](#{model}) | " + " | ".join(in_words(trials, model, size) for size in SIZES) + " |"
    yield ""


def in_words(trials: list[Trial], model: str, size: str) -> str:
    """The judgement on a case, the minutes of its training, and what follows from smaller pictures."""
    trial, smaller = latest(trials, model, size), smaller_that_needs_more(trials, model, size)
    tried, more = judged(trial) if trial else "not tried", state(trials, model, size)
    if more == TRIED:
        return f"{tried}: needs more"
    if more != FOLLOWS or smaller is None:
        return tried
    return f"{tried}; needs more than {LONG:g} min: {judged(smaller)} at {smaller.size}, and larger pictures cost more"


def judged(trial: Trial) -> str:
    """The judgement and the minutes of a trial."""
    earlier = "" if is_present(trial) else " (earlier preset)"
    return f"{trial.judgement} after {trial.seconds / 60:.1f} min{earlier}"


def section(trials: list[Trial], model: str) -> Iterator[str]:
    """The trials of a model and samples of the last one at each size."""
    shown = [trial for trial in (latest(trials, model, size) for size in SIZES) if trial is not None]
    if not shown:
        return
    yield f"## {model}\n"
    yield "| size | minutes | images | ms per image | parameters | samples | garments | classes | distance | by eye |"
    yield "|---" * 10 + "|"
    for t in (t for t in trials if t.model == model):
        yield (f"| {t.size} | {t.seconds / 60:.1f} | {t.images:,} | {t.ms_per_image:g} | {t.parameters:,} | "
               f"{t.drawn} | {t.garments:.0%} | {t.classes:g} | {t.distance:g} | {t.seen} |")  # fmt: skip
    yield ""
    for t in shown:
        if math.isnan(t.distance):
            yield f"{t.size}: no picture, because drawing failed.\n"
            continue
        yield f'{t.size}: <img src="presets/{model}-{t.size}.jpg" width="640" alt="samples of {model} at {t.size}">\n'


if __name__ == "__main__":
    write_page(PAGE, read_trials(TRIALS))
