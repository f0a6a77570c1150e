"""How well images are translated: against themselves after both directions, against counterparts, and as a set.

A metric that reads "translation" receives a_to_b and b_to_a, a `Direction` each:

    source       (N, C, H, W) real held-out images of the direction's first domain
    translated   (N, C, H, W) the same, translated to the second domain
    back         (N, C, H, W) translated, translated by the other direction
    target       (N, C, H, W) the true counterpart of each source image, or None where images have none
    fake, real   (N, D), (M, D) features of translated, and of real images of the second domain
    perceptual   (N,) LPIPS or another distance of translated from target, or None where it was not computed

Images are pixel values k / (levels - 1) in [0, 1]. translated is quantised to grey levels before it is translated back:
networks learn to hide the source in invisible differences (Chu et al. 2017), which a saved image would lose.
`there_and_back` does that.

    cycle_error          mean |back - source|                            both directions, averaged
    paired_l1            mean |translated - target|                      both directions, averaged
    paired_ssim          structural similarity of translated and target  both directions, averaged
    paired_lpips         mean of perceptual                              both directions, averaged
    fid_a_to_b           Frechet distance of fake and real               that direction alone
    fid_b_to_a           the same in the other direction
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench.errors import CellFailure, GenbenchError, Undefined
from genbench.metrics.arrays import Z95, Array, standard_error
from genbench.metrics.base import Metric, Value
from genbench.metrics.frechet import fid
from genbench.metrics.readings import TRANSLATION

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.halving import AtOnce

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III.C
_BATCH = 256  # images converted to float64 at a time


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction's images, features and distances; see the module's docstring."""

    source: Any
    translated: Any
    back: Any
    fake: Any
    real: Any
    target: Any | None = None
    perceptual: Any | None = None


def there_and_back(
    model: Any, pixels: Tensor, direction: str, batch: int = _BATCH, at_once: AtOnce | None = None
) -> tuple[Tensor, Tensor]:
    """Translated and back, (N, C, H, W) uint8 each, of source pixels (N, C, H, W) uint8 by a model that Translates.

    direction: "a_to_b" or "b_to_a"; back goes the other way from the quantised images. Run it in eval mode.
    at_once: halves batches that run out of memory.
    """
    import torch

    from genbench import returned
    from genbench.halving import AtOnce, tolerance
    from genbench.space import to_pixels, to_unit_range

    levels, device = model.data.levels, model.device
    other = {"a_to_b": "b_to_a", "b_to_a": "a_to_b"}[direction]
    there, back, sizes = [], [], at_once or AtOnce()

    def translate(shown: Tensor, way: str) -> Tensor:
        def images(i: int, j: int) -> Tensor:
            result = model.translate(to_unit_range(shown[i:j], levels), way)
            return returned.checked_images(model, result, j - i, "translate")

        return to_pixels(sizes.rows(len(shown), images, tolerance(device, "fp32")), levels)

    with torch.inference_mode():
        for part in pixels.split(batch):
            seen = translate(part.to(device), direction)
            there.append(seen.cpu())
            back.append(translate(seen, other).cpu())
    return torch.cat(there), torch.cat(back)


def _unit_images(name: str, pixels: Any) -> np.ndarray[Any, Any]:
    """An array (N, C, H, W) of values in [0, 1].

    Raises GenbenchError for another shape or range, CellFailure when a value is not finite.
    """
    array = np.asarray(pixels)
    if array.ndim != 4 or not array.size:
        raise GenbenchError(f"{name}: found an array of shape {array.shape}, allowed: (N, C, H, W)")
    if not np.isfinite(array).all():
        raise CellFailure(f"{name}: holds a value that is not finite")
    if array.dtype == np.uint8 or array.min() < 0 or array.max() > 1:
        raise GenbenchError(f"{name}: found {array.dtype} in {array.min():g}..{array.max():g}, allowed: floats in 0..1")
    return array


def per_image(x: Any, y: Any, measure: Callable[[Array, Array], Array]) -> Array:
    """`measure` of images x and y (N, C, H, W), some at a time in float64: (N,). Raises as `images`."""
    x, y = _unit_images("x", x), _unit_images("y", y)
    if x.shape != y.shape:
        raise GenbenchError(f"x has shape {x.shape} and y {y.shape}; must agree")
    starts = range(0, len(x), _BATCH)
    parts = [measure(x[i : i + _BATCH].astype(np.float64), y[i : i + _BATCH].astype(np.float64)) for i in starts]
    return np.concatenate(parts)


def l1(*, x: Any, y: Any) -> Array:
    """Mean absolute difference of pixel values of images x, y (N, C, H, W) in [0, 1]: (N,)."""
    return per_image(x, y, lambda a, b: np.abs(a - b).mean(axis=(1, 2, 3)))


def ssim(*, x: Any, y: Any) -> Array:
    """Structural similarity of images x, y (N, C, H, W) in [0, 1], mean over positions and channels: (N,), -1..1.

    Wang et al. 2004, eq. 13 with L = 1: means, variances and covariance under a Gaussian window (11 x 11, sigma 1.5,
    sum 1) wherever it lies inside the image. An image with a side below 11 has the largest odd window that fits it.
    """
    return per_image(x, y, lambda a, b: ssim_map(a, b).mean(axis=(1, 2, 3)))


def ssim_map(x: Array, y: Array) -> Array:
    """Structural similarity at each position of the window: (N, C, H - w + 1, W - w + 1)."""
    smaller = min(x.shape[2:])
    window = gaussian(min(_WINDOW, smaller - (smaller + 1) % 2))
    mean = partial(filtered, window=window)
    m_x, m_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - m_x**2, mean(y * y) - m_y**2, mean(x * y) - m_x * m_y
    c_1, c_2 = _K1**2, _K2**2
    return (2 * m_x * m_y + c_1) * (2 * cov + c_2) / ((m_x**2 + m_y**2 + c_1) * (var_x + var_y + c_2))


def gaussian(size: int) -> Array:
    """Weights of a Gaussian window of sigma 1.5 along one side, sum 1: (size,)."""
    weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / _SIGMA) ** 2)
    return weights / weights.sum()


def filtered(x: Array, window: Array) -> Array:
    """Weighted means of x (..., H, W) under window (w,) along both sides, where it lies inside."""
    rows, columns = x.shape[-2] - len(window) + 1, x.shape[-1] - len(window) + 1
    x = sum(w * x[..., i : i + rows, :] for i, w in enumerate(window))
    return sum(w * x[..., i : i + columns] for i, w in enumerate(window))


def both(scores: tuple[Array, Array], least: float = -np.inf) -> Value:
    """The average of two directions' means, of scores (N,) and (M,).

    Half the sum of the two intervals' widths: exact if both directions have the same errors, too wide if these are
    independent.
    """
    value = float(scores[0].mean() + scores[1].mean()) / 2
    if min(len(s) for s in scores) < 2:
        return Value(value)
    half = Z95 * (standard_error(scores[0]) + standard_error(scores[1])) / 2
    how = "normal 95 %: +- 1.96 standard errors over images, averaged over the two directions"
    return Value(value, max(least, value - half), value + half, how)


def target(direction: Direction) -> Any:
    """The counterparts; raises Undefined where there are none."""
    if direction.target is None:
        raise Undefined("the dataset's images have no counterparts in the other domain")
    return direction.target


def distances(direction: Direction) -> Array:
    """The perceptual distances (N,); raises CellFailure where there are none or one is not finite."""
    if direction.perceptual is None:
        target(direction)
        raise CellFailure("paired_lpips: no perceptual distance was computed: it needs counterparts and its weights")
    values = np.asarray(direction.perceptual, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise GenbenchError(f"perceptual: found an array of shape {values.shape}, allowed: (N,)")
    if not np.isfinite(values).all():
        raise CellFailure("perceptual: holds a value that is not finite")
    return values


def cycle_error(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """How far images are from themselves after both translations: mean |back - source|, 0..1; 0 is best."""
    return both((l1(x=a_to_b.back, y=a_to_b.source), l1(x=b_to_a.back, y=b_to_a.source)), least=0.0)


def paired_l1(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """Mean |translated - target|, 0..1; 0 is best."""
    return both((l1(x=a_to_b.translated, y=target(a_to_b)), l1(x=b_to_a.translated, y=target(b_to_a))), least=0.0)


def paired_ssim(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """Mean structural similarity of translated and target; 1 is best."""
    return both((ssim(x=a_to_b.translated, y=target(a_to_b)), ssim(x=b_to_a.translated, y=target(b_to_a))))


def paired_lpips(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """Mean perceptual distance of translated from target; 0 is best."""
    return both((distances(a_to_b), distances(b_to_a)), least=0.0)


def fid_a_to_b(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """Frechet distance of images translated from a to b from real images of b; b_to_a is not used."""
    return fid(fake=a_to_b.fake, real=a_to_b.real)


def fid_b_to_a(*, a_to_b: Direction, b_to_a: Direction) -> Value:
    """Frechet distance of images translated from b to a from real images of a; a_to_b is not used."""
    return fid(fake=b_to_a.fake, real=b_to_a.real)


def _declare(
    name: str,
    title: str,
    unit: str,
    compute: Callable[..., Value],
    cannot_detect: str,
    similarity: str = "",
    **protocol: Any,
) -> Metric:
    """A metric of a model that Translates; lower is better except for similarity."""
    better = "higher" if compute is paired_ssim else "lower"
    return Metric(
        name, title, 1, better, unit, TRANSLATION, compute, ("Translates",), protocol, similarity=similarity,
        cannot_detect=cannot_detect,
    )  # fmt: skip


_AVERAGED: dict[str, Any] = {"directions": "both, averaged"}
_CYCLE: dict[str, Any] = {"translated": "quantised before the way back"}
_SSIM: dict[str, Any] = {
    "window": "Gaussian 11x11, sigma 1.5, inside the image; the largest odd one that fits smaller images",
    "constants": [_K1, _K2],
    "channels": "averaged",
}
_FRECHET: dict[str, Any] = {"covariance": "divided by n - 1", "arithmetic": "float64"}

_NO_CHANGE = "Does not detect whether the translation is right: a model that changes nothing has an error of 0."
_BLUR = "Does not detect blur reliably, nor that a translation which differs from the paired image is plausible."
_PLAUSIBLE = "Does not detect that a translation which differs from the paired image is plausible."
_ANY_ORDER = (
    "Does not detect translations that ignore their input, nor differences beyond mean and covariance of features."
)

TRANSLATIONS = (
    _declare("cycle_error", "Cycle error", "grey range", cycle_error, _NO_CHANGE, **_CYCLE, **_AVERAGED),
    _declare("paired_l1", "Paired L1", "grey range", paired_l1, _BLUR, **_AVERAGED),
    _declare("paired_ssim", "Paired SSIM", "similarity", paired_ssim, _PLAUSIBLE, **_SSIM, **_AVERAGED),
    _declare("paired_lpips", "Paired LPIPS", "distance", paired_lpips, _PLAUSIBLE, "lpips-vgg16", **_AVERAGED),
    _declare("fid_a_to_b", "FID, A to B", "feature^2", fid_a_to_b, _ANY_ORDER, **_FRECHET),
    _declare("fid_b_to_a", "FID, B to A", "feature^2", fid_b_to_a, _ANY_ORDER, **_FRECHET),
)  # fmt: skip
