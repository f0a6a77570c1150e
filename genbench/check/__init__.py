"""Conformance of a model with the contract, as a list of named checks; `genbench check` and the tests run the same.

A check tests one requirement of `genbench.contract` with random pixels and untrained weights. It returns a message that
says what was found, what is expected and what usually causes it, or "" for a pass. The checks do not judge the quality
of samples, and test only the mathematics that every model of a kind must satisfy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, cast

import torch

from genbench import returned
from genbench.check import abilities as abilities
from genbench.check import density as density
from genbench.check.independence import images_are_independent
from genbench.check.inputs import conditions_are_learnt, inputs_have_an_effect
from genbench.check.placement import stays_on_one_device
from genbench.check.reads import files_are_declared
from genbench.check.sides import other_sides_work
from genbench.check.subject import DRAWN, Subject, difference, fixed_global_randomness, range_fault
from genbench.check.terms import terms_reach_their_player
from genbench.check.training import gradients_reach_their_player, losses_are_finite, players_share_the_parameters
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
from genbench.errors import CellFailure, CodeError
from genbench.reasons import explain
from genbench.surroundings import restored


@dataclass(frozen=True)
class CheckResult:
    """Whether one check passed, and the message of a failure."""

    name: str
    passed: bool
    message: str


def losses_leave_weights_alone(subject: Subject) -> str:
    """The loss does not update parameters, leave gradients, or change requires_grad."""
    model = subject.model()
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}
    for player, _ in subject.losses(model):
        for name, parameter in model.named_parameters():
            value, trainable = before[name]
            if parameter.grad is not None:
                return (
                    f"loss of '{player}' left a gradient at '{name}'; expected none: only the trainer calls backward()"
                )
            if not torch.equal(parameter, value) or parameter.requires_grad != trainable:
                return f"loss of '{player}' changed '{name}'; expected no change: only the trainer updates parameters"
    return ""


def same_generator_same_loss(subject: Subject) -> str:
    """The loss is a function of weights, batch, step and generator."""
    with fixed_global_randomness():
        first = [float(loss.total.detach().sum()) for _, loss in subject.losses(subject.model())]
    with fixed_global_randomness():
        second = [float(loss.total.detach().sum()) for _, loss in subject.losses(subject.model())]
    if str(first) == str(second):
        return ""
    return f"the same weights, batch and generator gave losses {first} and {second}; is there randomness not from gen?"


def no_global_randomness(subject: Subject) -> str:
    """Losses and samples do not change torch's global random state."""
    with fixed_global_randomness() as used:
        if issubclass(subject.kind, Model):
            list(subject.losses(subject.model()))
        what = "loss" if used() else "sample" if subject.single.used_global else ""
    return what and f"{what}() used torch's global generator; pass generator=gen to every rand, randn and dropout"


def samples_have_the_datas_shape(subject: Subject) -> str:
    """sample(n) has shape (n, C, H, W) and a floating type, also for n = 1."""
    for n, x in ((DRAWN, subject.drawn), (1, subject.single.images)):
        returned.checked_images(subject.original, x, n)
    return ""


def evaluations_are_a_count(subject: Subject) -> str:
    """`evaluations` is a whole number, at least 1, or None for a model with Steps."""
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
    """Samples hold no NaN and no infinity."""
    bad = int((~torch.isfinite(subject.drawn)).sum())
    message = f"{bad} of {subject.drawn.numel()} sampled values are not finite; is there an exp or a division by 0?"
    return message if bad else ""


def samples_are_in_range(subject: Subject) -> str:
    """Samples are in [-1, 1]."""
    return range_fault("samples", subject.drawn)


def same_generator_same_images(subject: Subject) -> str:
    """Samples are a function of weights and generator."""
    gap = subject.repeat_gap
    return (
        f"the same seed gave images that differ by {gap:.3g}; expected 0: is there randomness not from gen?"
        if gap
        else ""
    )


def other_seed_other_images(subject: Subject) -> str:
    """Another seed gives other images, and the images of a block differ; a translator needs no noise."""
    if issubclass(subject.kind, Translates):
        return ""
    if difference(subject.drawn, subject.draw(seed=4)) == 0:
        return "seeds 3 and 4 gave the same images; expected different ones: is gen ignored, or seeded again?"
    if subject.condition(1) is None and difference(subject.drawn[:1], subject.drawn[1:2]) == 0:
        return (
            "images 0 and 1 of a block are the same; expected different ones: is noise drawn once for the whole block?"
        )
    return ""


def state_dict_is_complete(subject: Subject) -> str:
    """Another model that loads the state_dict draws the same images; passes where one model alone does not repeat."""
    other = subject.build(seed=5)
    other.load_state_dict(subject.model().state_dict())
    gap = difference(subject.drawn, subject.draw(model=other))
    if gap <= 1e-5 or subject.repeat_gap > 0:
        return ""
    return (
        f"a model with the loaded state_dict draws images that differ by {gap:.3g}; expected the same: is random state "
        "not saved?"
    )


def sampling_changes_nothing(subject: Subject) -> str:
    """Sampling changes neither the mode nor parameters nor buffers."""
    model, before = subject.single.model, subject.single.before
    training = [name or "the model" for name, module in model.named_modules() if module.training]
    if training:
        return f"{training[0]} was in training mode after sample(); expected eval mode: only the harness switches modes"
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    if not changed:
        return ""
    return f"sample() changed '{changed[0]}'; expected no change: is a buffer updated in eval mode?"


class Check(NamedTuple):
    """A named check. It applies to classes that are subclasses of each of `needs`; a tuple there means any of it."""

    name: str
    run: Callable[[Subject], str]
    needs: tuple[type | tuple[type, ...], ...] = ()


ORDERED = (ExactLikelihood, LikelihoodBound, ImportanceBound)
BOUNDED = (*ORDERED, DequantisedDensity)
LIKELIHOOD = (*BOUNDED, LikelihoodEstimate)
# A class with at least two of the three has one of every pair.
TWO_BOUNDS = tuple(combinations(ORDERED, 2))

CHECKS: list[Check] = [
    Check("players share the parameters", players_share_the_parameters, (Model,)),
    Check("losses are finite", losses_are_finite, (Model,)),
    Check("gradients reach their player", gradients_reach_their_player, (Model,)),
    Check("terms reach their player", terms_reach_their_player, (Model,)),
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
    Check("images are independent", images_are_independent),
    Check("state_dict is complete", state_dict_is_complete),
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
    Check("conditions are learnt", conditions_are_learnt, (Model, (ClassConditional, TextConditional))),
    Check("inputs have an effect", inputs_have_an_effect, (Model,)),
    Check("other sides work", other_sides_work, (Model,)),
    Check("translations are images", abilities.translations_are_images, (Translates,)),
]


def check_model(
    kind: type[Draws],
    data: DataSpec,
    config: dict[str, Any] | None = None,
    sampler: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    report: Callable[[CheckResult], None] = lambda result: None,
) -> list[CheckResult]:
    """Runs every check that applies to the class's abilities, in the order of CHECKS.

    config, sampler: single fields that replace the preset's, as in a suite. device: of models and images; on a GPU,
    products of float32 are computed in float32, not TF32, so that the same tolerances apply as on the CPU.
    report: called after each check. Raises
    ModelError when the model cannot be built; an exception inside a check is a failure of that check.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        subject = Subject(cast(type[Model], kind), data, config, sampler, device)
        applying = [check for check in CHECKS if all(issubclass(kind, ability) for ability in check.needs)]
        return [_reported(run_check(check, subject), report) for check in applying]


def _reported(result: CheckResult, report: Callable[[CheckResult], None]) -> CheckResult:
    report(result)
    return result


def run_check(check: Check, subject: Subject) -> CheckResult:
    """Runs one check; the global random state is restored afterwards."""
    try:
        with restored(f"{subject.kind.__name__} was checked: {check.name}", again=False), fixed_global_randomness():
            message = check.run(subject)
    except (CellFailure, CodeError) as failure:
        message = str(failure)
    except Exception as error:  # a model may raise anything; the other checks still run
        message = f"raised {explain(error)}"
    return CheckResult(check.name, not message, message)
