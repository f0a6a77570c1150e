"""Schedulers of diffusers by name, with their options, and how often they evaluate the network."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from genbench.adapters.base import library
from genbench.errors import ModelError
from genbench.options import choice, nearest

SUFFIX = "Scheduler"


def make_scheduler(own: Any, sampler: Any, owner: str) -> Any:
    """The pipeline's scheduler, or the one that the sampler names, with the sampler's options.

    Raises ModelError for an unknown name or option.
    """
    if not sampler.scheduler and not sampler.scheduler_options:
        return own
    kind = scheduler_class(sampler.scheduler, owner) if sampler.scheduler else type(own)
    allowed = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")]
    for name in sampler.scheduler_options:
        if name not in allowed:
            raise ModelError(f"{owner}: sampler.scheduler_options.{name}: unknown key{choice(name, allowed)}")
    try:
        return kind.from_config(own.config, **sampler.scheduler_options)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(f"{owner}: sampler.scheduler: {kind.__name__}: {error}") from None


def scheduler_class(name: str, owner: str) -> Any:
    """A scheduler of diffusers. Raises ModelError with the nearest name."""
    diffusers = library("diffusers", "diffusers", "diffusers")
    names = [n for n in dir(diffusers) if n.endswith(SUFFIX) and not n.startswith("Flax")]
    full = name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
    if full not in names:
        close = nearest(full, names) or ";"
        raise ModelError(f"{owner}: sampler.scheduler: found '{name}'{close} allowed: a scheduler of diffusers")
    return getattr(diffusers, full)


def step_count(scheduler: Any, steps: int) -> int:
    """Times at which a pipeline evaluates its network for that many steps; some schedulers do it twice in a step."""
    tried = copy.deepcopy(scheduler)
    try:
        tried.set_timesteps(steps)
    except (ValueError, TypeError):  # needs arguments that only its pipeline knows
        return steps
    return len(tried.timesteps)
