"""Exceptions as reasons: one printable line, whatever a user's code raises."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from genbench.errors import CellFailure, GenbenchError
from genbench.text import printable, without_secrets

LONGEST_REASON, LONGEST_NAME = 300, 100  # characters of an exception's text, and of its class or a function
# Words of the allocators' errors: CUDA's and MPS's; torch's and Python's on a CPU; cuBLAS's and cuDNN's.
ALLOCATORS = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
INSTALLED = ("site-packages", "dist-packages", str(Path(os.__file__).parent), str(Path(__file__).parent))


def explain(error: BaseException) -> str:
    """An exception as one sentence for a record."""
    text = one_line(error)
    if isinstance(error, CellFailure | GenbenchError):
        return text
    return out_of_memory(error) or f"{_name(type(error).__name__)}{': ' * bool(text)}{text}{raised_at(error)}"


def text_of(error: BaseException) -> str:
    """str(error), which code of a class of the user's may compute."""
    try:
        return str(error)
    except Exception:
        return "its text cannot be read"


def one_line(error: BaseException) -> str:
    """The text of an exception alone, in one line."""
    return _shown(text_of(error))


def out_of_memory(error: BaseException) -> str:
    """A sentence for an error of an allocator, of torch or of Python; "" for another error."""
    text = one_line(error)
    if isinstance(error, CellFailure | GenbenchError):
        return ""
    torch = sys.modules.get("torch")  # otherwise the error is none of its own
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, kinds) or any(w in text.lower() for w in ALLOCATORS):
        return f"out of memory: {text}" if text else "out of memory"
    return ""


def raised_at(error: BaseException) -> str:
    """Where in the user's own code, as " (my_flow.py:61, in loss)"; "" where there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_own_code(f.filename)]
    if not frames:
        return ""
    return f" ({_name(Path(frames[-1].filename).name)}:{frames[-1].lineno}, in {_name(frames[-1].name)})"


def _shown(text: str) -> str:
    return printable(without_secrets(" ".join(text.split()), os.environ)[:LONGEST_REASON])


def _name(text: str) -> str:
    return _shown(text)[:LONGEST_NAME]


def _is_own_code(filename: str) -> bool:
    return not filename.startswith("<") and not any(part in filename for part in INSTALLED)
