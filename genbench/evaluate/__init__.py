"""From samples to values: what metrics read, one cell of a suite, two sets of images."""

from __future__ import annotations
