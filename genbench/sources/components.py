"""The folder of a diffusers pipeline as one set of weights: the tensors of several networks, and what its files say.

A model whose weights are several networks names their folders (`Draws.components`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genbench.errors import ModelError
from genbench.keys import digest, file_hash

INDEX = "model_index.json"
SETTINGS = (".json", ".txt")
LARGEST = 1 << 24  # bytes of a file of settings; CLIP's vocabulary has 3 million


def is_pipeline_folder(path: Path, components: Sequence[str]) -> bool:
    """Whether a path is a pipeline of which a model reads these components; never for a model without any."""
    return bool(components) and (path / INDEX).is_file() and any((path / name).is_dir() for name in components)


def settings_files(root: Path) -> dict[str, Path]:
    """The pipeline's files beside the weights, by their names below the root."""
    files = sorted(file for file in root.glob("*/*") if file.suffix in SETTINGS and file.is_file())
    return {file.relative_to(root).as_posix(): file for file in files if not file.name.endswith(".index.json")}


def pipeline_settings(root: Path) -> dict[str, Any]:
    """The contents of these files: JSON as read, other files as text. Raises ModelError for one that is broken."""
    return {name: _content(file) for name, file in settings_files(root).items()}


def _content(file: Path) -> Any:
    if file.stat().st_size > LARGEST:
        raise ModelError(f"{file}: found {file.stat().st_size:,} bytes, allowed: at most {LARGEST:,}")
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else text
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from None


def pipeline_hash(root: Path, weights: dict[str, str]) -> str:
    """SHA-256 (hex) over the hashes of the components' weights and of the files beside them."""
    return digest({"weights": weights, "settings": {name: file_hash(f) for name, f in settings_files(root).items()}})
