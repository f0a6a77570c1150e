"""Conformance of a model with the contract, as a list of named checks; `genbench check` and the tests run the same.

A check looks at one promise of `genbench.contract`, on random pixels and untrained weights, and returns what is wrong
in words ("" when all is well): what was found, what is expected, what usually causes it. It says nothing about the
quality of the samples, and nothing about the mathematics beyond what every model of its kind must satisfy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from genbench import returned
from genbench.check import abilities as abilities
from genbench.check import density as density
from genbench.check.alone import images_stand_alone
from genbench.check.placement import stays_on_one_device
from genbench.check.reads import files_are_declared
from genbench.check.subject import DRAWN, Subject, difference, fixed_global_randomness, range_fault
from genbench.contract import (
    ClassConditional,
    DataSpec,
    Decodes,
    DequantisedDensity,
    Draws,
    Encodes,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Model,
    Steps,
    TextConditional,
    Translates,
)
from genbench.errors import CellFailure


@dataclass(frozen=True)
class CheckResult:
    """Whether one check passed, and what is wrong if not."""

    name: str
    passed: bool
    message: str


def players_share_the_parameters(subject: Subject) -> str:
    """Every turn has a player, and every trainable parameter exactly one."""
    model = subject.model()
    players = model.players()
    turns = {player for stage in model.stages for player in stage.turns}
    if turns != set(players):
        return f"stages have turns for {sorted(turns)}, players() has {sorted(players)}; the two must be the same names"
    owners = {id(p): [n for n, mine in players.items() if any(p is q for q in mine)] for p in model.parameters()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and len(owners[id(parameter)]) != 1:
            found = " and ".join(owners[id(parameter)]) or "no player"
            return (
                f"parameter '{name}' belongs to {found}; expected exactly one player, or it is trained twice or never"
            )
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

    But for single numbers: the last bias of a critic has one when the real and the fake half of a hinge loss cancel.
    """
    model = subject.model()
    names = {id(p): n for n, p in model.named_parameters()}
    for player, loss in subject.losses(model):
        parameters = model.players()[player]
        if not loss.total.requires_grad:
            return f"loss of '{player}' does not depend on any parameter; a .detach() or no_grad() too many?"
        gradients = torch.autograd.grad(loss.total.sum(), parameters, allow_unused=True)
        unused = [names[id(p)] for p, g in zip(parameters, gradients, strict=True) if g is None]
        if unused:
            return f"loss of '{player}' does not reach {unused[0]} ({len(unused)} such); unused layer, or detached?"
        size = sum(float(g.abs().sum()) for g in gradients if g is not None)
        if size == 0 or (not math.isfinite(size) and bool(torch.isfinite(loss.total).all())):
            return f"gradient of '{player}' sums to {size}; expected a finite number above 0"
        still = [names[id(p)] for p, g in zip(parameters, gradients, strict=True) if p.numel() > 1 and not g.any()]
        if still:
            return f"gradient of '{player}' is 0 for all of {still[0]} ({len(still)} such); cut off, or times 0?"
    return ""


def losses_leave_weights_alone(subject: Subject) -> str:
    """The loss neither updates parameters, nor differentiates for other players, nor freezes anything."""
    model = subject.model()
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}
    for player, _ in subject.losses(model):
        for name, parameter in model.named_parameters():
            value, trainable = before[name]
            if parameter.grad is not None:
                return f"loss of '{player}' left a gradient at '{name}'; expected none: backward() is the trainer's"
            if not torch.equal(parameter, value) or parameter.requires_grad != trainable:
                return f"loss of '{player}' changed '{name}'; expected no change: updates are the trainer's"
    return ""


def same_generator_same_loss(subject: Subject) -> str:
    """The loss is a function of weights, batch, step and generator."""
    with fixed_global_randomness():
        first = [float(loss.total.detach().sum()) for _, loss in subject.losses(subject.model())]
    with fixed_global_randomness():
        second = [float(loss.total.detach().sum()) for _, loss in subject.losses(subject.model())]
    if str(first) == str(second):
        return ""
    return f"the same weights, batch and generator gave losses {first} and {second}; randomness of its own?"


def no_global_randomness(subject: Subject) -> str:
    """Losses and samples leave torch's global random state where it was."""
    for what in ("loss", "sample") if issubclass(subject.kind, Model) else ("sample",):
        model = subject.model()
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            before = global_states()
            if what == "loss":
                list(subject.losses(model))
            else:
                model.eval().sample(1, subject.seeded(3), subject.condition(1))
            if not all(map(torch.equal, before, global_states())):
                return f"{what}() moved torch's global generator; pass generator=gen to every rand, randn and dropout"
    return ""


def global_states() -> list[Tensor]:
    """The states of torch's own generators, of the CPU and of each GPU."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def samples_have_the_datas_shape(subject: Subject) -> str:
    """sample(n) is (n, C, H, W) in a floating type, for n = 1 too."""
    for n, x in ((DRAWN, subject.drawn), (1, subject.draw(1))):
        returned.checked_images(subject.original, x, n)
    return ""


def evaluations_are_a_count(subject: Subject) -> str:
    """`evaluations` is a whole number, at least 1."""
    returned.evaluations(subject.model())
    return ""


def options_are_plain(subject: Subject) -> str:
    """Config, sampler and caveat contain only what a record can hold: text, finite numbers, lists, mappings."""
    returned.options(subject.model())
    return ""


def settling_keeps_weights_finite(subject: Subject) -> str:
    """settle() leaves neither NaN nor infinity in the weights."""
    model = subject.model()
    model.settle(subject.seeded(3))
    returned.weights(model, "after settle()")
    return ""


def samples_are_finite(subject: Subject) -> str:
    """No NaN and no infinity."""
    bad = int((~torch.isfinite(subject.drawn)).sum())
    return f"{bad} of {subject.drawn.numel()} sampled values are not finite; an exp or a division by 0?" if bad else ""


def samples_are_in_range(subject: Subject) -> str:
    """All values in [-1, 1]."""
    return range_fault("samples", subject.drawn)


def same_generator_same_images(subject: Subject) -> str:
    """Samples are a function of weights and generator."""
    gap = subject.repeat_gap
    return f"the same seed gave images that differ by {gap:.3g}; expected 0: randomness not from gen?" if gap else ""


def other_seed_other_images(subject: Subject) -> str:
    """Another seed gives other images, and no two of a block are the same; a translator may do without noise."""
    if issubclass(subject.kind, Translates):
        return ""
    if difference(subject.drawn, subject.draw(seed=4)) == 0:
        return "seeds 3 and 4 gave the same images; expected others: is gen used, or seeded anew inside?"
    if subject.condition(1) is None and difference(subject.drawn[:1], subject.drawn[1:2]) == 0:
        return "images 0 and 1 of a block are the same; expected others: noise drawn once for the whole block?"
    return ""


def weights_tell_all(subject: Subject) -> str:
    """Another model that loads the state_dict draws the same images; silent when not even one model does."""
    other = subject.build(seed=5)
    other.load_state_dict(subject.model().state_dict())
    gap = difference(subject.drawn, subject.draw(model=other))
    if gap <= 1e-5 or subject.repeat_gap > 0:
        return ""
    return f"a model with the loaded state_dict draws images {gap:.3g} off; expected the same: unsaved random state?"


def sampling_changes_nothing(subject: Subject) -> str:
    """Sampling keeps eval mode, parameters and buffers."""
    model = subject.model().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    subject.draw(1, model=model)
    loud = [name or "the model" for name, module in model.named_modules() if module.training]
    if loud:
        return f"{loud[0]} was in training mode after sample(); expected eval mode: switching modes is the harness's"
    moved = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    return f"sample() changed '{moved[0]}'; expected no change: a buffer updated in eval mode?" if moved else ""


class Check(NamedTuple):
    """A named check; needs: abilities that a model must have, all of them, for the check to apply."""

    name: str
    run: Callable[[Subject], str]
    needs: tuple[type | tuple[type, ...], ...] = ()


ORDERED = (ExactLikelihood, LikelihoodBound, ImportanceBound)
BOUNDED = (*ORDERED, DequantisedDensity)
LIKELIHOOD = (*BOUNDED, LikelihoodEstimate)
# At least two of the three: no pair lacks both.
TWO_BOUNDS = tuple(combinations(ORDERED, 2))

CHECKS: list[Check] = [
    Check("players share the parameters", players_share_the_parameters, (Model,)),
    Check("losses are finite", losses_are_finite, (Model,)),
    Check("gradients reach their player", gradients_reach_their_player, (Model,)),
    Check("losses leave weights alone", losses_leave_weights_alone, (Model,)),
    Check("same generator, same loss", same_generator_same_loss, (Model,)),
    Check("no global randomness", no_global_randomness),
    Check("samples have the data's shape", samples_have_the_datas_shape),
    Check("evaluations are a count", evaluations_are_a_count),
    Check("options are plain", options_are_plain),
    Check("settling keeps weights finite", settling_keeps_weights_finite, (Model,)),
    Check("samples are finite", samples_are_finite),
    Check("samples are in range", samples_are_in_range),
    Check("same generator, same images", same_generator_same_images),
    Check("other seed, other images", other_seed_other_images),
    Check("images stand alone", images_stand_alone),
    Check("weights tell all", weights_tell_all),
    Check("sampling changes nothing", sampling_changes_nothing),
    Check("files are declared", files_are_declared),
    Check("stays on one device", stays_on_one_device),
    Check("decodes to images", abilities.decodes_to_images, (Decodes,)),
    Check("codes fit", abilities.codes_fit, (Encodes, Decodes)),
    Check("decode inverts encode", abilities.decode_inverts_encode, (DequantisedDensity, Encodes, Decodes)),
    Check("likelihood has a value an image", abilities.likelihood_has_a_value_an_image, (LIKELIHOOD,)),
    Check("same generator, same likelihood", abilities.same_generator_same_likelihood, (LIKELIHOOD,)),
    Check("mass needs no noise", abilities.mass_needs_no_noise, (ExactLikelihood,)),
    Check("likelihood is normalised", density.likelihood_is_normalised, (BOUNDED,)),
    Check("density is that of the codes", density.density_is_that_of_the_codes, (DequantisedDensity, Encodes, Decodes)),
    Check("bounds are ordered", abilities.bounds_are_ordered, TWO_BOUNDS),
    Check("evaluations are counted", abilities.evaluations_are_counted, (Steps,)),
    Check("condition decides", abilities.condition_decides, ((ClassConditional, TextConditional, Translates),)),
    Check("translations are images", abilities.translations_are_images, (Translates,)),
]


def check_model(
    kind: type[Draws],
    data: DataSpec,
    config: dict[str, Any] | None = None,
    sampler: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> list[CheckResult]:
    """Runs every check that applies to the class's abilities, in the order of CHECKS; for a class that only draws,
    those of drawing.

    config, sampler: single fields over the preset, as in a suite. device: where models and images lie; on a GPU
    float32 products are computed in float32, not TF32, so that the tolerances are the CPU's. Raises ModelError when
    the model cannot be built; an exception inside a check is that check's failure.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        subject = Subject(cast(type[Model], kind), data, config, sampler, device)
        applying = [check for check in CHECKS if all(issubclass(kind, ability) for ability in check.needs)]
        return [run_check(check, subject) for check in applying]


def run_check(check: Check, subject: Subject) -> CheckResult:
    """One check's result; the global random state stays as it was."""
    try:
        with fixed_global_randomness():
            message = check.run(subject)
    except CellFailure as failure:
        message = str(failure)
    except Exception as error:  # a model may raise anything, and the other checks still have something to say
        message = f"raised {type(error).__name__}: {error}"
    return CheckResult(check.name, not message, message)
