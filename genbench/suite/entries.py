"""The mappings that a suite is made of: which keys each has, of which type, and what they mean.

The names of metrics, datasets and features stand here because their rooms import torch; a test compares them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

MetricName = Literal[
    "fid", "fd_infinity", "sfid", "kid", "kid_subsets", "is", "precision", "recall", "density", "coverage", "vendi",
    "sliced_wasserstein", "confidence", "rarest_class", "memorised", "authenticity", "ct_score", "class_accuracy",
    "prompt_agreement", "per_class_fid", "cas", "cycle_error", "paired_l1", "paired_ssim", "paired_lpips",
    "fid_a_to_b", "fid_b_to_a", "ppl", "bits_per_dim", "bits_per_dim_iwae", "bits_per_dim_ode", "images_per_second",
    "latency", "evaluations", "parameters", "peak_memory",
]  # fmt: skip
DatasetName = Literal["digits", "fashion-mnist", "cifar10", "edges", "folder", "npz"]
FeaturesName = Literal[
    "classifier", "pixels", "inception-v3-compat", "vgg16", "clip-rn50", "clip-rn101", "clip-rn50x4",
    "clip-rn50x16", "clip-rn50x64", "clip-vit-b-32", "clip-vit-b-16", "clip-vit-l-14", "clip-vit-l-14-336px",
    "dinov2-vit-s-14", "dinov2-vit-b-14", "dinov2-vit-l-14",
]  # fmt: skip

SuiteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), "text of letters, digits, - and _"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), "text of letters, digits, ., - and _"]
Place = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f\x85\u2028\u2029]+$"), "a path"]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Betas = Annotated[tuple[Fraction, Fraction], Strict(False), "a list of two numbers, at least 0, below 1"]

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Entry(BaseModel):
    """A mapping in a suite: no other keys, no conversions between types, not changed after reading."""

    model_config = STRICT


class Budget(Entry):
    """How long to train: images seen, repeated ones counted again."""

    images: Positive


class DatasetEntry(Entry):
    """The data of a suite. path: a folder of pictures, an array file or, of cifar10, another archive of its form.

    size: pixels a side that pictures get. levels: grey levels of an array (default 256). download: allows fetching a
    dataset that is not on this machine. of: the dataset whose pictures a translation task is made from.
    """

    name: DatasetName
    of: Literal["digits", "fashion-mnist"] | None = None
    path: Place | None = None
    size: Positive | None = None
    levels: Annotated[int, Field(ge=2, le=256)] | None = None
    download: bool = False


class ExtractionEntry(Entry):
    """How features are extracted; what is not set is the extractor's own.

    weights: a folder of extractor weights or one file (default: $GENBENCH_WEIGHTS). resize: a policy that the extractor
    offers. precision: of its arithmetic. download: allows fetching weights that are not on this machine.
    """

    weights: Place | None = None
    resize: str = ""
    precision: Literal["fp32", "bf16"] = "fp32"
    download: bool = False


class SpeedEntry(Entry):
    """How drawing is timed: images in a call, and seconds to repeat it for."""

    batch: Positive = 64
    seconds: Annotated[float, Field(gt=0)] = 3.0


class TrialEntry(Entry):
    """Further caps of a run with --limit-images, for models of which even so few images take hours on a CPU.

    samples: images drawn from each model. likelihood_images: held-out images scored. speed_batch: images in a timed
    call. train_batch: images in a training step.
    """

    samples: Annotated[int, Field(ge=2)] | None = None
    likelihood_images: Positive | None = None
    speed_batch: Positive | None = None
    train_batch: Positive | None = None


class ClaimEntry(Entry):
    """A published figure of a model, which the report compares with the one measured.

    value: as published. kind: of a likelihood, which it must state: the mass of discrete pixels, the density of
    dequantised pixels, a variational bound or an estimate; "" for other metrics. tolerance: how far outside the
    measured interval the value may be and count as reproduced, such as its published spread. source: where it is
    published. protocol: the fields of a record's protocol that must have these values for the two to be comparable.
    differs: what else is not comparable; the figure is then shown and not judged.
    """

    metric: MetricName
    value: float
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    kind: Literal["", "mass", "density", "bound", "estimate"] = ""
    source: Annotated[str, Field(min_length=1)]
    protocol: dict[str, Any] = {}
    differs: str = ""


class TrainEntry(Entry):
    """Changes to a model's own recipe; the fields are those of genbench.contract.Recipe, None: as the model has it."""

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
        """The fields that are set, as contract.override takes them: lrs as pairs."""
        given = {name: value for name, value in self if value is not None}
        return {name: tuple(value.items()) if name == "lrs" else value for name, value in given.items()}


class ModelEntry(Entry):
    """One row of the leaderboard: a model to train, one with weights, one with another's weights, or mere samples.

    name: a short name that the registry knows, or any with source. label: its name in results (default: name).
    source: module:Class, or file.py:Class with the file relative to the suite. weights: a safetensors file.
    weights_of: the label of the entry whose weights it draws with. samples: images made elsewhere. claims: published
    figures.
    """

    name: Name
    label: Name = ""
    source: Place | None = None
    config: dict[str, Any] = {}
    train: TrainEntry = TrainEntry()
    sampler: dict[str, Any] = {}
    weights: Place | None = None
    weights_of: Name | None = None
    samples: Place | None = None
    budget: Budget | None = None
    claims: list[ClaimEntry] = []

    @model_validator(mode="after")
    def _name_is_label(self) -> ModelEntry:
        self.__dict__["label"] = self.label or self.name
        return self

    @property
    def has_weights(self) -> bool:
        """Whether it trains or loads weights of its own."""
        return self.samples is None and self.weights_of is None
