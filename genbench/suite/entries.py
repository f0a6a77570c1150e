"""The mappings in a suite: the keys of each, their types, and their meaning.

Names of datasets, metrics and extractors are any text here; genbench.suite.rules checks that they exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, WithJsonSchema, model_validator

from genbench.builtin import DATASET_TABLE, EXTRACTOR_TABLE, METRIC_TABLE, MODEL_TABLE, Location
from genbench.registry import is_target, short_name
from genbench.suite.options import STRICT, given_options


def _json_names(known: Iterable[str]) -> WithJsonSchema:
    """A JSON Schema that accepts any text and offers the built-in names to editors."""
    return WithJsonSchema({"anyOf": [{"enum": list(known)}, {"type": "string"}]})


SuiteTitle = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), "text of letters, digits, - and _"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), "text of letters, digits, ., - and _"]
ModelName = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*|[^\x00-\x1f\x7f\x85\u2028\u2029]*[^:]:[A-Za-z_]\w*)$"),
    "text of letters, digits, ., - and _, or file.py:Class",
    _json_names(MODEL_TABLE),
]
GridKey = Annotated[
    str,
    Field(pattern=r"^((config|sampler|train)\.[A-Za-z_]\w*|budget\.images|seed)$"),
    "config.KEY, sampler.KEY, train.KEY, budget.images or seed",
]
DatasetName = Annotated[str, "the name of a dataset", _json_names(DATASET_TABLE)]
MetricName = Annotated[str, "the name of a metric", _json_names(METRIC_TABLE)]
ListedMetric = Annotated[str, "metric names", _json_names(METRIC_TABLE)]  # plural, for messages about the list
FeaturesName = Annotated[str, "the name of an extractor", _json_names(EXTRACTOR_TABLE)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Betas = Annotated[tuple[Fraction, Fraction], Strict(False), "a list of two numbers, at least 0, below 1"]


class SuiteMapping(BaseModel):
    """A mapping in a suite: no unknown keys, no conversions between types, read-only."""

    model_config = STRICT


class Budget(SuiteMapping):
    """The length of training.

    images: seen in training; an image counts each time that it is seen.
    """

    images: Positive


def _with_options(schema: dict[str, Any]) -> None:
    """Adds the options of the built-in datasets to a JSON Schema, for editors."""
    for entry in DATASET_TABLE.values():
        schema["properties"] |= TypeAdapter(entry.options).json_schema().get("properties", {})


class DatasetEntry(SuiteMapping):
    """The data of a suite: the name of a dataset, and the options that this dataset declares.

    name: see `genbench ls datasets`; or file.py:Object. label: its name in results (default: name).
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_with_options)

    name: DatasetName
    label: Name = ""

    @model_validator(mode="after")
    def _name_is_label(self) -> DatasetEntry:
        self.__dict__["label"] = self.label or short_name(self.name)
        return self

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that are set."""
        return given_options(self.model_extra or {})


class ExtractionEntry(SuiteMapping):
    """How features are extracted; a key that is not set keeps the extractor's default.

    weights: a folder of extractor weights or one file (default: $GENBENCH_WEIGHTS). resize: a policy that the extractor
    offers. precision: of its arithmetic. download: allows fetching weights that are not on this machine. An extractor
    of an installed package or a file may declare further options.
    """

    model_config = ConfigDict(extra="allow")

    weights: Location | None = None
    resize: str = ""
    precision: Literal["fp32", "bf16"] = "fp32"
    download: bool = False

    @property
    def own(self) -> Mapping[str, Any]:
        """The further options."""
        return self.model_extra or {}


class PromptsEntry(SuiteMapping):
    """Texts that models drawn from a text are asked for, in place of the captions of the data.

    file: a .txt with a prompt in each line, a .csv or a .jsonl. column: of a .csv or .jsonl (default: text, caption or
    prompt). each: images in a row for one prompt: image i, from 0, is drawn for prompt i // each, and the first prompt
    follows the last.
    """

    file: Location
    column: str = ""
    each: Positive = 1


def _prompts_mapping(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


PromptsOfFile = Annotated[
    PromptsEntry,
    BeforeValidator(_prompts_mapping, json_schema_input_type=str | PromptsEntry),
    "a path, or a mapping with keys file, column, each",
]


class SpeedEntry(SuiteMapping):
    """How drawing is timed.

    batch: images in each call. seconds: for how long calls are repeated.
    """

    batch: Positive = 64
    seconds: Annotated[float, Field(gt=0)] = 3.0


class TrialEntry(SuiteMapping):
    """Further limits of a run with --limit-images, for models that need hours on a CPU even with few images.

    samples: images drawn from each model. likelihood_images: held-out images scored. speed_batch: images in a timed
    call. train_batch: images in a training step.
    """

    samples: Annotated[int, Field(ge=2)] | None = None
    likelihood_images: Positive | None = None
    speed_batch: Positive | None = None
    train_batch: Positive | None = None


class ClaimEntry(SuiteMapping):
    """A published figure of a model, which the report compares with the measured value.

    metric: one of the suite; of several extractors as fid@extractor. value: as published. kind: required for a
    likelihood: the mass of discrete pixels, the density of dequantised pixels, a variational bound or an estimate; ""
    for other metrics. tolerance: how far outside the measured interval the value may be and count as reproduced, such
    as its published spread. source: where it is published. protocol: the fields of a record's protocol that must have
    these values for the two to be comparable. differs: what else is not comparable; the figure is then shown without a
    verdict.
    """

    metric: MetricName
    value: float
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    kind: Literal["", "mass", "density", "bound", "estimate"] = ""
    source: Annotated[str, Field(min_length=1)]
    protocol: dict[str, Any] = {}
    differs: str = ""


class TrainEntry(SuiteMapping):
    """Changes to a model's own recipe, genbench.contract.Recipe; what is not set keeps the model's value.

    lr: Adam's step size. lrs: step sizes of single players. betas: Adam's. batch: images in a step. warmup: steps of
    linear warm-up. decay: of the step size: none, a cosine to 0, or linear to 0 over the second half. clip: largest
    norm of the gradient, 0 for none. weight_decay: decoupled. ema: decay of the moving average of the weights, 0 for
    none. flip: whether images are mirrored at random. images: the length of training in images seen.
    """

    lr: Annotated[float, Field(gt=0)] | None = None
    lrs: dict[str, Annotated[float, Field(gt=0)]] | None = None
    betas: Betas | None = None
    batch: Positive | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    decay: Literal["constant", "cosine", "linear"] | None = None
    clip: Annotated[float, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    ema: Fraction | None = None
    flip: bool | None = None
    images: Positive | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that are set, in the form of options.override: lrs as pairs."""
        changed = {name: value for name, value in self if value is not None}
        return {name: tuple(value.items()) if name == "lrs" else value for name, value in changed.items()}


class WeightsEntry(SuiteMapping):
    """Weights that were saved elsewhere.

    file: safetensors, a file of torch.save, the index of weights in several files, or a folder that contains one of
    these. key: which of several sets of weights, such as "ema". strip: a prefix to take off the names of tensors.
    """

    file: Location
    key: str = ""
    strip: str = ""


def _weights_mapping(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


WeightsOfFile = Annotated[
    WeightsEntry,
    BeforeValidator(_weights_mapping, json_schema_input_type=str | WeightsEntry),
    "a path, or a mapping with keys file, key, strip",
]


class ModelEntry(SuiteMapping):
    """One row of the leaderboard: a model to train, a model with weights, one with another row's weights, or samples.

    name: a name of the registry, file.py:Class, or any name with source; not needed with label and weights_of, which
    use the other entry's class, or label and weights of `genbench export`, whose class they are. label: its name in
    results (default: name). source: module:Class, file.py:Class with the file relative to the suite, or
    scheme:artefact. config: changes to the model's own config. train: changes to its recipe. sampler: options of
    drawing, which need no new weights. weights: a file or folder of weights, or {file, key, strip}. weights_of: the
    label of the entry whose weights it uses. samples: a file or folder of images made elsewhere. files: further files
    that its class reads and does not declare. budget: of training (default: the suite's, else the recipe's). preset: as
    of the suite. claims: published figures. seeds: of this row (default: the suite's). grid: lists of values for keys
    such as config.width, sampler.steps, train.lr or budget.images; a row for each combination, whose label ends with
    the values. A list for seed is the seeds of each of these rows.
    """

    name: ModelName = ""
    label: Name = ""
    source: Location | None = None
    config: dict[str, Any] = {}
    train: TrainEntry = TrainEntry()
    sampler: dict[str, Any] = {}
    weights: WeightsOfFile | None = None
    weights_of: Name | None = None
    samples: Location | None = None
    files: list[Location] = []
    budget: Budget | None = None
    preset: Literal["auto", "small", "paper"] | None = None
    claims: list[ClaimEntry] = []
    seeds: list[Seed] = []
    grid: dict[GridKey, Annotated[list[Any], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _name_is_label(self) -> ModelEntry:
        self.__dict__["label"] = self.label or short_name(self.name)
        return self

    @property
    def has_weights(self) -> bool:
        """Whether it trains or loads weights of its own."""
        return self.samples is None and self.weights_of is None

    @property
    def target(self) -> str | None:
        """`module:Class` or `file.py:Class`; None for a short name."""
        return self.source or (self.name if is_target(self.name) else None)
