"""Checks that labels, texts and times change what a model computes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genbench.check.arguments import values_in
from genbench.check.subject import BATCH, Subject, fixed_global_randomness
from genbench.contract import Batch, Model, Steps

MOST_CALLS = 8  # of one network, that are kept


class NetworkCall(NamedTuple):
    """What a network was called with: positional arguments under their position, others under their name."""

    module: nn.Module
    inputs: dict[int | str, Any]


def conditions_are_learnt(subject: Subject) -> str:
    """With other labels and texts of the same images, some player's loss changes."""
    batch, classes = subject.batch, max(subject.data.classes, 1)
    labels = None if batch.labels is None else (batch.labels + 1) % classes
    other = replace(batch, labels=labels, texts=("a picture of cats",) * BATCH)
    if losses(subject, subject.model(), batch) != losses(subject, subject.model(), other):
        return ""
    return (
        "other labels and texts of the same images gave the same losses; expected different ones: does loss() use them?"
    )


def losses(subject: Subject, model: Model, batch: Batch) -> list[float]:
    """Every player's loss."""
    with fixed_global_randomness():
        return [
            float(model.loss(batch, player, 0, subject.seeded(2)).total.detach().sum()) for player in model.players()
        ]


def inputs_have_an_effect(subject: Subject) -> str:
    """A network that receives labels returns something else for other labels; so does a denoiser for other times.

    Labels are whole numbers, one an image. Of a denoiser, every input but the first is tested whose values differ
    between images or between the steps of a sample.
    """
    model = subject.model()
    paths = {module: path for path, module in model.named_modules() if path}
    denoiser = model.denoiser if isinstance(model, Steps) else None
    calls = recorded_calls(subject, model, paths)
    model.eval()
    for (module, place), changed in alternatives(calls, denoiser).items():
        if changed and not any(differs(module, *pair) for pair in changed):
            name = place if isinstance(place, str) else list(inspect.signature(module.forward).parameters)[place]
            return (
                f"input '{name}' of '{paths[module]}' ({type(module).__name__}) has no effect: other values give the "
                "same output; is it used?"
            )
    return ""


def recorded_calls(subject: Subject, model: Model, modules: dict[nn.Module, str]) -> list[NetworkCall]:
    """Calls of the model's networks while it computes its losses and draws."""
    calls: list[NetworkCall] = []
    with torch.no_grad(), recording(modules, calls):
        losses_with_gradients(subject, model)
        subject.draw(model=model)
    return calls


def losses_with_gradients(subject: Subject, model: Model) -> None:
    """Computes every player's loss, which may need gradients of its own."""
    with torch.enable_grad():
        losses(subject, model, subject.batch)


@contextmanager
def recording(modules: dict[nn.Module, str], calls: list[NetworkCall]) -> Iterator[None]:
    """Adds the first calls of each module to calls."""
    numbers = dict.fromkeys(modules, 0)

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        numbers[module] += 1
        if numbers[module] <= MOST_CALLS:
            inputs: dict[int | str, Any] = {}
            for place, value in enumerate(args):
                inputs[place] = kept(value)
            for name, value in kwargs.items():
                inputs[name] = kept(value)
            calls.append(NetworkCall(module, inputs))

    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def kept(value: Any) -> Any:
    """The value, which later operations in place do not change."""
    return value.detach().clone() if isinstance(value, Tensor) else value


Pair = tuple[dict[int | str, Any], dict[int | str, Any]]


def alternatives(calls: list[NetworkCall], denoiser: nn.Module | None) -> dict[tuple[nn.Module, int | str], list[Pair]]:
    """For each input to test, calls as they were and with other values of that input."""
    pairs: dict[tuple[nn.Module, int | str], list[Pair]] = {}
    for call in calls:
        tested = list(call.inputs)[1:] if call.module is denoiser else [k for k, v in call.inputs.items() if labels(v)]
        for place in tested:
            others = [c.inputs.get(place) for c in calls if c.module is call.module]
            mine = pairs.setdefault((call.module, place), [])
            mine += [(call.inputs, {**call.inputs, place: other}) for other in other_values(call.inputs[place], others)]
    return pairs


def labels(value: Any) -> bool:
    """Whether it is one whole number for each image."""
    return isinstance(value, Tensor) and value.ndim == 1 and value.dtype == torch.int64


def other_values(value: Any, others: list[Any]) -> Iterator[Any]:
    """Other values for an input: those of other images, or of other calls."""
    if isinstance(value, Tensor):
        candidates = [value.roll(1, 0)] if value.ndim else []
        candidates += [o for o in others if isinstance(o, Tensor) and o.shape == value.shape]
        yield from (c for c in candidates if not torch.equal(c, value))
    elif isinstance(value, int | float):
        yield from (o for o in others if isinstance(o, int | float) and o != value)


def differs(module: nn.Module, inputs: dict[int | str, Any], others: dict[int | str, Any]) -> bool:
    """Whether the module's output differs."""
    first, second = (outputs(module, i) for i in (inputs, others))
    return len(first) != len(second) or any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
def outputs(module: nn.Module, inputs: dict[int | str, Any]) -> list[Tensor]:
    """The tensors that the module returns."""
    args = [value for place, value in inputs.items() if isinstance(place, int)]
    kwargs = {place: value for place, value in inputs.items() if isinstance(place, str)}
    with fixed_global_randomness():
        return [value for value in values_in(module(*args, **kwargs)) if isinstance(value, Tensor)]
