"""The sample linter: what about a set of images would make a number wrong, before any number is computed.

lint(pixels, 256)                           images in memory
inspect(Case(summary, 256, ...))            a summary gathered batch by batch (genbench.lint.summary.Gather)
lint_model(model)                           a model that is about to draw
"""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.data.image_set import Found
from genbench.lint.base import Case, Finding, concerning
from genbench.lint.checks import inspect, lint_model, needs_features, not_finite_findings, not_pixels
from genbench.lint.labels import label_findings
from genbench.lint.summary import SUMMARY_VERSION, Gather, Summary, load_summary, summarise

__all__ = [
    "SUMMARY_VERSION",
    "Case",
    "Finding",
    "Gather",
    "Summary",
    "concerning",
    "inspect",
    "label_findings",
    "lint",
    "lint_model",
    "load_summary",
    "needs_features",
    "summarise",
]


def lint(
    pixels: Tensor,
    levels: int,
    *,
    labels: Tensor | None = None,
    feature_dims: int | None = None,
    reference: Summary | Tensor | None = None,
    files: Found | None = None,
    not_finite: int = 0,
    ordered: bool = True,
    summary: Summary | None = None,
) -> tuple[Finding, ...]:
    """Findings about images (N, C, H, W) uint8 in 0 .. levels-1; () when there is nothing to say.

    labels: (N,), what was asked for. feature_dims: features a row, for what needs more samples than that. reference:
    what they are compared with. files: what their files say. not_finite: images that held NaN or infinity before they
    were quantised. ordered: whether their order is the maker's, not that of folders. summary: of pixels, where it
    is known. Images of another type are reported as such and not looked into.
    """
    if pixels.dtype != torch.uint8:
        return not_pixels(pixels)
    other = summarise(reference) if isinstance(reference, Tensor) else reference
    case = Case(summary or summarise(pixels), levels, labels, feature_dims, other, files or Found(), ordered)
    return (*not_finite_findings(not_finite, len(pixels)), *inspect(case))
