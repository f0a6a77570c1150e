"""Several processes that compute one batch together, each of them consecutive rows of it."""

from __future__ import annotations
