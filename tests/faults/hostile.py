"""Models that change their process, as a third party's `file.py:Class`; HOSTILE says what each does and how it ends.

Every class is Quiet with code before its drawing; NAMEBuilt does the same in its constructor. words: a part of the
reason with which FID fails; "" for a change that must have no effect, so that its FID is that of Quiet.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import io
import locale
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from genbench.contract import Draws

HOSTILE: dict[str, str] = {}
ACTIONS: dict[str, Callable[[], Any]] = {}


class Quiet(Draws):
    """Draws noise."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.scale = nn.Parameter(torch.ones(2))

    def sample(self, n, gen, condition=None):
        return torch.rand(n, *self.data.shape, generator=gen, device=gen.device, dtype=torch.float32)


def hostile(name: str, action: Callable[[], Any], words: str = "") -> None:
    """Adds a class that acts before each drawing, and one that acts in its constructor."""

    def sample(self: Any, n: int, gen: Any, condition: Any = None) -> Any:
        action()
        return Quiet.sample(self, n, gen)

    def build(self: Any, data: Any, config: Any = None, sampler: Any = None) -> None:
        Quiet.__init__(self, data, config, sampler)
        action()

    for label, method, function in ((name, "sample", sample), (f"{name}Built", "__init__", build)):
        globals()[label] = type(label, (Quiet,), {method: function, "__module__": __name__})
    HOSTILE[name], ACTIONS[name] = words, action


def deep(depth: int = 0) -> int:
    """A recursion without an end."""
    return deep(depth + 1) + 1


def raising(error: BaseException) -> Callable[[], Any]:
    """An action that raises."""

    def action() -> None:
        raise error

    return action


def survivor() -> None:
    """A child that lives on with what its parent has open."""
    if not os.fork():
        time.sleep(3)
        os._exit(0)


def close_all() -> None:
    """No descriptor stays open, the connection to the command included."""
    os.closerange(3, 256)


def no_output() -> None:
    """Standard output and errors are closed."""
    sys.stdout.close()
    sys.stderr.close()


def no_memory() -> None:
    """No further memory can be allocated."""
    resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))
    torch.zeros(10**8)


def no_modules() -> None:
    """Nothing of genbench is imported any more."""
    for name in [name for name in sys.modules if "genbench" in name]:
        del sys.modules[name]


class OddError(Exception):
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


HARMLESS: dict[str, Callable[[], Any]] = {
    "SeedsNumpy": lambda: np.random.seed(0),  # noqa: NPY002
    "SeedsRandom": lambda: random.seed(0),
    "SeedsTorch": lambda: torch.manual_seed(0),
    "DefaultFloat16": lambda: torch.set_default_dtype(torch.float16),
    "Deterministic": lambda: torch.use_deterministic_algorithms(True),
    "NoGradients": lambda: torch.set_grad_enabled(False),
    "DefaultMeta": lambda: torch.set_default_device("meta"),
    "Anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "ChangesFolder": lambda: os.chdir("/"),
    "Environment": lambda: os.environ.update(GENBENCH_CACHE="/nowhere", HOME="/no"),
    "NoEnvironment": os.environ.clear,
    "Umask": lambda: os.umask(0o777),
    "Locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "IgnoresSignals": lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGALRM)],
    "AtExit": lambda: atexit.register(lambda: 1 / 0),
    "AtExitExits": lambda: atexit.register(os._exit, 7),
    "ClosesOutput": no_output,
    "NoStreams": lambda: setattr(sys, "stdout", None) or setattr(sys, "stderr", None),
    "ReplacesOutput": lambda: setattr(sys, "stdout", io.StringIO()),
    "ClosesDescriptors": lambda: os.closerange(0, 3),
    "Prints": lambda: print("\x1b[2J" * 10_000),
    "PrintsBytes": lambda: os.write(1, b"\xff\x1b[31m\n"),
    "Warns": lambda: [warnings.warn(f"planted {i}", stacklevel=1) for i in range(500)],
    "WarningsRaise": lambda: warnings.simplefilter("error"),
    "Thread": lambda: threading.Thread(target=time.sleep, args=(60,)).start(),
    "FailingThread": lambda: threading.Thread(target=raising(ValueError("of a thread"))).start(),
    "Survivor": survivor,
    "Daemon": lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"]),
    "NoCollection": gc.disable,
    "Recursion": lambda: sys.setrecursionlimit(10**6),
    "Trace": lambda: sys.settrace(lambda *_: None),
    "Profile": lambda: sys.setprofile(lambda *_: None),
    "Hook": lambda: setattr(sys, "excepthook", raising(ValueError())),
    "PatchesTorch": lambda: setattr(torch, "isfinite", raising(ValueError("of another model"))),
    "PatchesBuiltins": lambda: setattr(builtins, "sum", max),
    "PatchesTime": lambda: setattr(time, "perf_counter", lambda: 0.0),
    "ClearsPath": lambda: sys.path.clear(),
    "Threads": lambda: torch.set_num_threads(64),
    "Affinity": lambda: os.sched_setaffinity(0, {0}),
    "Priority": lambda: os.nice(19),
    "Alarm": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "NumpyErrors": lambda: np.seterr(all="raise"),
}
for harmless in HARMLESS:
    hostile(harmless, HARMLESS[harmless])

for label, change, words in (
    ("Exits", lambda: os._exit(5), "its worker died (exit code 5)"),
    ("ExitsWell", lambda: os._exit(0), "its worker died (exit code 0)"),
    ("SystemExits", lambda: sys.exit("planted"), "SystemExit: planted"),
    ("SystemExitsWell", lambda: sys.exit(), "SystemExit"),
    ("Aborts", os.abort, "signal 6"),
    ("Segfaults", lambda: ctypes.string_at(0), "signal 11, SIGSEGV"),
    ("Interrupts", raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    ("GeneratorExits", raising(GeneratorExit()), "GeneratorExit"),
    ("StopIterations", raising(StopIteration()), "StopIteration"),
    ("BaseExceptions", raising(BaseException("planted")), "BaseException: planted"),
    ("Terminates", lambda: os.kill(os.getpid(), signal.SIGTERM), ""),
    ("InterruptsItself", lambda: os.kill(os.getpid(), signal.SIGINT), ""),
    ("Recurses", deep, "RecursionError"),
    ("ClosesAll", close_all, "its worker"),
    ("LimitsFiles", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), "File too large"),
    ("LimitsDescriptors", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)), "Errno 24"),
    ("LimitsProcessor", lambda: resource.setrlimit(resource.RLIMIT_CPU, (0, 0)), "signal"),
    ("LimitsMemory", no_memory, "out of memory"),
    ("ClearsModules", no_modules, "its worker"),
    ("OddErrors", raising(OddError()), "OddError: its text cannot be read"),
    ("LongErrors", raising(ValueError("x" * 10**7)), "ValueError: xxx"),
    ("LineErrors", raising(ValueError("one\ntwo\x1b[2J\u202e")), "one two"),
    ("SurrogateErrors", raising(ValueError("\ud800")), "ValueError"),
    ("Groups", raising(ExceptionGroup("planted", [ValueError("a"), KeyError("b")])), "planted"),
    ("OutOfMemory", raising(MemoryError("planted")), "out of memory"),
):  # fmt: skip
    hostile(label, change, words)
