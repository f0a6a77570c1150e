"""Draws samples in fixed blocks, and measures the cost of drawing."""

from __future__ import annotations

from genbench.draw.blocks import draw_block

__all__ = ["draw_block"]
