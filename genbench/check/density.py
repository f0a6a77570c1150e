"""Conformance checks of likelihoods against mathematics: they sum to 1, and a flow's density follows from its codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from genbench.check.abilities import NORMALISED, Likelihood, declared, first_value
from genbench.check.subject import Subject
from genbench.contract import DataSpec, DequantisedDensity, ExactLikelihood, Model
from genbench.errors import GenbenchError
from genbench.space import density_to_mass, dequantise

SLACK = 20.0  # nats; see random_pixels_are_unlikely
DRAWS = 16  # of dequantisation
MORE_DRAWS = 64  # of dequantisation, where the first draw does not agree
ERRORS = 5.0  # standard errors within which a difference counts as chance
BOUND_DRAWS = 4
SUM_TOLERANCE = 1e-2
MASS_TOLERANCE = 1e-3  # of a sum of 81 float32 probabilities
LEAST_SUM = 0.5  # of a density, which may be positive outside the range of pixels
MOST_DIMS = 256
NOISES = 1_000
NATS_TOLERANCE = 2e-2


def likelihood_is_normalised(subject: Subject) -> str:
    """Random pixels are not too likely, and the probabilities of all small images sum to what their kind allows."""
    return random_pixels_are_unlikely(subject) or all_images_sum_to_one(subject)


def random_pixels_are_unlikely(subject: Subject) -> str:
    """Random pixels are no likelier than under the uniform distribution.

    With pixels uniform, E[P(x) levels^D] = sum_x P(x) <= 1, so by Markov's inequality log P(x) > -D ln(levels) + SLACK
    has probability at most e^-20 for every normalised model, trained or not, and for every lower bound. This does not
    hold for estimates.
    """
    uniform = -subject.data.dims * math.log(subject.data.levels)
    for name, likelihood in declared(subject, NORMALISED).items():
        highest = float(first_value(subject, name, likelihood).nan_to_num(-math.inf).max())
        if highest > uniform + SLACK:
            return (
                f"{name}() of random pixels is {highest:.4g}; expected at most {uniform:.4g} nats, the uniform "
                "distribution's: is the sign wrong, is it a mean instead of a sum, or is -D ln(levels) missing?"
            )
    return ""


def all_images_sum_to_one(subject: Subject) -> str:
    """The likelihood of all 81 grey images of 2x2 pixels and 3 levels sums to what its kind allows.

    An exact mass sums to 1. A density, averaged over the dequantisation noise, is the integral over each image's cell,
    the mass; these sum to 1 less the integral outside all cells. A bound, averaged before the exponential, sums to 1
    at most. No message where the model cannot be built for such images.
    """
    tiny, likelihoods = resized(subject, DataSpec(1, 2, 2, 3, subject.data.classes)), declared(subject, NORMALISED)
    if tiny is None or not likelihoods:
        return ""
    name, likelihood = list(likelihoods.items())[-1]
    pixels, rule = all_images(tiny.data).to(tiny.device), sum_rule(subject.kind)
    values = [table_row(tiny, likelihood, pixels, seed) for seed in range(rule.draws)]
    if any(v.shape != (len(pixels),) or not torch.isfinite(v).all() for v in values):
        return ""
    total, error = rule.total(torch.stack(values))
    if rule.least - ERRORS * error <= total <= 1 + rule.tolerance + ERRORS * error:
        return ""
    return (
        f"exp({name}()) of all {len(pixels)} images of 2x2 pixels and 3 grey levels sums to {total:.4g}; expected "
        f"{rule.expected}: is a term missing, or counted twice?"
    )


class SumRule(NamedTuple):
    """What the likelihoods of all images sum to: at least `least`, at most 1 + `tolerance`.

    draws: of the noise. total: the sum and its standard error, from log-likelihoods (draws, images) in nats.
    """

    expected: str
    draws: int
    total: Callable[[Tensor], tuple[float, float]]
    least: float = 0.0
    tolerance: float = SUM_TOLERANCE


def sum_rule(kind: type[Model]) -> SumRule:
    """The rule for the last of NORMALISED that the class declares."""
    if issubclass(kind, ExactLikelihood):
        return SumRule("1", DRAWS, sum_of_exact, 1 - MASS_TOLERANCE, MASS_TOLERANCE)
    if issubclass(kind, DequantisedDensity):
        return SumRule(f"between {LEAST_SUM} and 1", DRAWS, sum_of_exact, LEAST_SUM)
    return SumRule("1 at most", BOUND_DRAWS, sum_of_bound)


def resized(subject: Subject, data: DataSpec) -> Subject | None:
    """The same model class for other images; None where it cannot be built."""
    try:
        return subject.resized(data)
    except (GenbenchError, ValueError, RuntimeError):
        return None


def all_images(data: DataSpec) -> Tensor:
    """Every image (levels^D, C, H, W) uint8."""
    numbers = torch.arange(data.levels**data.dims)
    digits = [numbers // data.levels**i % data.levels for i in range(data.dims)]
    return torch.stack(digits, 1).to(torch.uint8).view(-1, *data.shape)


@torch.no_grad()
def table_row(subject: Subject, likelihood: Likelihood, pixels: Tensor, seed: int) -> Tensor:
    """Nats that a fresh model in eval mode assigns to the pixels, float64."""
    return likelihood(subject.model().eval(), pixels, subject.seeded(seed)).cpu().double()


def sum_of_exact(table: Tensor) -> tuple[float, float]:
    """Sum of exp(table) over the images, as mean and standard error over the draws. table: (draws, images), nats."""
    sums = table.exp().sum(1)
    return float(sums.mean()), float(sums.std()) / len(sums) ** 0.5


def sum_of_bound(table: Tensor) -> tuple[float, float]:
    """Sum over the images of exp(mean over the draws), with its standard error. table: (draws, images), nats."""
    masses, errors = table.mean(0).exp(), table.std(0) / len(table) ** 0.5
    return float(masses.sum()), float((masses * errors).sum())


def density_is_that_of_the_codes(subject: Subject) -> str:
    """log_prob equals log N(z; 0, I) + log |det dz/dy| - D ln(levels) for z = encode(x), with autograd's Jacobian.

    y: dequantised pixels; x: the same in [-1, 1]. A model may use the generator in another way to dequantise, which
    changes single values by chance; the mean over draws then decides. Passes where noise() is not N(0, I), because the
    prior's density is then unknown, and where images are large and the model cannot be built for small ones.
    """
    grey = DataSpec(1, 8, 8, subject.data.levels, subject.data.classes)
    small = resized(subject, grey) if subject.data.dims > MOST_DIMS else subject
    if small is None or not noise_is_standard_normal(small.model(), small.seeded(3)):
        return ""
    gaps = [density_gap(small, 0)]
    if abs(gaps[0]) > NATS_TOLERANCE:
        gaps += [density_gap(small, seed) for seed in range(1, MORE_DRAWS)]
    mean = torch.tensor(gaps).mean()
    error = torch.tensor(gaps).std() / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    if abs(mean) <= NATS_TOLERANCE + ERRORS * error:
        return ""
    return (
        f"log_prob() of an image differs by {mean:+.4g} nats from log N(encode(x); 0, I) with autograd's "
        "log-determinant; expected 0: is a layer's log-determinant wrong, or does encode() expect values other than "
        "the centres of grey levels?"
    )


@torch.no_grad()
def noise_is_standard_normal(model: Model, gen: Generator) -> bool:
    """Whether the first four moments of noise() agree with those of N(0, 1)."""
    z = model.eval().noise(NOISES, gen).cpu().double().flatten()  # type: ignore[operator]
    known = {1: (0.0, 1.0), 2: (1.0, 2.0), 3: (0.0, 15.0), 4: (3.0, 96.0)}  # mean and variance of z^k
    return all(abs(float((z**k).mean()) - m) <= ERRORS * (v / len(z)) ** 0.5 for k, (m, v) in known.items())


def density_gap(subject: Subject, seed: int) -> float:
    """log_prob of the first image minus the value that encode implies, in nats."""
    model, data = subject.model().eval().requires_grad_(False), subject.data
    pixels = subject.unseen[:1]
    y = dequantise(pixels, data.levels, subject.seeded(seed))
    encode = partial(code, model, data)
    z, jacobian = (t.cpu().double() for t in (encode(y), torch.autograd.functional.jacobian(encode, y)))
    normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum()
    density = (normal + jacobian.view(data.dims, data.dims).slogdet()[1]).view(1)
    value = model.log_prob(pixels, subject.seeded(seed)).cpu().double()  # type: ignore[operator]
    return float(value - density_to_mass(density, data.dims, data.levels))


def code(model: Model, data: DataSpec, y: Tensor) -> Tensor:
    """encode() of dequantised pixels y (1, C, H, W), as a vector."""
    x = (data.levels * y - 0.5) * 2 / (data.levels - 1) - 1
    return model.encode(x).flatten()  # type: ignore[operator]
