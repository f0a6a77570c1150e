"""Drawing samples in fixed blocks, and what drawing costs."""

from __future__ import annotations

from genbench.draw.blocks import draw_block

__all__ = ["draw_block"]
