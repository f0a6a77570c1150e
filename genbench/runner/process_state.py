"""What a task leaves in its process that the next task would see; only a process without traces runs another one.

A process runs several tasks only where they use the same code of a model, which no task of another model can then
influence. Between two tasks the modules of the user's files are imported again, and random numbers start again. A
process is not used again once anything of this differs from before its first task: threads, child processes, the
environment, the current folder, handlers of signals, where modules are found, warnings' filters, torch's global
settings, numpy's error settings, standard output and errors, limits of the system, tracing, a function or class of
torch, numpy, Python or genbench, or packages that were not loaded; when it has become larger by more than MOST_GROWTH;
or after MOST_TASKS.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as signal, whose functions make members of an enum for every number
import builtins
import gc
import locale
import math
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from genbench.machine import global_settings
from genbench.neighbours import PREFIX, forget_files, install
from genbench.store.disk_lease import HEARTBEAT
from genbench.surroundings import open_file

MOST_TASKS = 1000
MOST_GROWTH = 2**28  # bytes
COLLECTING = 8  # tasks between two collections of garbage, which forgotten modules are
CYTHON = "_cython_"  # modules that its extensions share
SIGNALS = tuple(map(int, signal.valid_signals()))
OWN = {"genbench", "zoo", *sys.stdlib_module_names}
WATCHED_KINDS = {"genbench", "torch"}  # the packages whose classes are watched
WATCHED_NAMES = {*WATCHED_KINDS, "numpy"}  # the packages whose functions and classes are, in genbench's modules
OTHERS = (
    torch, nn, nn.functional, torch.linalg, torch.random, np, np.random, np.linalg, builtins, math, random, os, time,
)  # fmt: skip
NO_FUNCTIONS = {"__dict__", "__weakref__", "__loader__", "__spec__"}


class ProcessState:
    """A process before its first task."""

    def __init__(self) -> None:
        install()
        self.process = psutil.Process()
        self.tasks, self.memory = 0, self.process.memory_info().rss
        self.facts, self.modules = _facts(), frozenset(name for name in sys.modules if not name.startswith(PREFIX))
        self.packages = {_package(name) for name in self.modules}
        self.watched = [
            (names, _getter(tuple(before)), tuple(before.values())) for names, before in _namespaces() if before
        ]
        self.numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        gc.freeze()  # what is here now stays, and collecting after each task does not look at it

    def renewed(self) -> bool:
        """Whether the process is ready for another task like its first one, after it was made so."""
        self.tasks += 1
        if self.tasks >= MOST_TASKS or self.process.memory_info().rss - self.memory > MOST_GROWTH:
            return False
        new = sys.modules.keys() - self.modules
        if _facts() != self.facts or self._adds_packages(new) or self._patched():
            return False
        forget_files(new)
        if self.tasks % COLLECTING == 0:
            gc.collect()
        random.setstate(self.numbers[0])
        np.random.set_state(self.numbers[1])  # noqa: NPY002
        torch.set_rng_state(self.numbers[2])
        return True

    def _adds_packages(self, new: set[str]) -> bool:
        """Whether a package is among new modules; further modules of others may be, and those of the user's files."""
        packages = {_package(name) for name in new if not name.startswith((PREFIX, CYTHON))}
        return not packages <= self.packages | OWN

    def _patched(self) -> bool:
        """Whether a name of a watched module or class stands for another object than before.

        Tuples compare by identity first; an object that claims to be equal to what it replaces is not found.
        """
        try:
            return not all(get(names) == before for names, get, before in self.watched)
        except Exception:  # a name is no more, or what it stands for now cannot be compared
            return True


def _facts() -> dict[str, Any]:
    return {
        "threads": {thread for thread in threading.enumerate() if thread.name != HEARTBEAT},
        "children": _has_children(),
        "environment": dict(os.environ),
        "folder": _current_folder(),
        "search": [list(sys.path), list(sys.meta_path), list(sys.path_hooks)],
        "signals": {number: _signal.getsignal(number) for number in SIGNALS},
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "filters": list(warnings.filters),
        "torch": global_settings(torch),
        "numpy": np.geterr(),
        "streams": [(stream, getattr(stream, "closed", True)) for stream in (sys.stdout, sys.stderr)],
        "descriptors": [open_file(descriptor) for descriptor in range(3)],
        "python": (sys.getrecursionlimit(), gc.isenabled(), sys.gettrace(), sys.getprofile(), sys.excepthook),
        "limits": _limits(),
        "anomalies": torch.is_anomaly_enabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "additions": [set(vars(kind)) for kind in (torch.Tensor, nn.Module, nn.Parameter, builtins)],
    }


def _has_children() -> bool:
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        return True
    return False


def _limits() -> dict[str, Any]:
    """What the system allows the process: priority, cores, permissions of new files, limits of resources."""
    limits: dict[str, Any] = {"mask": _mask()}
    if sys.platform != "win32":
        import resource

        limits |= {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name}
        limits["priority"] = os.getpriority(os.PRIO_PROCESS, 0)
    return limits | {"cores": os.sched_getaffinity(0) if sys.platform == "linux" else None}


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return ""


def _package(module: str) -> str:
    return module.partition(".")[0]


def _namespaces() -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """The namespaces of modules and classes that code of a model could change, and their functions and classes."""
    own = [module for name, module in sys.modules.items() if _package(name) == "genbench"]
    kinds = {
        kind for module in (*own, nn) for kind in vars(module).values()
        if isinstance(kind, type) and _package(kind.__module__) in WATCHED_KINDS
    }  # fmt: skip
    for module in own:
        yield (
            vars(module),
            {name: member for name, member in _functions(module) if _package_of(member) in WATCHED_NAMES},
        )
    for part in (*OTHERS, *kinds, torch.Tensor, torch.Generator):
        yield vars(part), dict(_functions(part))


def _getter(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What reads the objects of these names from a namespace; half the time of `map(namespace.get, names)`."""
    only, *more = names
    return itemgetter(*names) if more else lambda namespace: (namespace[only],)


def _functions(part: Any) -> Iterator[tuple[str, Any]]:
    """Functions, classes, methods and properties by name."""
    for name, member in vars(part).items():
        if name not in NO_FUNCTIONS and (callable(member) or hasattr(type(member), "__get__")):
            yield name, member


def _package_of(member: Any) -> str:
    module = getattr(member, "__module__", None)
    return _package(module) if isinstance(module, str) else ""
