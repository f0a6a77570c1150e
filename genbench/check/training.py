"""Conformance checks of training: players, losses and gradients; `genbench.check` lists them."""

from __future__ import annotations

import math

import torch

from genbench import returned
from genbench.check.subject import Subject


def players_share_the_parameters(subject: Subject) -> str:
    """Every turn names a player that has parameters, and every trainable parameter belongs to exactly one player."""
    model = subject.model()
    players = model.players()
    turns = {player for stage in model.stages for player in stage.turns}
    if turns != set(players):
        return f"stages have turns for {sorted(turns)}, players() has {sorted(players)}; the two must be the same names"
    returned.players(model)  # as a training requires them
    owners = {id(p): [n for n, mine in players.items() if any(p is q for q in mine)] for p in model.parameters()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and len(owners[id(parameter)]) != 1:
            players_of_it = " and ".join(owners[id(parameter)]) or "no player"
            return f"parameter '{name}' belongs to {players_of_it}; expected one player: it is trained twice or never"
    return ""


def losses_are_finite(subject: Subject) -> str:
    """Every player's loss is a finite scalar, and so are its terms."""
    model = subject.model()
    for player, answer in subject.losses(model):
        loss = returned.loss(model, answer, player)
        for name, value in {"total": loss.total, **loss.terms}.items():
            if not torch.isfinite(value).all():
                return f"loss of '{player}': {name} is {float(value.detach())}; expected finite: a log or root of 0?"
    return ""


def gradients_reach_their_player(subject: Subject) -> str:
    """Every parameter of the player is part of its loss, and none has a gradient that is zero everywhere.

    Parameters of a single number are exempt: the gradient of a critic's last bias is 0 when the real and the fake half
    of a hinge loss cancel.
    """
    model = subject.model()
    names = {id(p): n for n, p in model.named_parameters()}
    for player, loss in subject.losses(model):
        parameters = model.players()[player]
        if not parameters:  # which players_share_the_parameters reports
            continue
        if not loss.total.requires_grad:
            return f"loss of '{player}' does not depend on any parameter; is there a .detach() or no_grad() in its way?"
        gradients = torch.autograd.grad(loss.total.sum(), parameters, allow_unused=True)
        unused = [names[id(p)] for p, g in zip(parameters, gradients, strict=True) if g is None]
        if unused:
            return (
                f"loss of '{player}' does not reach {unused[0]} ({len(unused)} such); is the layer unused or detached?"
            )
        size = sum(float(g.abs().sum()) for g in gradients if g is not None)
        if size == 0 or (not math.isfinite(size) and bool(torch.isfinite(loss.total).all())):
            return f"gradient of '{player}' sums to {size}; expected a finite number above 0"
        zero = [names[id(p)] for p, g in zip(parameters, gradients, strict=True) if p.numel() > 1 and not g.any()]
        if zero:
            names_of_zero = f"{zero[0]} ({len(zero)} such)"
            return f"gradient of '{player}' is 0 for all of {names_of_zero}; is it detached, or multiplied by 0?"
    return ""
