"""Conformance checks of the optional abilities in `genbench.contract`; `genbench.check` lists them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from genbench import returned
from genbench.check.subject import BATCH, DRAWN, Subject, difference, fixed_global_randomness, range_fault, shape_fault
from genbench.contract import (
    DequantisedDensity,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Translates,
)
from genbench.errors import Undefined

TOLERANCE = 1e-3
IMPORTANCE = 8  # samples of an importance bound
ODE_STEPS = 2
DRAWS = 16  # evaluations of a random bound, for its mean
ERRORS = 5.0  # standard errors of that mean

Likelihood = Callable[[Any, Tensor, Generator | None], Tensor]

LOG_PROB: tuple[str, Likelihood] = ("log_prob", lambda model, pixels, gen: model.log_prob(pixels, gen))
# From the loosest bound to the exact mass. A density of dequantised pixels is another bound on the mass, and may lie on
# either side of the variational ones.
ORDERED: dict[type, tuple[str, Likelihood]] = {
    LikelihoodBound: ("log_prob_bound", lambda model, pixels, gen: model.log_prob_bound(pixels, gen)),
    ImportanceBound: ("log_prob_importance", lambda m, pixels, gen: m.log_prob_importance(pixels, IMPORTANCE, gen)),
    ExactLikelihood: LOG_PROB,
}
# Lower bounds on the mass, and the mass itself; the last one that a model declares is summed over all images.
NORMALISED: dict[type, tuple[str, Likelihood]] = {**ORDERED, DequantisedDensity: LOG_PROB}
ESTIMATES: dict[type, tuple[str, Likelihood]] = {
    LikelihoodEstimate: ("log_prob_estimate", lambda m, pixels, gen: m.log_prob_estimate(pixels, gen, steps=ODE_STEPS)),
}


@torch.no_grad()
def decodes_to_images(subject: Subject) -> str:
    """decode(noise(n)) has the shape and range of images."""
    model = subject.model().eval()
    images = model.decode(model.noise(4, subject.seeded(3)))  # type: ignore[operator]
    return shape_fault("decode(noise(4))", images, (4, *subject.data.shape)) or range_fault("decoded images", images)


@torch.no_grad()
def codes_fit(subject: Subject) -> str:
    """encode(x) has the shape of noise(n), so that decode accepts it."""
    model = subject.model().eval()
    codes, noise = model.encode(subject.batch.x), model.noise(BATCH, subject.seeded(3))  # type: ignore[operator]
    fault = shape_fault(f"encode() of {BATCH} images", codes, tuple(noise.shape))
    return fault and f"{fault}, the shape of noise({BATCH})"


@torch.no_grad()
def decode_inverts_encode(subject: Subject) -> str:
    """A flow is a bijection: decode(encode(x)) is x."""
    model = subject.model().eval()
    gap = difference(model.decode(model.encode(subject.batch.x)), subject.batch.x)  # type: ignore[operator]
    if gap <= TOLERANCE:
        return ""
    return f"decode(encode(x)) differs from x by {gap:.3g}; expected at most {TOLERANCE:g}: is a layer's inverse wrong?"


def declared(subject: Subject, likelihoods: dict[type, tuple[str, Likelihood]]) -> dict[str, Likelihood]:
    """The likelihoods that the class declares and this config and sampler have, by the method's name, in order."""
    named = dict(named for ability, named in likelihoods.items() if issubclass(subject.kind, ability))
    return {name: likelihood for name, likelihood in named.items() if is_defined(subject, name, likelihood)}


def is_defined(subject: Subject, name: str, likelihood: Likelihood) -> bool:
    """Whether there is such a value: a method that raises Undefined has none with these options, n/a in a suite."""
    try:
        first_value(subject, name, likelihood)
    except Undefined:
        return False
    except Exception:  # reported by the check that asks for the value
        return True
    return True


def first_value(subject: Subject, name: str, likelihood: Likelihood) -> Tensor:
    """log_likelihood with the generator of seed 0, computed once."""
    if name not in subject.likelihoods:
        subject.likelihoods[name] = log_likelihood(subject, likelihood, subject.seeded(0))
    return subject.likelihoods[name]


@torch.no_grad()
def log_likelihood(subject: Subject, likelihood: Likelihood, gen: Generator | None) -> Tensor:
    """Nats (B,) that a fresh model in eval mode assigns to pixels with which it was not prepared."""
    with fixed_global_randomness():
        return likelihood(subject.model().eval(), subject.unseen, gen)


def likelihood_has_a_value_an_image(subject: Subject) -> str:
    """A likelihood has shape (B,) and is finite."""
    for name, likelihood in declared(subject, NORMALISED | ESTIMATES).items():
        values = first_value(subject, name, likelihood)
        returned.log_probs(subject.original, values, BATCH, f"{name}()")
        if not torch.isfinite(values).all():
            return f"{name}() is {values.tolist()}; expected finite numbers"
    return ""


def same_generator_same_likelihood(subject: Subject) -> str:
    """A likelihood depends on weights, pixels and generator alone; no generator means one seeded with 0."""
    for name, likelihood in declared(subject, NORMALISED | ESTIMATES).items():
        first = first_value(subject, name, likelihood)
        if difference(first, log_likelihood(subject, likelihood, subject.seeded(0))) > 0:
            return f"{name}() gave two values with the same generator; expected one: is there noise not from gen?"
        if difference(first, log_likelihood(subject, likelihood, None)) > 0:
            return f"{name}() differs between gen=None and a generator seeded with 0; expected the same"
    return ""


def mass_needs_no_noise(subject: Subject) -> str:
    """An exact mass of discrete pixels does not depend on the generator."""
    gap = difference(first_value(subject, *LOG_PROB), log_likelihood(subject, LOG_PROB[1], subject.seeded(4)))
    if gap <= TOLERANCE:
        return ""
    return (
        f"log_prob() differs by {gap:.4g} nats between two generators; expected the same: a density of dequantised "
        "pixels is no exact mass, declare DequantisedDensity instead of ExactLikelihood"
    )


def bounds_are_ordered(subject: Subject) -> str:
    """On average over the noise, log_prob_bound <= log_prob_importance <= log_prob, as far as they are declared."""
    means = [
        (
            name,
            torch.stack(
                [
                    log_likelihood(subject, likelihood, subject.seeded(seed)).cpu().double().mean()
                    for seed in range(DRAWS)
                ]
            ),
        )
        for name, likelihood in declared(subject, ORDERED).items()
    ]
    for (loose, low), (tight, high) in pairwise(means):
        gap, error = float((low - high).mean()), float((low - high).std()) / DRAWS**0.5
        if gap > ERRORS * error + TOLERANCE:
            return (
                f"{loose}() is on average {gap:.4g} nats above {tight}() on the same images; expected at most 0: "
                "is it not the log of the mean of the weights?"
            )
    return ""


def evaluations_are_counted(subject: Subject) -> str:
    """`evaluations` is None, or the number of rows that the denoiser evaluates for each image of a sample()."""
    count = subject.counted[1]
    stated, counted = count.model.evaluations, count.per_image(DRAWN)
    if stated in (None, counted):
        return ""
    return (
        f"evaluations is {stated}, but the denoiser evaluated {counted:g} rows for each image; expected the "
        "same number: guidance counts twice a step, also where it is one call with a doubled batch"
    )


def condition_decides(subject: Subject) -> str:
    """With the same noise and another condition, the model draws other images."""
    if difference(subject.drawn, subject.draw(shift=1)) > 0:
        return ""
    return "other labels or texts with the same seed gave the same images; expected different ones: is condition used?"


@torch.no_grad()
def translations_are_images(subject: Subject) -> str:
    """translate() gives images of the same shape, in range, in both directions."""
    model = subject.model().eval()
    assert isinstance(model, Translates)
    for direction in ("a_to_b", "b_to_a"):
        y = model.translate(subject.batch.x, direction)
        what = f"translate(x, '{direction}')"
        fault = shape_fault(what, y, tuple(subject.batch.x.shape)) or range_fault(what, y)
        if fault:
            return fault
    return ""
