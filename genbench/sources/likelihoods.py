"""Log-probabilities of held-out images by a model: a batch at a time, in one process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench import metrics, returned
from genbench.contract import DequantisedDensity, ExactLikelihood, ImportanceBound, LikelihoodBound, LikelihoodEstimate
from genbench.errors import CellFailure
from genbench.halving import FEW, AtOnce, in_parts, tolerance
from genbench.keys import stream_seed
from genbench.machine import pinned_globals
from genbench.metrics.base import Metric
from genbench.processes.group import Processes
from genbench.processes.noise import RecordedDraws
from genbench.progress import Progress
from genbench.records import BOUND, DENSITY, ESTIMATE, MASS
from genbench.sources.base import Opened, opened_too
from genbench.space import seeded

LIKELIHOOD_BATCH = 100
LogProb = Callable[[Tensor, torch.Generator], Tensor]


def shared_log_probs(opened: Opened, metric: Metric, pixels: Tensor, log_prob: LogProb, at_once: AtOnce) -> np.ndarray:
    """As compute_log_probs; several processes compute different batches, with the random numbers of one process."""
    if opened.team.size == 1 or len(pixels) <= LIKELIHOOD_BATCH:
        return compute_log_probs(opened, pixels, log_prob, at_once)
    with opened.team.call(_log_probs_too, *opened.sent, metric.name, len(pixels)) as group:
        states = group.from_first(states_of_batches(opened, pixels, log_prob))
        shares = group.collected(log_probs_share(opened, pixels, log_prob, group, states, at_once))
    parts = {number: values for share in shares for number, values in share.items()}
    if any(values is None for values in parts.values()):  # as many random numbers as the images decide
        return compute_log_probs(opened, pixels, log_prob, at_once)
    return np.concatenate([parts[number] for number in sorted(parts)])


def _log_probs_too(group: Processes, *arguments: Any) -> None:
    """What a member of the team does while process 0 computes likelihoods."""
    *sent, metric, count = arguments
    opened = opened_too(group, *sent)
    log_prob, pixels = likelihood_of(opened.model, metrics.get(metric))[1], opened.dataset.test.pixels[:count]
    group.collected(log_probs_share(opened, pixels, log_prob, group, group.from_first(None), AtOnce()))


@pinned_globals()
@torch.no_grad()
def states_of_batches(opened: Opened, pixels: Tensor, log_prob: LogProb) -> list[Tensor]:
    """The generator's state before each batch, and after the last: from the operations of the first batch, repeated."""
    gen = seeded(stream_seed(opened.drawing.seed, "likelihood"), opened.device)
    states, first = [gen.get_state()], RecordedDraws()
    with first:
        log_prob(pixels[:LIKELIHOOD_BATCH].to(opened.device), gen)
    for _ in range(len(pixels) // LIKELIHOOD_BATCH):
        states.append(gen.get_state())
        first.repeat()
    return states


@pinned_globals()
@torch.no_grad()
def log_probs_share(
    opened: Opened, pixels: Tensor, log_prob: LogProb, group: Processes, states: list[Tensor], at_once: AtOnce
) -> dict[int, np.ndarray | None]:
    """By number the log-probabilities of this process's batches; None for one that leaves another state than stated."""
    gen, shares = seeded(0, opened.device), dict[int, np.ndarray | None]()
    batches = pixels.split(LIKELIHOOD_BATCH)
    for number in range(group.rank, len(batches), group.size):
        gen.set_state(states[number])
        values = _batch_log_probs(opened, batches[number].to(opened.device), log_prob, at_once, gen).numpy()
        foreseen = number + 1 == len(batches) or torch.equal(gen.get_state(), states[number + 1])
        shares[number] = values if foreseen else None
    return shares


def likelihood_of(model: Any, metric: Metric) -> tuple[str, LogProb]:
    """The kind of likelihood that the model provides for the metric, and the function that computes it."""
    if isinstance(model, ExactLikelihood) and "ExactLikelihood" in metric.abilities:
        return MASS, model.log_prob
    if isinstance(model, DequantisedDensity) and "DequantisedDensity" in metric.abilities:
        return DENSITY, model.log_prob
    if isinstance(model, LikelihoodBound) and "LikelihoodBound" in metric.abilities:
        return BOUND, model.log_prob_bound
    if isinstance(model, ImportanceBound) and "ImportanceBound" in metric.abilities:
        return BOUND, lambda pixels, gen: model.log_prob_importance(pixels, metric.protocol["k"], gen)
    assert isinstance(model, LikelihoodEstimate)
    return ESTIMATE, partial(model.log_prob_estimate, steps=metric.protocol["steps"])


@pinned_globals()
@torch.no_grad()
def compute_log_probs(opened: Opened, pixels: Tensor, log_prob: LogProb, at_once: AtOnce) -> np.ndarray:
    """Log-probabilities in nats (N,) float64 of images (N, C, H, W) uint8, a batch at a time."""
    gen, parts = seeded(stream_seed(opened.drawing.seed, "likelihood"), opened.device), []
    start = time.perf_counter()
    for i, batch in enumerate(pixels.split(LIKELIHOOD_BATCH)):
        parts.append(_batch_log_probs(opened, batch.to(opened.device), log_prob, at_once, gen))
        done = min(len(pixels), (i + 1) * LIKELIHOOD_BATCH)
        opened.report(Progress("likelihood", done, len(pixels), "images", done / (time.perf_counter() - start)))
    result: np.ndarray = torch.cat(parts).numpy()
    return result


def refuse_unconverged(opened: Opened, metric: Metric, pixels: Tensor, values: np.ndarray, at_once: AtOnce) -> None:
    """Raises CellFailure when half of the numerical method's steps give images another mean than the values (N,).

    Both have the same noise. The difference estimates the error of the fewer steps, which is larger than that of the
    values.
    """
    steps, allowed, model = metric.protocol["steps"], metric.protocol["halved_steps_within"], opened.model
    assert isinstance(model, LikelihoodEstimate)
    half = partial(model.log_prob_estimate, steps=steps // 2)
    nats = [float(found.mean()) for found in (values, compute_log_probs(opened, pixels, half, at_once))]
    found, halved = (-mean / (pixels[0].numel() * np.log(2)) for mean in nats)
    if not abs(found - halved) <= allowed:
        raise CellFailure(
            f"bits/dim: {found:.4g} with {steps} steps of the numerical method, {halved:.4g} with {steps // 2}; "
            f"allowed: a difference of at most {allowed}, otherwise it has not converged"
        )


def _batch_log_probs(opened: Opened, batch: Tensor, log_prob: LogProb, at_once: AtOnce, gen: torch.Generator) -> Tensor:
    def values(start: int, stop: int) -> Tensor:
        found = log_prob(batch[start:stop], gen)
        return returned.log_probs(opened.model, found, stop - start, "log-likelihood").cpu().double()

    def in_batches(n: int, size: int) -> Tensor:
        return torch.cat(in_parts(values, n, size, gen))

    def divisible() -> bool:
        few, state = min(FEW, len(batch)), gen.get_state()
        whole = in_batches(few, few)
        gen.set_state(state)
        allowed = tolerance(batch.device, "fp32")
        return torch.allclose(whole, in_batches(few, few - 1), rtol=allowed, atol=allowed)

    return at_once.run(len(batch), lambda size: in_batches(len(batch), size), divisible, gen)
