"""Checks that tensors and generators are on the model's device; finds what works on the CPU and fails on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import torch

from genbench.check.abilities import ESTIMATES, NORMALISED, Likelihood, declared
from genbench.check.other_device import DEVICE, MisplacedError, other_device
from genbench.check.subject import DRAWN, Subject
from genbench.contract import Batch, Decodes, Encodes, Model, Translates
from genbench.draw.blocks import on_device
from genbench.space import seeded

Call = tuple[str, Callable[[], object]]


def stays_on_one_device(subject: Subject) -> str:
    """Losses, samples and every ability work with weights, batch and generator on a simulated device.

    Passes where the other checks run on another device than the CPU already.
    """
    if subject.device.type != "cpu":
        return ""
    likelihoods = declared(subject, NORMALISED | ESTIMATES)
    with suppress(Exception), other_device():  # it uses torch's internals, which differ between versions
        return next(misplacements(subject, likelihoods), "")
    return ""


def misplacements(subject: Subject, likelihoods: dict[str, Likelihood]) -> Iterator[str]:
    """The message of each step that the simulated device refuses."""
    for name, call in contract_calls(subject, likelihoods):
        try:
            call()
        except MisplacedError as error:
            yield f"{name}: {error}"
        except Exception:  # reported by another check, or an operation that only real devices have
            continue


def contract_calls(subject: Subject, likelihoods: dict[str, Likelihood]) -> Iterator[Call]:
    """Calls of each method that the contract requires of the model, with the method's name."""
    model, batch, unseen = subject.model().to(DEVICE), moved(subject.batch), subject.unseen.to(DEVICE)
    for player in model.players():
        yield "loss()", partial(gradients, model, batch, player)
    model.eval()
    yield "sample()", lambda: model.sample(DRAWN, seeded(3, DEVICE), on_device(subject.condition(DRAWN), DEVICE))
    for name, likelihood in likelihoods.items():
        yield f"{name}()", partial(likelihood, model, unseen, seeded(3, DEVICE))
    if isinstance(model, Decodes):
        yield "decode(noise())", lambda: model.decode(model.noise(DRAWN, seeded(3, DEVICE)))
    if isinstance(model, Encodes):
        yield "encode()", lambda: model.encode(batch.x)
    if isinstance(model, Translates):
        yield "translate()", lambda: model.translate(batch.x, "a_to_b")


def moved(batch: Batch) -> Batch:
    """Moves the batch to DEVICE."""
    labels, source = (None if t is None else t.to(DEVICE) for t in (batch.labels, batch.source))
    return Batch(batch.x.to(DEVICE), batch.pixels.to(DEVICE), labels, batch.texts, source)


def gradients(model: Model, batch: Batch, player: str) -> None:
    """Differentiates the player's loss."""
    loss = model.loss(batch, player, 0, seeded(2, DEVICE))
    torch.autograd.grad(loss.total.sum(), model.players()[player], allow_unused=True)
