"""Perceptual path length: how much the image changes along a short latent step (Karras et al. 2019, section 4.1).

    PPL = E[ d(G(z_0), G(z_0 + (z_1 - z_0) epsilon)) / epsilon^2 ],   z_0, z_1 from the prior

The step starts at the end of the path, as in torch-fidelity; the paper draws its position along the path and, for
normal latents, moves along a great circle (mode "slerp"). Images are not quantised: a step of 1e-4 moves pixels by less
than a grey level. The longest and the shortest steps are left out of the mean, as the paper's code does.

Values compare only under the same d. A model that maps every latent to the same image has length 0: read it together
with fid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.arrays import Array, with_normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.readings import PATHS

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.halving import AtOnce

_LOWER, _UPPER = 1.0, 99.0  # percentiles
N_PATHS, _EPSILON, _MODE, _SEED = 2_000, 1e-4, "lerp", 0
_BATCH = 250


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point a + (b - a) t of latents (B, ...)."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point t along the arc from a to b (B, ...), each image's latent one vector; lerp where they are parallel.

    a sin((1 - t) w) / sin w + b sin(t w) / sin w, w the angle between a and b (Shoemake 1985); no normalisation.
    """
    import torch

    x, y = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=1, eps=1e-12)[:, None]
    angle = cosine.clamp(-1, 1).acos()
    on_arc = (((1 - t) * angle).sin() * x + (t * angle).sin() * y) / angle.sin().clamp_min(1e-7)
    return torch.where(cosine.abs() > 1 - 1e-7, lerp(x, y, t), on_arc).view_as(a)


MODES: dict[str, Callable[[Any, Any, float], Any]] = {"lerp": lerp, "slerp": slerp}


def squared_difference(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The similarity |features(x) - features(y)|^2, in squared units of the features (B, ...): (B,).

    Quadratic in a small step, as LPIPS is, so that the quotient by epsilon^2 has a limit.
    """
    return lambda x, y: (features(x) - features(y)).flatten(1).square().sum(1)


def path_distances(
    model: Any,
    similarity: Callable[[Tensor, Tensor], Tensor],
    n: int = N_PATHS,
    seed: int = _SEED,
    epsilon: float = _EPSILON,
    mode: str = _MODE,
    batch: int = _BATCH,
    at_once: AtOnce | None = None,
) -> Array:
    """Distances of n steps over epsilon^2, (n,) float64, for a model that Decodes, in eval mode.

    similarity: (B,) distances of two batches of images (B, C, H, W), float in [0, 1] on the model's device.
    All latents are drawn first, so that batch changes no latent. Arithmetic is float32 whatever the precision of
    sampling: fewer digits than that lose the step. at_once: halves batches of steps that run out of memory. Raises
    GenbenchError for another n, epsilon or mode.
    """
    import torch

    from genbench.halving import AtOnce

    if n < 1 or not 0 < epsilon < 1 or mode not in MODES:
        raise GenbenchError(
            f"path_distances: found n={n}, epsilon={epsilon}, mode='{mode}'; "
            f"allowed: n of at least 1, epsilon between 0 and 1, mode {' or '.join(MODES)}"
        )
    full = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), full, torch.autocast(model.device.type, enabled=False):
        start, end = _ends(model, n, seed)
        near, sizes = MODES[mode](start, end, epsilon), at_once or AtOnce()
        steps = zip(start.split(batch), near.split(batch), strict=True)
        return (torch.cat([_between(model, similarity, *step, sizes) for step in steps]) / epsilon**2).numpy()


def _ends(model: Any, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The latents (n, ...) at both ends of n paths."""
    from genbench import returned
    from genbench.space import seeded

    gen = seeded(seed, model.device)
    return returned.latents(model, model.noise(n, gen), n), returned.latents(model, model.noise(n, gen), n)


def _between(
    model: Any, similarity: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, sizes: AtOnce
) -> Tensor:
    """The distances (B,) between the images of latents (B, ...), float64 on the CPU."""
    import torch

    from genbench import returned
    from genbench.halving import tolerance

    def decode(z: Tensor) -> Tensor:
        return returned.checked_images(model, model.decode(z), len(z), "decode")

    def between(i: int, j: int) -> Tensor:
        images = decode(torch.cat([first[i:j], second[i:j]]))
        return similarity(*in_unit_interval(images).chunk(2)).cpu().double()

    allowed = tolerance(model.device, "fp32")
    return sizes.rows(len(first), between, allowed, tested=lambda i, j: decode(first[i:j]))


def in_unit_interval(x: Tensor) -> Tensor:
    """Images in [-1, 1] as values in [0, 1], clamped."""
    return x.clamp(-1, 1).add(1).div(2)


def middle(distances: Any, lower: float, upper: float) -> tuple[Array, NDArray[np.bool_]]:
    """Distances (N,) as float64, clipped to the percentiles, and which of them lie between these: (N,)."""
    values = np.asarray(distances, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not 0 <= lower < upper <= 100:
        raise GenbenchError(
            f"perceptual_path_length: found distances of shape {values.shape}, percentiles {lower:g}..{upper:g}; "
            "allowed: (N,) with at least one, 0 <= lower < upper <= 100"
        )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise CellFailure(f"perceptual_path_length: {bad} of {len(values)} distances are not finite")
    low, high = np.percentile(values, lower, method="lower"), np.percentile(values, upper, method="higher")
    return values.clip(low, high), (low <= values) & (values <= high)


def perceptual_path_length(*, distances: Any, lower: float = _LOWER, upper: float = _UPPER) -> float:
    """Mean of the distances (N,) between two percentiles, these included; lower is smoother, at least 0.

    The percentiles are distances that occur: the next below `lower` and the next above `upper`. Raises GenbenchError
    for another shape or percentiles out of order, CellFailure for distances that are not finite.

        metrics.perceptual_path_length(distances=[1.0, 2.0, 3.0, 100.0], lower=0, upper=66)  # 2.00
    """
    values, kept = middle(distances, lower, upper)
    return float(values[kept].mean())


def ppl(*, distances: Any) -> Value:
    """perceptual_path_length with the interval of a trimmed mean (Tukey and McLaughlin 1963: winsorised spread)."""
    values, kept = middle(distances, _LOWER, _UPPER)
    effects = values / kept.mean()
    how = "of the trimmed mean, over path segments"
    return with_normal_interval(float(values[kept].mean()), effects, how, least=0.0)


PPL = Metric(
    name="ppl",
    title="PPL",
    version=1,
    better="lower",
    unit="distance / step^2",
    reads=PATHS,
    compute=ppl,
    abilities=("Decodes",),
    similarity="own",
    protocol={
        "paths": N_PATHS,
        "epsilon": _EPSILON,
        "interpolation": _MODE,
        "path_seed": _SEED,
        "percentiles": [_LOWER, _UPPER],
        "path_precision": "fp32",
        "quantisation": "none: the step is smaller than a grey level",
    },
    cannot_detect="Does not detect bad images: a model that always draws the same image has a path length of 0.",
)
