"""Whether labels say what images show: each image's nearest class mean of the reference, in feature space.

If labels were drawn at random, an image's nearest class mean would be its label's with probability sum_c p_c q_c, p_c
being the share of label c and q_c the share of images nearest to the mean of c. Agreement within 4 standard errors of
that looks random. Labels whose numbers are exchanged agree little as they are, and well after the best renaming.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genbench.lint.base import LABELS, Finding

ERRORS = 4.0  # standard errors above chance that labels must reach: chance passes 1 set in 30,000
LEAST = 100  # images that the test needs
RENAMED, GAIN = 0.5, 0.3  # agreement after the best renaming, and how much of it the renaming must add
BLOCK, SEED = 4096, 0

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Agreement:
    """hits: images whose nearest class mean is their label's, of n; chance: hits expected of random labels.

    counts: (C, C) images by label and nearest mean.
    """

    hits: int
    chance: float
    n: int
    counts: NDArray[np.int64]

    @property
    def looks_random(self) -> bool:
        """Whether the hits are what random labels give."""
        if self.n < LEAST:
            return False
        share = self.chance / self.n
        return self.hits - self.chance < ERRORS * (self.n * share * (1 - share)) ** 0.5


def label_agreement(rows: Rows, labels: NDArray[np.int64], known: Rows, known_labels: NDArray[np.int64]) -> Agreement:
    """Of rows (N, D) with labels (N,), against the class means of known (M, D); labels of no known row are left out."""
    classes = np.unique(known_labels)
    means = np.stack([known[known_labels == c].mean(axis=0, dtype=np.float64) for c in classes])
    kept = np.isin(labels, classes)
    rows, place = rows[kept], np.searchsorted(classes, labels[kept])
    nearest = np.concatenate([_nearest(rows[i : i + BLOCK], means) for i in range(0, len(rows), BLOCK)] or [place])
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (place, nearest), 1)
    n = max(1, len(rows))
    return Agreement(int(np.trace(counts)), float(counts.sum(axis=1) @ counts.sum(axis=0)) / n, len(rows), counts)


def _nearest(rows: Rows, means: NDArray[np.float64]) -> NDArray[np.intp]:
    return (np.square(means).sum(axis=1) - 2 * rows.astype(np.float64) @ means.T).argmin(axis=1)


def label_findings(
    fake: NDArray[np.floating],
    fake_labels: NDArray[np.int64],
    real: NDArray[np.floating],
    real_labels: NDArray[np.int64],
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """What is reported of the labels of the generated images, and of the reference, by features (N, D) and (M, D)."""
    if len(np.unique(real_labels)) < 2 or len(np.unique(fake_labels)) < 2:
        return (), ()
    half = np.random.default_rng(SEED).permutation(len(real)) < len(real) // 2
    own = label_agreement(real[half], real_labels[half], real[~half], real_labels[~half])
    if own.looks_random:
        return (), (_random(own),)
    seen = label_agreement(fake, fake_labels, real, real_labels)
    renamed = _renamed(seen)
    if renamed:
        return (renamed,), ()
    return ((_random(seen),) if seen.looks_random else ()), ()


def _random(seen: Agreement) -> Finding:
    found = (
        f"labels look random: {seen.hits:,} of {seen.n:,} images are nearest to the mean of their own class of the "
        f"reference, {seen.chance:,.0f} by chance"
    )
    return Finding("labels-random", found, "a value by class is that of labels which do not name what is shown", LABELS)


def _renamed(seen: Agreement) -> Finding | None:
    """That the labels agree well after their numbers are exchanged."""
    from scipy.optimize import linear_sum_assignment  # late: half a second, and only labelled sets need it

    old, new = linear_sum_assignment(-seen.counts)
    best = int(seen.counts[old, new].sum())
    if seen.n < LEAST or best < RENAMED * seen.n or best - seen.hits < GAIN * seen.n:
        return None
    a, b = next((a, b) for a, b in zip(old.tolist(), new.tolist(), strict=True) if a != b and seen.counts[a].any())
    found = (
        f"labels are numbered differently from the reference's: {seen.hits:,} of {seen.n:,} images are nearest to the "
        f"mean of their own class, {best:,} after renaming, as {a} to {b} (in order of the labels)"
    )
    return Finding("labels-renamed", found, "a value by class compares different classes", LABELS)
