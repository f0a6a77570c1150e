"""Items of a step that ends in every way."""

from __future__ import annotations

import os
import time


def items(setting, name):
    """A value, a failure, a crash, or no end."""
    if name == "fails":
        raise ValueError("no such luck")
    if name == "dies":
        os._exit(3)
    if name == "hangs":
        time.sleep(100)
    return {"is": name}
