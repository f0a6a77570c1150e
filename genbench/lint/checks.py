"""The linter's checks: each a pure function from what is known of a set of images to a finding or None.

Every threshold stands beside its reason. The two tests that could be wrong by chance (order and block edges) ask for
both an effect of some size and 6 standard errors: under one false alarm in a million sets whose images are clean and
in random order, by the normal approximation that both follow from 100 images on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genbench.lint.base import BY_LABEL, LABELS, REFERENCE, Case, Finding, part_of
from genbench.lint.files import of_files
from genbench.lint.summary import Summary
from genbench.metrics.base import Metric

ERRORS = 6.0  # standard errors that chance must be away
SHARE = 0.001  # of the images, below which a constant or a repeated one moves no number that is shown
ENOUGH = 2_000  # samples below which several numbers still move with how many there are
LEAST = 100  # images that a test by chance needs
SINGULAR = ("fid", "sfid")  # metrics that read the covariance of all features
BIASED = (  # other metrics whose expected value depends on the number of samples
    "is", "per_class_fid", "vendi", "rke", "precision", "recall", "density", "coverage", "clipped_coverage",
    "sliced_wasserstein", "mind",
    "cmmd", "fld",
)  # fmt: skip


SetCheck = Callable[[Case], Finding | None]


def out_of_range(case: Case) -> Finding | None:
    """Grey levels that fill no more than half of their range."""
    top, lowest, highest = case.levels - 1, case.images.lowest, case.images.highest
    wrong = "pictures so dark or so bright are far from every reference, and the value measures their scale alone"
    if highest <= 1 < top:
        return Finding("range", f"no pixel is above {highest} of {top}, as when 0..1 is stored as whole numbers", wrong)
    if highest < top / 2 and not _shared(case, highest):
        return Finding("range", f"no pixel is above {highest} of {top}, less than half of the range", wrong)
    if lowest > 0.45 * top and not (case.reference and case.reference.lowest > 0.45 * top):
        return Finding("range", f"no pixel is below {lowest} of {top}, as when 0..1 is taken for -1..1", wrong)
    return None


def _shared(case: Case, highest: int) -> bool:
    return case.reference is not None and case.reference.highest <= highest


def constant(case: Case) -> Finding | None:
    """Images of one grey level."""
    count, n = case.images.constant, case.images.count
    if count < max(1, SHARE * n):
        return None
    found = f"{part_of(count, n)} images are one flat colour"
    return Finding("constant", found, "blank pictures count like any others, whatever these look like")


def duplicate(case: Case) -> Finding | None:
    """Images that repeat an earlier one exactly."""
    n = case.images.count
    count = n - len(np.unique(case.images.hashes))
    if count < max(1, SHARE * n):
        return None
    found = f"{part_of(count, n)} images repeat another one exactly"
    wrong = "there are fewer different samples than are counted, so that intervals are too narrow"
    return Finding("duplicates", found, wrong)


def copied(case: Case) -> Finding | None:
    """Images that the reference holds too."""
    if case.reference is None:
        return None
    count, n = int(np.isin(case.images.hashes, case.reference.hashes).sum()), case.images.count
    if count < max(1, SHARE * n):
        return None
    if case.images.pixel_hash == case.reference.pixel_hash:
        wrong = "distances of 0 and shares of 1, which say nothing"
        return Finding("same-set", "the two sets are one and the same", wrong, REFERENCE)
    found = f"{part_of(count, n)} images are exact copies of reference images"
    wrong = "copies score better than any model that has to make its images"
    return Finding("copies", found, wrong, REFERENCE)


def sorted_by_class(case: Case) -> Finding | None:
    """Neighbours in the set that are alike."""
    n = case.images.count
    if n < LEAST or not case.ordered:
        return None
    labels = case.labels
    values = torch.from_numpy(case.images.thumbs) if labels is None else F.one_hot(labels.long().cpu())
    correlation, errors = neighbours(values)
    if errors < ERRORS or correlation < 0.1:  # 0.1: far below a sorted set, far above what writers of digits leave
        return None
    what = "images" if labels is None else "labels"
    found = f"neighbouring {what} are alike (correlation {correlation:.2f}): the images are sorted, as class by class"
    wrong = "splits or a first part of them show few classes, and an Inception Score without shuffling is far too low"
    return Finding("sorted", found, wrong, metrics=("is",))


def one_class(case: Case) -> Finding | None:
    """Labels that are all the same."""
    if case.labels is None or len(case.labels.unique()) > 1:
        return None
    found = f"all {case.images.count:,} labels are {int(case.labels[0])}"
    return Finding("one-class", found, "what is measured by class is measured of this class alone", LABELS)


def neighbours(values: Tensor) -> tuple[float, float]:
    """Correlation of rows (N, D) with the next row, and how many standard errors it is above that of a random order.

    With centred rows x_i, S = sum of x_i'x_(i+1) has, over random orders, mean -tr C and variance (N - 1) tr C^2 for
    large N, C being the covariance (Wald and Wolfowitz 1943 for D = 1).
    """
    rows = values.double()
    rows = rows - rows.mean(0)
    covariance = rows.T @ rows / len(rows)
    total, power = float((rows[1:] * rows[:-1]).sum()), float(rows.square().sum())
    if power == 0:
        return 0.0, 0.0
    spread = float(((len(rows) - 1) * covariance.square().sum()).sqrt())
    return total / power, (total + float(covariance.trace())) / spread


def lossy(case: Case) -> Finding | None:
    """Pictures coded with loss, by their files or by the edges of the 8 x 8 blocks of JPEG."""
    wrong = "what the coding adds or takes away counts as the model's"
    note = case.files.notes.get("lossy")
    if note:
        found = f"{part_of(note.count, case.images.count)} pictures are JPEG or lossy WebP, first {note.first}"
        return Finding("lossy", found, wrong)
    if not has_block_edges(case.images):
        return None
    return Finding("lossy", "steps stand out at every 8th pixel, as JPEG leaves them in decoded pictures", wrong)


def has_block_edges(images: Summary) -> bool:
    """Whether steps at the edges of 8 x 8 blocks stand out from those at other positions, for 32 x 32 pixels on.

    Positions 0 and 6 are the sides of an edge, and lower on its account. 0.05 of a mean step: JPEG of quality 95 gives
    0.1 to 0.2 on photographs, which themselves stay below 0.01; drawings go up to 0.1, at every position alike.
    """
    if min(images.shape[2:]) < 32 or len(images.edges) < LEAST:
        return False
    mean, error = _mean_and_error(images.edges)
    return bool(mean[7] > max(0.05, 2.5 * np.abs(mean[1:6]).max()) and mean[7] > ERRORS * error[7])


def enlarged(case: Case) -> Finding | None:
    """Images that were made smaller and blown up."""
    wrong = "a set without fine detail is far from a sharp one, so that the value measures the resizing"
    if is_doubled(case.images):
        return Finding("upscaled", "every second step between pixels is smaller, as in images enlarged two-fold", wrong)
    if case.reference is None or not len(case.images.detail) or not len(case.reference.detail):
        return None
    mine, theirs = float(np.median(case.images.detail)), float(np.median(case.reference.detail))
    if mine >= 0.1 * theirs:  # enlarged 2x: 0.02 to 0.08; a Gaussian blur of 0.7 pixels: 0.11
        return None
    found = f"{mine:.2%} of the power is fine detail, {theirs:.2%} in the reference: enlarged or smoothed images"
    return Finding("upscaled", found, wrong)


def is_doubled(images: Summary) -> bool:
    """Whether steps between pixels are larger and smaller in turn, as interpolation to twice the size leaves them."""
    if len(images.edges) < LEAST:
        return False
    mean, error = _mean_and_error(images.edges)
    turns = mean * np.array([1, -1] * 4) * np.sign(mean[0])  # all positive where larger and smaller take turns
    return bool((turns > np.maximum(0.1, ERRORS * error)).all())


def _mean_and_error(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean(0, dtype=np.float64), rows.std(0, ddof=1, dtype=np.float64) / len(rows) ** 0.5


def grey_as_colour(case: Case) -> Finding | None:
    """Images in three equal channels."""
    images, reference = case.images, case.reference
    if images.shape[1] == 1 or images.grey < images.count:
        return None
    if reference is not None and (reference.shape[1] == 1 or reference.grey == reference.count):
        return None
    found = "every image is grey, stored in three equal channels"
    return Finding("grey", found, "beside a reference in colour, the missing colour is measured", REFERENCE)


def singular(case: Case) -> Finding | None:
    """No more samples than features."""
    n, dims = case.images.count, case.feature_dims
    if dims is None or n > dims:
        return None
    found = f"{n:,} samples for {dims:,} features: their covariance is singular"
    wrong = "the distance is far too high, by an amount that depends on the number of samples"
    return Finding("too-few", found, wrong, metrics=SINGULAR)


def few(case: Case) -> Finding | None:
    """So few samples that some numbers still depend on how many there are."""
    n, dims = case.images.count, case.feature_dims
    if dims is None or n >= ENOUGH:
        return None
    wrong = "the value depends on the number of samples; compare equal numbers only"
    metrics = BIASED if n <= dims else (*SINGULAR, *BIASED)
    return Finding("few", f"{n:,} samples, fewer than {ENOUGH:,}", wrong, metrics=metrics)


def needs_features(metric: Metric) -> bool:
    """Whether a finding that is made from features, or from their number, could concern the metric."""
    return metric.reads.through_extractor or metric.name in BIASED or metric.reads.name in BY_LABEL


CHECKS: tuple[SetCheck, ...] = (
    out_of_range, constant, duplicate, copied, sorted_by_class, one_class, lossy, enlarged, grey_as_colour, singular,
    few,
)  # fmt: skip


def inspect(case: Case) -> tuple[Finding, ...]:
    """What all checks find."""
    found = [check(case) for check in CHECKS]
    return (*of_files(case), *(finding for finding in found if finding is not None))


def lint_model(model: nn.Module) -> tuple[Finding, ...]:
    """Whether a model that is about to draw has modules in training mode."""
    names = [name or type(module).__name__ for name, module in model.named_modules() if module.training]
    if not names:
        return ()
    found = f"{len(names)} modules are in training mode, first {names[0]}"
    wrong = "dropout and batch statistics make samples worse, and dependent on their batch; call model.eval()"
    return (Finding("train-mode", found, wrong),)


def not_pixels(pixels: Tensor) -> tuple[Finding, ...]:
    """What is wrong with images that are not uint8."""
    values = pixels.double()
    finite = values[values.isfinite()]
    ends = f" from {float(finite.min()):.4g} to {float(finite.max()):.4g}" if len(finite) else ""
    kind = Finding(
        "dtype",
        f"images of {str(pixels.dtype).removeprefix('torch.')}{ends}, not uint8 grey levels",
        "a metric that guesses their scale is off by all of it",
    )
    bad = int((~values.isfinite()).flatten(1).any(1).sum())
    return (kind, *not_finite_findings(bad, len(pixels))) if bad else (kind,)


def not_finite_findings(count: int, n: int) -> tuple[Finding, ...]:
    """That images hold values that are not finite; they are counted and never dropped."""
    if not count:
        return ()
    found = f"{part_of(count, n)} images hold NaN or infinity"
    return (Finding("not-finite", found, "dropped, they would leave only the good images; kept, they show as black"),)
