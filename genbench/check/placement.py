"""The conformance check of where tensors are made: what works on the CPU and fails on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import torch

from genbench.check.abilities import ESTIMATES, ORDERED, declared
from genbench.check.other_device import DEVICE, MisplacedError, other_device
from genbench.check.subject import DRAWN, Subject
from genbench.contract import Batch, Decodes, Encodes, Model, Translates
from genbench.draw.blocks import on_device
from genbench.space import seeded

Step = tuple[str, Callable[[], object]]


def stays_on_one_device(subject: Subject) -> str:
    """Losses, samples and every ability work with weights, batch and generator on another device than the CPU.

    Silent where the other checks run on such a device already.
    """
    if subject.device.type != "cpu":
        return ""
    with suppress(Exception), other_device():  # torch's internals differ between versions
        return next(misplacements(subject), "")
    return ""


def misplacements(subject: Subject) -> Iterator[str]:
    """What is refused, step by step."""
    for name, step in steps(subject):
        try:
            step()
        except MisplacedError as error:
            yield f"{name}: {error}"
        except Exception:  # another check's finding, or an operation that only real devices have
            continue


def steps(subject: Subject) -> Iterator[Step]:
    """What a model promises, by the method's name."""
    model, batch, unseen = subject.model().to(DEVICE), moved(subject.batch), subject.unseen.to(DEVICE)
    for player in model.players():
        yield "loss()", partial(gradients, model, batch, player)
    model.eval()
    yield "sample()", lambda: model.sample(DRAWN, seeded(3, DEVICE), on_device(subject.condition(DRAWN), DEVICE))
    for name, ask in declared(subject, ORDERED | ESTIMATES).items():
        yield f"{name}()", partial(ask, model, unseen, seeded(3, DEVICE))
    if isinstance(model, Decodes):
        yield "decode(noise())", lambda: model.decode(model.noise(DRAWN, seeded(3, DEVICE)))
    if isinstance(model, Encodes):
        yield "encode()", lambda: model.encode(batch.x)
    if isinstance(model, Translates):
        yield "translate()", lambda: model.translate(batch.x, "a_to_b")


def moved(batch: Batch) -> Batch:
    """The batch on DEVICE."""
    labels, source = (None if t is None else t.to(DEVICE) for t in (batch.labels, batch.source))
    return Batch(batch.x.to(DEVICE), batch.pixels.to(DEVICE), labels, batch.texts, source)


def gradients(model: Model, batch: Batch, player: str) -> None:
    """The player's loss, differentiated."""
    loss = model.loss(batch, player, 0, seeded(2, DEVICE))
    torch.autograd.grad(loss.total.sum(), model.players()[player], allow_unused=True)
