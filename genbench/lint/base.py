"""What the linter looks at, and what it reports: findings, each with the metrics whose values it would make wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from genbench.data.image_set import Found
from genbench.lint.summary import Summary
from genbench.metrics.base import Metric

SAMPLES, REFERENCE, LABELS = "samples", "reference", "labels"
BY_LABEL = ("by class", "condition", "labelled")  # readings of labels


@dataclass(frozen=True)
class Finding:
    """Something about a set of images that would make a number wrong.

    code: a short name. found: what was seen. prevents: the wrong number that comes of it. scope: which
    metrics it concerns: SAMPLES all that see the images, REFERENCE those that compare them with the reference, LABELS
    those that read labels. metrics: only metrics of these names; () for all of the scope.
    """

    code: str
    found: str
    prevents: str
    scope: str = SAMPLES
    metrics: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Both as one sentence."""
        return f"{self.found}: {self.prevents}"

    def __str__(self) -> str:
        return self.text

    def concerns(self, metric: Metric) -> bool:
        """Whether the metric's value would be wrong."""
        if self.metrics:
            return metric.name in self.metrics
        reads = metric.reads
        if self.scope == LABELS:
            return reads.name in BY_LABEL
        return reads.against_reference if self.scope == REFERENCE else reads.of_samples


def concerning(findings: Iterable[Finding], metrics: Iterable[Metric]) -> tuple[Finding, ...]:
    """The findings that concern any of the metrics, in order."""
    wanted = tuple(metrics)
    return tuple(finding for finding in findings if any(finding.concerns(metric) for metric in wanted))


@dataclass(frozen=True, eq=False)
class Case:
    """What is known: the summary, grey levels, labels (N,) or None, features a row, the reference, and the files.

    ordered: whether the order of the images is their maker's, and not that of folders.
    """

    images: Summary
    levels: int
    labels: Tensor | None = None
    feature_dims: int | None = None
    reference: Summary | None = None
    files: Found = field(default_factory=Found)
    ordered: bool = True


def part_of(count: int, n: int) -> str:
    """A part of a set, for a message."""
    return f"{count:,} of {n:,}"
