"""Makes the simulated second device exist in every process that has this folder on PYTHONPATH, from its start.

Python imports a module of this name when it starts, and so do worker processes and those that fork from them. The
device is called `other`, and `genbench ... --device other` then accepts it. Only rehearsals use this folder.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack

from genbench import machine
from tools.gpu.common import OTHER
from tools.gpu.devices import available, torch_device

plain = machine.choose_device


def choose_device(name: str) -> str:
    """As genbench.machine.choose_device; also accepts the simulated device, under its name and under torch's."""
    there = str(torch_device(OTHER))
    return there if name in (OTHER, there) else plain(name)


machine.choose_device = choose_device  # before any module imports it by name
installed = ExitStack()
installed.enter_context(available())
atexit.register(installed.close)
