"""Checks that the named terms of a loss pass their gradients to the player, by differences of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genbench.check.subject import Subject, fixed_global_randomness
from genbench.contract import Loss, Model
from genbench.space import seeded

LATE = 1_000_000  # a step at which the weight of a term that grows from 0 has grown
STEP = 1e-3  # of a difference, relative to the size of the parameters
SPARE = 4  # differences more than there are terms to explain them
RESIDUAL = 0.05  # of the missing gradient, that terms leave unexplained


def terms_reach_their_player(subject: Subject) -> str:
    """No term that is part of the total has weight 0 or is detached.

    A term whose gradient in the total is 0, at the first step and at a late one, has weight 0. A detached term is found
    by its values: along random directions in the player's parameters, the total changes by more than its gradient says,
    and the surplus is a positive multiple of the term's own change. Scalars that are only logged do neither.
    """
    exact = subject.on_cpu()
    for player in (name for name, own in subject.original.players().items() if own):
        weightless = [name for name in zero_weights(subject, player, 0) if name in zero_weights(subject, player, LATE)]
        if weightless:
            return f"term '{weightless[0]}' of the loss of '{player}' has no gradient; is it multiplied by 0?"
        with suppress(RuntimeError), double_precision():  # a model may compute in float32 outside of torch
            lost = detached_term(exact, player)
            if lost:
                return (
                    f"term '{lost}' of the loss of '{player}' is part of the total, but its gradient is not; is there "
                    "a .detach() or no_grad() in its way?"
                )
    return ""


@contextmanager
def attached_terms() -> Iterator[None]:
    """Terms of losses that are made inside keep their gradients."""
    with patch.object(Loss, "__post_init__", lambda loss: None):
        yield


class Doubled(TorchFunctionMode):
    """Operations that ask for float32 give float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The operation, with the other type."""
        operation: Callable[..., Any] = Tensor.double if func is Tensor.float else func
        positional = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return operation(*positional, **named)


@contextmanager
def double_precision() -> Iterator[None]:
    """New tensors are float64, in which differences of values are exact enough, and so are those asked for in float32.

    Models often convert times or pixels with `.float()`.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Doubled():
            yield
    finally:
        torch.set_default_dtype(before)


def loss_of(subject: Subject, model: Model, player: str, step: int = 0) -> Loss:
    """The player's loss with attached terms, on the batch in the precision of the model."""
    batch, kind = subject.batch, next(model.parameters()).dtype
    own = replace(batch, x=batch.x.to(kind), source=None if batch.source is None else batch.source.to(kind))
    with fixed_global_randomness(), attached_terms():
        return model.loss(own, player, step, seeded(2, subject.device))


def zero_weights(subject: Subject, player: str, step: int) -> list[str]:
    """Names of the terms that the total was computed from, with gradient 0."""
    loss = loss_of(subject, subject.model(), player, step)
    gradients = {name: gradient_of(loss.total, term) for name, term in loss.terms.items()}
    return [name for name, gradient in gradients.items() if gradient is not None and not gradient.any()]


def gradient_of(total: Tensor, term: Tensor) -> Tensor | None:
    """Derivative of the total by a term; None where the total was not computed from it."""
    if not (total.requires_grad and term.requires_grad):
        return None
    return torch.autograd.grad(total, term, retain_graph=True, allow_unused=True)[0]


def detached_term(subject: Subject, player: str) -> str:
    """The name of a term whose values change the total without a gradient, or ""."""
    model = subject.model().double()
    loss, parameters = loss_of(subject, model, player), model.players()[player]
    names = [name for name, term in loss.terms.items() if not reaches(loss.total, term, parameters)]
    if not names:
        return ""
    gradients = torch.autograd.grad(loss.total, parameters, allow_unused=True)
    surplus, changes = list[Tensor](), list[Tensor]()
    for seed in range(len(names) + SPARE):
        direction = small_steps(parameters, seed)
        high, low = (moved(subject, player, direction, sign, names) for sign in (1.0, -1.0))
        slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
        change = (high - low) / 2
        surplus.append(change[0] - slope)
        changes.append(change[1:])
    return explained_by(torch.stack(surplus), torch.stack(changes), names)


def reaches(total: Tensor, term: Tensor, parameters: list[nn.Parameter]) -> bool:
    """Whether the total was computed from the term, and the term from the parameters, with gradients."""
    if gradient_of(total, term) is None:
        return False
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return any(gradient is not None and gradient.any() for gradient in gradients)


def small_steps(parameters: list[nn.Parameter], seed: int) -> list[Tensor]:
    """A random step of every parameter, small against its size."""
    gen = seeded(seed, parameters[0].device)
    noise = [torch.randn(p.shape, generator=gen, device=p.device, dtype=p.dtype) for p in parameters]
    return [STEP * (p.detach().square().mean().sqrt() + STEP) * z for p, z in zip(parameters, noise, strict=True)]


def moved(subject: Subject, player: str, direction: list[Tensor], sign: float, names: list[str]) -> Tensor:
    """The total and the named terms after a step of the player's parameters: (1 + names,)."""
    model = subject.model().double()
    with torch.no_grad():
        for parameter, step in zip(model.players()[player], direction, strict=True):
            parameter.add_(sign * step)
    loss = loss_of(subject, model, player)
    return torch.stack([value.detach().double() for value in (loss.total, *(loss.terms[name] for name in names))])


def explained_by(surplus: Tensor, changes: Tensor, names: list[str]) -> str:
    """The term with the largest positive part of the surplus (n,), if the changes (n, terms) explain it; else ""."""
    weights = torch.linalg.lstsq(changes, surplus[:, None], driver="gelsd").solution
    left = (surplus - (changes @ weights)[:, 0]).norm()
    parts = weights[:, 0] * changes.norm(dim=0)
    if left > RESIDUAL * surplus.norm() or float(parts.max()) <= 0:
        return ""
    return names[int(parts.argmax())]
