"""The training loop, the only code with optimisers."""

from __future__ import annotations
