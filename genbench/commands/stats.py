"""`genbench stats`: statistics of a reference, in a file that other tools read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from genbench.errors import DataError
from genbench.evaluate.score import default_features
from genbench.evaluate.score_inputs import ScoreInputs
from genbench.evaluate.sides import open_side
from genbench.evaluate.statistics import write_statistics
from genbench.features import FeatureOptions
from genbench.machine import choose_device
from genbench.progress import silent
from genbench.store import make_folder


def write_reference(
    images: str, out: Path, features: str | None, weights: Path | None, device: str, resize: str, download: bool,
    own: Mapping[str, Any] = MappingProxyType({}),
) -> str:  # fmt: skip
    """Writes the statistics of images; returns a line for the screen. Raises GenbenchError as `score`."""
    if out.suffix != ".npz":
        raise DataError(f"--out: found '{out}', allowed: an .npz file")
    side = open_side(images, "images", download)
    options = FeatureOptions(weights, resize, "fp32", download, own)
    name = features or default_features(side, side, options)
    inputs = ScoreInputs(side, side, name, options, choose_device(device), silent)
    inputs.spatial_wanted = inputs.setting.spatial
    found, count = inputs.real, side.images.count
    origin = {"features": name, "dataset": inputs.dataset_name, "levels": inputs.levels, "count": count}
    make_folder(out.absolute().parent)
    write_statistics(out, found.vectors, found.spatial, origin | inputs.identity)
    return f"{out}: mean and covariance of {found.vectors.shape[1]:,} features of {count:,} images ({name})"
