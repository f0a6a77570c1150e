"""Readings of generated images: their features, class probabilities, pixels and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genbench.keys import digest
from genbench.metrics.base import Inputs, Metric, Reading, Tree
from genbench.metrics.facts import Arguments, Capabilities, Facts, Setting
from genbench.metrics.neighbour_pass import NeighbourPass

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SAMPLES = ("samples", "weights")


def unit_images(pixels: Tensor, levels: int) -> np.ndarray:
    """Grey levels (N, C, H, W) as k / (levels - 1), float32."""
    images: np.ndarray = (pixels.cpu().float() / (levels - 1)).numpy()
    return images


def unit_rows(pixels: Tensor, levels: int) -> np.ndarray:
    """Grey levels (N, C, H, W) as rows (N, C * H * W) of k / (levels - 1), float32."""
    return unit_images(pixels, levels).reshape(len(pixels), -1)


class _Generated(Reading):
    """Features of the generated images alone: fake (N, D)."""

    name = "generated"
    depends_on: tuple[str, ...] = (*SAMPLES, "extractor")
    of_samples = True
    through_extractor = True

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake = inputs.fake.vectors
        return Arguments({"fake": fake}, len(fake))


class _Features(_Generated):
    """Features of both sets: fake (N, D), real (M, D), and what the metric keeps about the reference as `known`."""

    name = "features"
    depends_on = (*SAMPLES, "extractor", "reference")
    against_reference = True

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = inputs.fake.vectors, inputs.real.vectors
        known = {"known": inputs.of_real(metric.of_reference)} if metric.of_reference else {}
        return Arguments({"fake": fake, "real": real, **known}, len(fake), len(real))


class _Neighbours(_Features):
    """Features of both sets, fake (N, D), real (M, D), and the pass over their distances, near."""

    name = "neighbours"

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = inputs.fake.vectors, inputs.real.vectors
        return Arguments({"fake": fake, "real": real, "near": pass_against_reference(inputs)}, len(fake), len(real))


def pass_against_reference(inputs: Inputs) -> NeighbourPass:
    """The pass over distances that all metrics of a row share."""

    def make() -> NeighbourPass:
        return NeighbourPass(inputs.fake.vectors, inputs.real.vectors, kept=inputs.of_real)

    shared: NeighbourPass = inputs.once("pass against the reference", make)
    return shared


def pass_against_train(inputs: Inputs) -> NeighbourPass:
    """The same against the train split, which mostly is the reference."""
    train = inputs.train.vectors
    if train.shape == inputs.real.vectors.shape and (train == inputs.real.vectors).all():
        return pass_against_reference(inputs)
    shared: NeighbourPass = inputs.once("pass against train", lambda: NeighbourPass(inputs.fake.vectors, train))
    return shared


class _Clip(_Features):
    """Features of CLIP's image encoder: as `features`."""

    name = "clip"

    def missing(self, setting: Setting) -> str:
        if setting.extractor == "clip" or setting.extractor.startswith("clip-"):
            return ""
        return f"features '{setting.extractor}' are not CLIP's; allowed: clip-vit-l-14-336px (as published), clip-..."


class _Spatial(_Features):
    """Features that keep positions in the image: fake (N, S), real (M, S)."""

    name = "spatial"

    def missing(self, setting: Setting) -> str:
        return "" if setting.spatial else f"features '{setting.extractor}' have no spatial map"

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = inputs.fake.spatial, inputs.real.spatial
        assert fake is not None
        assert real is not None
        return Arguments({"fake": fake, "real": real}, len(fake), len(real))


class _Probabilities(_Generated):
    """Class probabilities (N, K) of the generated images."""

    name = "probabilities"

    def missing(self, setting: Setting) -> str:
        return "" if setting.probabilities else f"features '{setting.extractor}' give no class probabilities"

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        probabilities = inputs.fake.probabilities
        assert probabilities is not None
        return Arguments({"probabilities": probabilities}, len(probabilities))


class _Memory(_Generated):
    """Features of generated, train and held-out images: fake (N, D), train (M, D), held_out (T, D).

    near: the pass over the distances of fake and train.
    """

    name = "memory"

    def missing(self, setting: Setting) -> str:
        return "" if setting.splits else "needs a dataset's name as reference, for its train and its test split"

    def protocol(self, facts: Facts, n_fake: int | None, n_real: int | None) -> Tree:
        tree = super().protocol(facts, n_fake, n_real)
        tree["data"] |= {"memory_of": "train", "held_out": "test", "n_real": n_real}
        return tree

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, train, held_out = inputs.fake.vectors, inputs.train.vectors, inputs.held_out.vectors
        near = pass_against_train(inputs)
        return Arguments({"fake": fake, "train": train, "held_out": held_out, "near": near}, len(fake), len(train))


class _Pixels(Reading):
    """Pixel values in [0, 1]: fake (N, P), real (M, P)."""

    name = "pixels"
    depends_on = (*SAMPLES, "reference")
    of_samples = True
    against_reference = True

    def missing(self, setting: Setting) -> str:
        return one_shape(setting)

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = (unit_rows(images.pixels, inputs.levels) for images in (inputs.generated, inputs.reference))
        return Arguments({"fake": fake, "real": real}, len(fake), len(real))


class _RequestedByClass(Reading):
    """The base of readings of labels: the data has classes, and the images were drawn for requested classes."""

    def why_not(self, metric: Metric, setting: Setting, source: Capabilities) -> str:
        reason = self.missing(setting) or source.no_classes
        if reason or source.no_network:  # images made elsewhere need no ability, only labels
            return reason
        return super().why_not(metric, setting, source)

    def missing(self, setting: Setting) -> str:
        return "" if setting.classes else f"dataset {setting.dataset} has no labels"


class _ByClass(_RequestedByClass):
    """Features with classes: fake (N, D), real (M, D), fake_labels (N,) as requested, real_labels (M,)."""

    name = "by class"
    depends_on = (*SAMPLES, "extractor", "reference")
    of_samples = True
    through_extractor = True
    against_reference = True

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = inputs.fake.vectors, inputs.real.vectors
        labels = {"fake_labels": labels_of(inputs.generated), "real_labels": labels_of(inputs.reference)}
        return Arguments({"fake": fake, "real": real, **labels}, len(fake), len(real))


class _Condition(_RequestedByClass):
    """Class probabilities (N, K) and the requested labels (N,)."""

    name = "condition"
    depends_on = (*SAMPLES, "extractor")
    of_samples = True
    through_extractor = True

    def missing(self, setting: Setting) -> str:
        reason = PROBABILITIES.missing(setting) or super().missing(setting)
        if reason or setting.own_classes:
            return reason
        return f"features '{setting.extractor}' know other classes than the labels; allowed: classifier"

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        probabilities = inputs.fake.probabilities
        assert probabilities is not None
        return Arguments({"probabilities": probabilities, "labels": labels_of(inputs.generated)}, len(probabilities))


class _Prompts(_Generated):
    """Embeddings of images and of the texts that were asked for, by a network with an encoder of each.

    fake (N, D), texts (P, D) of the different texts in alphabetical order, which (N,): the number of each image's text.
    """

    name = "prompts"

    def why_not(self, metric: Metric, setting: Setting, source: Capabilities) -> str:
        reason = source.no_texts or self.missing(setting)
        if reason or source.no_network:  # images made elsewhere need no ability, only texts
            return reason
        return super().why_not(metric, setting, source)

    def missing(self, setting: Setting) -> str:
        return "" if setting.texts else f"features '{setting.extractor}' do not embed texts; allowed: clip"

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        asked = inputs.generated.texts
        assert asked is not None
        texts = tuple(sorted(set(asked)))
        number = {text: i for i, text in enumerate(texts)}
        values = {"fake": inputs.fake.vectors, "texts": inputs.text_features(texts).vectors}
        which = [number[text] for text in asked]
        return Arguments(
            {**values, "which": which}, len(asked), data={"prompts": len(texts), "prompts_content": digest(texts)}
        )


class _Labelled(_RequestedByClass):
    """Images with labels: fake, real (N, C, H, W) uint8, fake_labels, real_labels, levels; real is held out."""

    name = "labelled"
    depends_on = SAMPLES
    of_samples = True

    def missing(self, setting: Setting) -> str:
        return MEMORY.missing(setting) or super().missing(setting) or one_shape(setting)

    def protocol(self, facts: Facts, n_fake: int | None, n_real: int | None) -> Tree:
        tree = super().protocol(facts, n_fake, n_real)
        tree["data"] |= {"tested_on": "test", "n_real": n_real}
        return tree

    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        fake, real = inputs.generated, inputs.unseen
        values = {"fake": fake.pixels.cpu().numpy(), "real": real.pixels.cpu().numpy(), "levels": inputs.levels}
        labels = {"fake_labels": labels_of(fake), "real_labels": labels_of(real)}
        return Arguments({**values, **labels}, len(fake.pixels), len(real.pixels))


def one_shape(setting: Setting) -> str:
    """Why two sets of images cannot be compared pixel by pixel; "" when they can."""
    return f"needs images of one shape; found {setting.shapes[0]} and {setting.shapes[1]}" if setting.shapes else ""


def labels_of(images: Any) -> np.ndarray:
    """Labels (N,) of images that have them."""
    assert images.labels is not None
    labels: np.ndarray = images.labels.cpu().numpy()
    return labels


FEATURES, GENERATED, SPATIAL, PROBABILITIES = _Features(), _Generated(), _Spatial(), _Probabilities()
MEMORY, PIXELS, BY_CLASS, CONDITION, LABELLED = _Memory(), _Pixels(), _ByClass(), _Condition(), _Labelled()
CLIP, NEIGHBOURS, PROMPTS = _Clip(), _Neighbours(), _Prompts()
