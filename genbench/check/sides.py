"""Checks that every ability works for images whose height is not their width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from genbench.check import abilities, density
from genbench.check.subject import Subject, shape_fault
from genbench.check.training import gradients_reach_their_player, losses_are_finite
from genbench.contract import (
    Decodes,
    DequantisedDensity,
    Encodes,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Translates,
)
from genbench.errors import GenbenchError

LIKELIHOOD = (ExactLikelihood, DequantisedDensity, LikelihoodBound, ImportanceBound, LikelihoodEstimate)


def other_sides_work(subject: Subject) -> str:
    """The loss, samples and abilities work for images half as wide again as they are high, e.g. 8x12.

    Twice the width is tried where the model refuses that size. Passes where it refuses both, by a ModelError from its
    __init__ as for any size that it cannot have; where the class reads files, whose networks have the size of their
    images; and where the images are not square, which the other checks then test.
    """
    data = subject.data
    if data.height != data.width or subject.kind.files(subject.original.config):
        return ""
    for width in (data.width * 3 // 2, data.width * 2):
        try:
            wide = subject.resized(replace(data, width=width))
        except GenbenchError:
            continue
        message = fault_of(wide, subject)
        return message and f"for {data.height}x{width} images, {message}"
    return ""


def fault_of(subject: Subject, square: Subject) -> str:
    """The message of the first check that fails, and passes for square images."""
    for run, needs in SIZED.items():
        if all(issubclass(subject.kind, ability) for ability in needs):
            message = outcome(run, subject)
            if message and not outcome(run, square):
                return message
    return ""


def outcome(run: Callable[[Subject], str], subject: Subject) -> str:
    """The check's message, or the error that the model raised."""
    try:
        return run(subject)
    except Exception as error:  # a model may raise anything
        return f"{run.__name__.replace('_', ' ')}: raised {type(error).__name__}: {error}"


def samples_have_the_shape(subject: Subject) -> str:
    """sample() returns images of the data's shape."""
    return shape_fault("sample(3)", subject.drawn, (len(subject.drawn), *subject.data.shape))


def encodes(subject: Subject) -> str:
    """encode() works."""
    model = subject.model().eval()
    model.encode(subject.batch.x)  # type: ignore[operator]
    return ""


SIZED: dict[Callable[[Subject], str], tuple[type | tuple[type, ...], ...]] = {
    losses_are_finite: (),
    gradients_reach_their_player: (),
    samples_have_the_shape: (),
    encodes: (Encodes,),
    abilities.decodes_to_images: (Decodes,),
    abilities.codes_fit: (Encodes, Decodes),
    abilities.decode_inverts_encode: (DequantisedDensity, Encodes, Decodes),
    abilities.likelihood_has_a_value_an_image: (LIKELIHOOD,),
    density.density_is_that_of_the_codes: (DequantisedDensity, Encodes, Decodes),
    abilities.translations_are_images: (Translates,),
}
