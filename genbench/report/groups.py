"""Groups of columns, for the page and for tables that are split; and the columns that are shown first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genbench.records import metric_name
from genbench.report.aggregate import Column
from genbench.report.training import TRAINING_TIME

OTHER = "other"
GROUPS: dict[str, tuple[str, ...]] = {
    "fidelity": (
        "fid", "fd_infinity", "sfid", "kid", "kid_subsets", "is", "precision", "density", "confidence",
        "clipped_density", "sliced_wasserstein", "mind", "cmmd", "fld", "ppl",
    ),
    "diversity": ("recall", "coverage", "clipped_coverage", "vendi", "rke", "rarest_class", "per_class_fid"),
    "memorisation": ("memorised", "authenticity", "ct_score"),
    "conditioning": (
        "class_accuracy", "prompt_agreement", "clip_score", "clip_agreement", "cas", "fid_a_to_b", "fid_b_to_a",
        "cycle_error", "paired_l1", "paired_ssim", "paired_lpips",
    ),
    "likelihood": ("bits_per_dim", "bits_per_dim_iwae", "bits_per_dim_ode"),
    "cost": ("images_per_second", "latency", TRAINING_TIME, "evaluations", "parameters", "peak_memory"),
}  # fmt: skip
OF_METRIC = {metric: group for group, metrics in GROUPS.items() for metric in metrics}
USUAL = ("fid", "kid", "precision", "recall", "memorised", "bits_per_dim", "images_per_second", TRAINING_TIME)


def group_of(metric: str) -> str:
    """The group of a metric; `other` for one that genbench does not ship."""
    return OF_METRIC.get(metric_name(metric), OTHER)


def grouped(columns: Iterable[Column]) -> dict[str, list[Column]]:
    """The columns by group, groups in a fixed order; empty groups are left out."""
    found: dict[str, list[Column]] = {group: [] for group in (*GROUPS, OTHER)}
    for column in columns:
        found[group_of(column.metric)].append(column)
    return {group: members for group, members in found.items() if members}


def shown_first(columns: Sequence[Column], filled: frozenset[str]) -> tuple[str, ...]:
    """The eight metrics of a table before a reader chooses: the usual ones, then others in order.

    filled: the metrics that some model has a value of.
    """
    names = [c.metric for c in columns if c.metric in filled]
    chosen = [m for m in USUAL if m in names]
    chosen += [m for m in names if m not in chosen][: len(USUAL) - len(chosen)]
    return tuple(c.metric for c in columns if c.metric in chosen)
