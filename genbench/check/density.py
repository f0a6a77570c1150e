"""Conformance checks of likelihoods against mathematics: they sum to 1, and a flow's is what its codes imply."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from genbench.check.abilities import ORDERED, Likelihood, asked, declared
from genbench.check.subject import Subject
from genbench.contract import DataSpec, ExactLikelihood, Model
from genbench.errors import GenbenchError
from genbench.space import density_to_mass, dequantise, seeded

SLACK = 20.0  # nats; see random_pixels_are_unlikely
DRAWS = 16  # of dequantisation
DOUBTED_DRAWS = 64  # of it, where the first does not agree
ERRORS = 5.0  # standard errors that chance is given
BOUND_DRAWS = 4
SUM_TOLERANCE = 1e-2
LEAST_SUM = 0.5  # of an exact likelihood: a density may reach beyond the range of pixels
MOST_DIMS = 256
NOISES = 1_000
NATS_TOLERANCE = 2e-2


def likelihood_is_normalised(subject: Subject) -> str:
    """Random pixels are unlikely enough, and the probabilities of all small images do not sum to more than 1."""
    return random_pixels_are_unlikely(subject) or all_images_sum_to_one(subject)


def random_pixels_are_unlikely(subject: Subject) -> str:
    """Random pixels are no likelier than under the uniform distribution.

    With pixels uniform, E[P(x) levels^D] = sum_x P(x) <= 1, so by Markov's inequality log P(x) > -D ln(levels) + SLACK
    has probability at most e^-20 for every normalised model, trained or not, and for every lower bound. An estimate
    promises no such thing.
    """
    uniform = -subject.data.dims * math.log(subject.data.levels)
    for name, ask in declared(subject, ORDERED).items():
        highest = float(asked(subject, ask, seeded(3)).nan_to_num(-math.inf).max())
        if highest > uniform + SLACK:
            return (
                f"{name}() of random pixels is {highest:.4g}; expected at most {uniform:.4g} nats, the uniform "
                "distribution's: sign, a mean instead of a sum, or -D ln(levels) of dequantisation forgotten?"
            )
    return ""


def all_images_sum_to_one(subject: Subject) -> str:
    """The tightest likelihood that the model has, summed over all 81 grey images of 2x2 pixels and 3 levels.

    An exact one sums to 1 on average over the dequantisation noise, as each image's mean is the integral of the density
    over its cell, less what is outside all cells. A bound, averaged before the exponential, sums to 1 at most. Silent
    where the model cannot be built for such images.
    """
    tiny = resized(subject, DataSpec(1, 2, 2, 3, subject.data.classes))
    if tiny is None:
        return ""
    name, ask = list(declared(subject, ORDERED).items())[-1]
    pixels, exact = all_images(tiny.data), issubclass(subject.kind, ExactLikelihood)
    values = [likelihoods(tiny, ask, pixels, seed) for seed in range(DRAWS if exact else BOUND_DRAWS)]
    if any(v.shape != (len(pixels),) or not torch.isfinite(v).all() for v in values):
        return ""
    total, error = (sum_of_exact if exact else sum_of_bound)(torch.stack(values))
    if (LEAST_SUM if exact else 0) <= total <= 1 + SUM_TOLERANCE + ERRORS * error:
        return ""
    return (
        f"exp({name}()) of all {len(pixels)} images of 2x2 pixels and 3 grey levels sums to {total:.4g}; expected "
        f"{f'between {LEAST_SUM} and 1' if exact else '1 at most'}: a term of the density missing, or counted twice?"
    )


def resized(subject: Subject, data: DataSpec) -> Subject | None:
    """The same model for other images; None where it cannot be built."""
    try:
        return Subject(subject.kind, data, subject.config, subject.sampler)
    except (GenbenchError, ValueError, RuntimeError):
        return None


def all_images(data: DataSpec) -> Tensor:
    """Every image (levels^D, C, H, W) uint8."""
    numbers = torch.arange(data.levels**data.dims)
    digits = [numbers // data.levels**i % data.levels for i in range(data.dims)]
    return torch.stack(digits, 1).to(torch.uint8).view(-1, *data.shape)


@torch.no_grad()
def likelihoods(subject: Subject, ask: Likelihood, pixels: Tensor, seed: int) -> Tensor:
    """What a fresh model in eval mode says about the pixels: nats, float64."""
    return ask(subject.model().eval(), pixels, seeded(seed)).double()


def sum_of_exact(table: Tensor) -> tuple[float, float]:
    """Mean and standard error, over the draws, of the sum of exp of (draws, images)."""
    sums = table.exp().sum(1)
    return float(sums.mean()), float(sums.std()) / len(sums) ** 0.5


def sum_of_bound(table: Tensor) -> tuple[float, float]:
    """The sum of exp of the mean over the draws of (draws, images), and how much of it is chance."""
    masses, errors = table.mean(0).exp(), table.std(0) / len(table) ** 0.5
    return float(masses.sum()), float((masses * errors).sum())


def density_is_that_of_the_codes(subject: Subject) -> str:
    """log_prob is log N(z; 0, I) + log |det dz/dy| - D ln(levels) of z = encode(x), by autograd's Jacobian.

    y are the dequantised pixels, x the same in [-1, 1]. Another way to dequantise uniformly differs by chance alone,
    hence the average over draws. Silent where noise() is not N(0, I), as the prior's density is unknown then, and where
    images are large and the model cannot be built for small ones.
    """
    grey = DataSpec(1, 8, 8, subject.data.levels, subject.data.classes)
    small = resized(subject, grey) if subject.data.dims > MOST_DIMS else subject
    if small is None or not noise_is_standard_normal(small.model()):
        return ""
    gaps = [density_gap(small, 0)]
    if abs(gaps[0]) > NATS_TOLERANCE:
        gaps += [density_gap(small, seed) for seed in range(1, DOUBTED_DRAWS)]
    mean = torch.tensor(gaps).mean()
    error = torch.tensor(gaps).std() / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    if abs(mean) <= NATS_TOLERANCE + ERRORS * error:
        return ""
    return (
        f"log_prob() of an image is {mean:+.4g} nats from log N(encode(x); 0, I) with autograd's log-determinant; "
        "expected the same: a layer's log-determinant is wrong, or encode() takes other than the centres of grey "
        "levels?"
    )


@torch.no_grad()
def noise_is_standard_normal(model: Model) -> bool:
    """Whether the first four moments of noise() are those of N(0, 1)."""
    z = model.eval().noise(NOISES, seeded(3)).double().flatten()  # type: ignore[operator]
    known = {1: (0.0, 1.0), 2: (1.0, 2.0), 3: (0.0, 15.0), 4: (3.0, 96.0)}  # mean and variance of z^k
    return all(abs(float((z**k).mean()) - m) <= ERRORS * (v / len(z)) ** 0.5 for k, (m, v) in known.items())


def density_gap(subject: Subject, seed: int) -> float:
    """log_prob minus what encode implies, of the first image, in nats."""
    model, data = subject.model().eval().requires_grad_(False), subject.data
    pixels = subject.unseen[:1]
    y = dequantise(pixels, data.levels, seeded(seed))
    encode = partial(code, model, data)
    z, jacobian = encode(y), torch.autograd.functional.jacobian(encode, y).view(data.dims, data.dims)
    normal = -0.5 * (z.double().square() + math.log(2 * math.pi)).sum()
    density = (normal + jacobian.double().slogdet()[1]).view(1)
    said = model.log_prob(pixels, seeded(seed)).double()  # type: ignore[operator]
    return float(said - density_to_mass(density, data.dims, data.levels))


def code(model: Model, data: DataSpec, y: Tensor) -> Tensor:
    """encode() of dequantised pixels y (1, C, H, W), flat."""
    x = (data.levels * y - 0.5) * 2 / (data.levels - 1) - 1
    return model.encode(x).flatten()  # type: ignore[operator]
