"""What the folder of a model that `genbench export` wrote says of it, without reading its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.errors import ModelError
from genbench.files import read_json_object

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def settings_beside(file: Path) -> dict[str, Any]:
    """The config.json beside a file of weights; {} where there is none. Raises ModelError if it holds no mapping."""
    path = file.parent / CONFIG_FILE
    return read_json_object(path, ModelError) if path.is_file() else {}


def exported_settings(path: Path) -> dict[str, Any]:
    """The config.json of a folder that `genbench export` wrote; {} for anything else. Raises ModelError as above."""
    settings = settings_beside(path / WEIGHTS_FILE) if path.is_dir() else {}
    return settings if "genbench" in settings else {}


def exported_options(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and sampler of an exported model; {} and {} for anything else. Raises ModelError for no mappings."""
    settings = exported_settings(path)
    config, sampler = (settings.get(part, {}) for part in ("config", "sampler"))
    if not (isinstance(config, dict) and isinstance(sampler, dict)):
        raise ModelError(f"{path / CONFIG_FILE}: config and sampler: found no mappings")
    return config, sampler
