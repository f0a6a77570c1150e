"""Plain data that readings receive and return: the setting, the source's abilities, facts, arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """What decides, beside the source of the images, whether a metric can be measured.

    dataset: its name. classes: number of classes of the dataset, 0 without labels. translation: whether the dataset is
    a translation task. splits: whether the reference is a dataset with a train and a test split. extractor: its name;
    probabilities, spatial: whether it gives class probabilities and features with positions. own_classes: whether its
    classes are the dataset's. texts: whether it embeds texts too. shapes: (C, H, W) of the generated and of the
    reference images, None when they are equal.
    """

    dataset: str
    classes: int
    extractor: str
    probabilities: bool
    spatial: bool
    translation: bool = False
    splits: bool = True
    own_classes: bool = True
    texts: bool = False
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a source of images can do: its name in messages and the names of the contract's abilities.

    no_network, no_classes, no_texts: why it has no network, and why its images were drawn without requested classes
    and without requested texts; "" when it has a network, or when classes or texts were requested.
    """

    name: str
    abilities: tuple[str, ...] = ()
    no_network: str = ""
    no_classes: str = ""
    no_texts: str = ""


@dataclass(frozen=True)
class Facts:
    """What values depend on and protocols state, as plain data.

    dataset, fingerprint, levels, dims: of the data. reference: the name of the reference split. extractor, similarity:
    protocol fields of the extractor and of the distance between images, {} for none. samples, weights: keys of the
    generated images and of the weights, "" for none. images: held-out images scored, None for all. machine, speed: what
    timings depend on.
    resized: the size that both sets were brought to and how, {} for as they are.
    """

    dataset: str
    fingerprint: str
    levels: int
    dims: int
    reference: str
    extractor: dict[str, Any]
    similarity: dict[str, Any] = field(default_factory=dict)
    samples: str = ""
    weights: str = ""
    images: int | None = None
    machine: str = ""
    speed: dict[str, Any] = field(default_factory=dict)
    resized: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """Grey-level indices pixels (N, C, H, W) uint8 and, where known or requested, labels (N,) int64 and N texts."""

    pixels: Tensor
    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Arguments:
    """Keyword arguments of a metric, and how many generated and real images they were computed from.

    data: what else the branch `data` of the protocol states.
    """

    values: dict[str, Any]
    n_fake: int | None = None
    n_real: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
