"""Scores images that genbench did not draw, with the metrics and the protocol of a suite.

    genbench.score(fake="samples.npz", reference="fashion-mnist").values     {"fid": 12.3, ...}

Records are those of `genbench run`: where the protocol is the same, so is its hash, and the numbers compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table

from genbench import features as extractors
from genbench import metrics as known
from genbench.data.images import Sizing
from genbench.data.prompts import read_prompts
from genbench.errors import DataError, GenbenchError
from genbench.evaluate.measure import measure_metric
from genbench.evaluate.score_inputs import ELSEWHERE, ScoreInputs
from genbench.evaluate.sides import Side, open_side, open_sides
from genbench.evaluate.statistics import read_statistics
from genbench.evaluate.statistics_inputs import StatisticsInputs, extractor_of
from genbench.features import FeatureOptions
from genbench.features.classifier import index
from genbench.keys import value_key
from genbench.lint import Finding, concerning
from genbench.machine import choose_device, device_name
from genbench.metrics.base import Metric
from genbench.metrics.readings import SPATIAL
from genbench.progress import Progress, Report, silent
from genbench.records import FAILED, NOT_APPLICABLE, OK, Record
from genbench.team import Team
from genbench.text import printable

DEFAULT_METRICS = ("fid", "kid", "is", "precision", "recall", "density", "coverage")
DEFAULT_FEATURES = "inception-v3-compat"
_TABLE_WIDTH = 110  # columns of the table


@dataclass(frozen=True, repr=False)
class Scores:
    """The result of `score`.

    records: one for each metric, in the requested order. findings: the linter's, of the generated images;
    reference_findings: of the reference. identity: the extractor's protocol fields.
    """

    fake: str
    reference: str
    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    reference_findings: tuple[Finding, ...]
    identity: dict[str, Any]

    @property
    def values(self) -> dict[str, float]:
        """Every value that could be measured, by metric."""
        return {r.metric: r.value for r in self.records if r.value is not None}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The linter's findings as sentences."""
        return (*(f.text for f in self.findings), *(f"reference: {f.text}" for f in self.reference_findings))

    @property
    def failed(self) -> list[Record]:
        """Records of what failed."""
        return [r for r in self.records if r.status == FAILED]

    def __repr__(self) -> str:
        """As `table`."""
        return printable(self.table())

    def table(self) -> str:
        """Warnings, a row for each metric, and the protocol, as text."""
        why = [f"{r.status}: {r.metric}: {r.reason}" for r in self.records if r.status != OK]
        warnings = [f"warning: {text}" for text in self.warnings]
        return "\n".join([*warnings, _rendered(self.records), *why, *self._made_differently, self.protocol])

    @property
    def _made_differently(self) -> list[str]:
        """That features of the reference were kept from another version of torch or another device."""
        made = [r.protocol.get("model", {}) for r in self.records if r.protocol]
        pairs = [(m["features_with"], m["reference_with"]) for m in made if "reference_with" in m]
        texts = [[f"{m['device']} with torch {m['torch']}" for m in pair] for pair in pairs]
        return list(dict.fromkeys(
            f"features of the reference were extracted on {real}, those of the images on {fake}"
            for fake, real in texts if fake != real
        ))  # fmt: skip

    @property
    def protocol(self) -> str:
        """How it was measured, in one line."""
        fields = {k: f"{v:.12}" if k == "extractor_weights" else str(v) for k, v in self.identity.items()}
        fields = {name.removeprefix("extractor_"): value for name, value in fields.items()}
        shown = [f"{name} {value}" for name, value in fields.items()]
        n_fake, n_real = (next((n for n in counts if n), None) for counts in self._counts)
        data: dict[str, Any] = next((r.protocol["data"] for r in self.records if r.protocol), {})
        shown += [f"both sets resized to {data['size']}, {data['fit']}"] if "size" in data else []
        shown += [] if n_fake is None else [f"{n_fake:,} generated images"]
        shown += [] if n_real is None else [f"{n_real:,} of {self.reference}"]
        return f"protocol: {', '.join(shown)}\nintervals are 95 %; the JSON states how each was computed"

    @property
    def _counts(self) -> tuple[list[int | None], list[int | None]]:
        return [r.n_fake for r in self.records], [r.n_real for r in self.records]

    def to_json(self) -> str:
        """Everything as JSON text."""
        findings = [{"of": "fake", **asdict(f)} for f in self.findings]
        findings += [{"of": "reference", **asdict(f)} for f in self.reference_findings]
        records = [asdict(r) for r in self.records]
        whole = {"fake": self.fake, "reference": self.reference, "warnings": findings, "records": records}
        return json.dumps(whole, indent=1, allow_nan=False)


def _rendered(records: Sequence[Record]) -> str:
    table = Table(box=None, pad_edge=False)
    for name, side in {
        "metric": "left",
        "value": "right",
        "95 % interval": "left",
        "generated / real": "right",
    }.items():
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("better", no_wrap=True)
    table.add_column("protocol", no_wrap=True)
    for r in records:
        value = r.status if r.value is None else f"{r.value:.5g}"
        interval = "" if r.lo is None or r.hi is None else f"{r.lo:.4g} .. {r.hi:.4g}"
        counts = " / ".join(f"{n:,}" for n in (r.n_fake, r.n_real) if n is not None)
        table.add_row(r.metric, value, interval, counts, r.better, r.protocol_hash)
    text = StringIO()
    Console(file=text, width=_TABLE_WIDTH).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def score(
    *,
    fake: Any,
    reference: Any,
    features: str | None = None,
    metrics: Sequence[str] | None = None,
    weights: Path | str | None = None,
    device: str = "auto",
    resize: str = "",
    precision: str = "fp32",
    download: bool = False,
    size: int | None = None,
    fit: str = "crop",
    reference_extractor: str | None = None,
    reference_count: int | None = None,
    extraction: Mapping[str, Any] = MappingProxyType({}),
    prompts: Path | str | None = None,
    processes: int = 1,
    report: Report = silent,
) -> Scores:
    """Measures how images compare with a reference.

    fake, reference: a folder of images, an .npy, an .npz, a dataset's name (its train split; `name:test` for the
    other) or an array uint8 of (N, H, W), (N, H, W, C) or (N, C, H, W). reference may also be an .npz of statistics, mu
    and sigma, for FID; reference_extractor, reference_count: of these, where the file does not state them.
    features: an extractor; default the dataset's classifier where there is one that fits, else Inception.
    metrics: names; none for those of DEFAULT_METRICS that apply. weights: a file or folder for the extractor.
    resize, precision, download: the extractor's options. size: a side in pixels that both sets are brought to before
    anything else, as fit says: "crop", "stretch" or "pad". extraction: options that the extractor declares.
    prompts: a .txt, .csv or .jsonl with the text that each image of fake was drawn for, in the order of its files;
    default: what fake says itself (metadata.jsonl, ...). processes: that extract features together.
    Raises GenbenchError for sets that cannot be read or compared and for unknown names; a metric that fails becomes a
    record.

        scores = genbench.score(fake="samples.npz", reference="digits", features="pixels", metrics=["fid", "precision"])
        scores.values  # {"fid": ..., "precision": ...}
        print(scores.table())
    """
    options = FeatureOptions(Path(weights) if weights else None, resize, precision, download, dict(extraction))
    wanted = [known.get(name) for name in metrics or ()]
    sizing, device = None if size is None else Sizing(size, fit), choose_device(device)
    statistics = read_statistics(Path(reference).expanduser()) if isinstance(reference, str | Path) else None
    common = (options, device, report)
    if statistics is None:
        inputs = _beside_images(fake, reference, sizing, features, *common)
    else:
        side = open_side(fake, "fake", download, sizing)
        name = extractor_of(statistics, reference_extractor or features)
        inputs = StatisticsInputs(side, statistics, name, *common, reference_count)
    inputs.prompts = _prompts(prompts, inputs.fake_side)
    return _scored(inputs, wanted, processes)


def _beside_images(
    fake: Any, reference: Any, sizing: Sizing | None, features: str | None, options: FeatureOptions, device: str,
    report: Report,
) -> ScoreInputs:  # fmt: skip
    sides = open_sides(fake, reference, options.download, sizing)
    return ScoreInputs(*sides, features or default_features(*sides, options), options, device, report)


def _scored(inputs: ScoreInputs, wanted: Sequence[Metric], processes: int) -> Scores:
    """The values of the metrics; of none for those of DEFAULT_METRICS that apply."""
    chosen = wanted or [m for m in map(known.get, DEFAULT_METRICS) if not inputs.why_not(m)]
    _refuse_nothing(inputs, chosen)
    inputs.spatial_wanted = any(m.reads == SPATIAL for m in chosen)
    with Team(processes, inputs.device) as inputs.team:
        of_fake, of_reference = (concerning(findings, chosen) for findings in inputs.findings)
        records = tuple(_record(inputs, metric) for metric in chosen)
    return Scores(*inputs.names, records, of_fake, of_reference, inputs.identity)


def _prompts(path: Path | str | None, fake: Side) -> tuple[str, ...]:
    """The text of each image in a file, () without a file. Raises DataError for another number of texts."""
    if path is None:
        return ()
    texts, count = read_prompts(Path(path).expanduser()).texts, fake.images.count
    if len(texts) != count:
        raise DataError(
            f"{path}: found {len(texts):,} prompts for the {count:,} images of {fake.images.name}; must agree"
        )
    return texts


def _refuse_nothing(inputs: ScoreInputs, chosen: Sequence[Metric]) -> None:
    reasons = [(m.name, inputs.why_not(m)) for m in chosen]
    if all(reason for _, reason in reasons):
        raise GenbenchError(f"--metrics: none of them is available: {'; '.join(f'{n}: {why}' for n, why in reasons)}")


def default_features(fake: Side, real: Side, options: FeatureOptions) -> str:
    """The classifier of the reference's dataset, if one is shipped for images of this shape; else Inception.

    Inception too for options that no classifier accepts. Raises DataError when its weights are not there.
    """
    dataset = real.dataset
    fits = dataset is not None and f"{dataset.name}-classifier" in index() and fake.images.shape == dataset.spec.shape
    weights_file = options.weights is not None and options.weights.is_file()
    if fits and not (options.resize or options.precision != "fp32" or weights_file):
        return "classifier"
    try:
        extractors.protocol_fields(DEFAULT_FEATURES, ELSEWHERE, options)
    except DataError as error:
        raise DataError(f"{error}; or choose `--features pixels`, which needs no weights") from None
    return DEFAULT_FEATURES


def _record(inputs: ScoreInputs, metric: Metric) -> Record:
    reason = inputs.why_not(metric)
    blank = _blank(inputs, metric)
    if reason:
        return replace(blank, reason=reason)
    inputs.report(Progress(f"measure {metric.name}", 0, 0))
    metric = inputs.adapted(metric)
    measured = measure_metric(metric, inputs, inputs.facts, inputs.device)
    depends = metric.reads.depends(inputs.facts) | ({"code": metric.code} if metric.code else {})
    key = value_key(metric.name, metric.version, metric.protocol, depends)
    return replace(blank, **measured.fields() | {"reason": measured.reason}, key=key)


def _blank(inputs: ScoreInputs, metric: Metric) -> Record:
    fake, dataset = inputs.fake_side.label, inputs.reference_label
    return Record(
        "score", 1, f"{fake}/{dataset}/s0", fake, dataset, 0, metric.name, metric.version, status=NOT_APPLICABLE,
        reason="not measured", unit=metric.unit, better=metric.better, device=device_name(inputs.device),
        **vars(inputs.provenance),
    )  # fmt: skip
