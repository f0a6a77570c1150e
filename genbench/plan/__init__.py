"""From a suite to its cells: what each loads or trains, draws and measures, under which keys."""

from __future__ import annotations
