"""What the server that starts workers does once, so that no worker has to do it. The server alone imports this, last.

Workers share its memory until one of them writes to it. The garbage collector would write to all objects; those that
exist here are therefore excluded from collection.
"""

from __future__ import annotations

import gc
import importlib

from genbench.options import NoOptions
from genbench.registry import scan
from genbench.suite.options import checked_options
from genbench.suite.yaml_source import SuiteSource

# What nearly every evaluation imports when it needs it.
USED = (
    "genbench.data.declared", "genbench.features.declared", "genbench.features.torchscript", "encodings.cp437",
    "numpy.ma", "numpy.random", "torch.utils._device", "zoneinfo",
)  # fmt: skip

for module in USED:
    importlib.import_module(module)
scan()
checked_options(NoOptions, {}, source=SuiteSource(), loc=(), name="none")  # pydantic looks for its plug-ins once
gc.collect()
gc.freeze()
