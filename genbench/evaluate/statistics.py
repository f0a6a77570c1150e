"""Statistics of a reference in a file: mean and covariance of features, as pytorch-fid and others keep them.

mu (D,), sigma (D, D)        of the features: pytorch-fid, clean-fid, EDM
mu_s (S,), sigma_s (S, S)    of the spatial features: guided-diffusion's reference batches
arr_0                        some of the images, in guided-diffusion's files; not read, as mu is of more of them
genbench                     JSON: extractor, weights, resize and count; only in files that genbench wrote
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genbench.errors import DataError
from genbench.files import UNREADABLE, json_object, refuse_inflated, whole
from genbench.keys import file_hash
from genbench.metrics.arrays import Array
from genbench.metrics.frechet import Moments

SYMMETRIC = 1e-6  # of the largest entry of sigma: how far it may be from symmetric, and eigenvalues below 0
ORIGIN = "genbench"


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of features: mean (D,), covariance (D, D), float64. spatial: those of spatial features, or None.

    origin: protocol fields of the extractor and "count" where the file states them, else {}.
    """

    path: Path
    mean: Array
    covariance: Array
    spatial: tuple[Array, Array] | None = None
    origin: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def content(self) -> str:
        """The hash of the file."""
        return file_hash(self.path)

    def moments(self, spatial: bool = False) -> Moments:
        """The moments of the features, or of the spatial ones. Raises DataError for no covariance."""
        if not spatial:
            return Moments(self.mean, root_of(self.covariance, f"{self.path}: sigma"))
        assert self.spatial is not None
        mean, covariance = self.spatial
        return Moments(mean, root_of(covariance, f"{self.path}: sigma_s"))


def root_of(covariance: Array, name: str) -> Array:
    """R (D, D) with R' R the covariance. Raises DataError for a matrix that is none."""
    scale = np.abs(covariance).max(initial=0.0)
    if not np.isfinite(scale) or np.abs(covariance - covariance.T).max() > SYMMETRIC * scale:
        raise DataError(f"{name}: not a covariance, as it is not finite or not symmetric")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values.min() < -SYMMETRIC * scale * len(values):
        raise DataError(f"{name}: not a covariance, as its smallest eigenvalue is {values.min():.3g}")
    root: Array = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return root


def read_statistics(path: Path) -> Statistics | None:
    """The statistics in an .npz file; None for a file that holds none.

    Raises DataError for statistics that are damaged, and for a pickle, as it can run code.
    """
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise DataError(f"{path}: a pickle, which can run code when it is read; allowed: an .npz with mu and sigma")
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        refuse_inflated(path, DataError)
        with np.load(path, allow_pickle=False) as arrays:
            if not {"mu", "sigma"} <= set(arrays.files):
                return None
            held = {n: arrays[n] for n in ("mu", "sigma", "mu_s", "sigma_s", ORIGIN) if n in arrays.files}
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable array file: {reason}") from error
    pairs = [_pair(path, held, "mu", "sigma")]
    pairs += [_pair(path, held, "mu_s", "sigma_s")] if {"mu_s", "sigma_s"} <= set(held) else []
    origin = json_object(str(held[ORIGIN]), f"{path}: {ORIGIN}", DataError) if ORIGIN in held else {}
    return Statistics(path, *pairs[0], pairs[1] if len(pairs) > 1 else None, origin)


def _pair(path: Path, arrays: dict[str, Any], mean: str, covariance: str) -> tuple[Array, Array]:
    mu, sigma = (np.asarray(arrays[name], dtype=np.float64) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise DataError(f"{path}: {mean} {mu.shape} and {covariance} {sigma.shape}, allowed: (D,) and (D, D)")
    if not np.isfinite(mu).all():
        raise DataError(f"{path}: {mean} holds numbers that are not finite")
    return mu, sigma


def write_statistics(path: Path, vectors: Any, spatial: Any, origin: dict[str, Any]) -> None:
    """Writes moments of features (N, D), and of spatial ones (N, S) or None, as pytorch-fid does; float64."""
    arrays = dict(zip(("mu", "sigma"), mean_and_covariance(vectors), strict=True))
    if spatial is not None:
        arrays |= dict(zip(("mu_s", "sigma_s"), mean_and_covariance(spatial), strict=True))
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{ORIGIN: np.array(json.dumps(origin, sort_keys=True))})


def mean_and_covariance(rows: Any) -> tuple[Array, Array]:
    """Mean (D,) and covariance (D, D), divided by N - 1, of rows (N, D), N >= 2, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    if len(rows) < 2:
        raise DataError(f"statistics: found {len(rows)} image, allowed: at least 2")
    return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))
