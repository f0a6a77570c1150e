"""Repositories of the Hugging Face hub, as folders on this machine: `owner/name` or `owner/name@revision`.

The folder is the snapshot in the hub's own cache ($HF_HUB_CACHE, default ~/.cache/huggingface/hub). Without a revision
it is the one that the cache has under "main"; `with_revision` writes it into the name, so that a stored suite stays the
same.
A network connection is made only where GENBENCH_DOWNLOAD=1 (`--download`) allows it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from genbench.errors import ModelError

PREFIX = "hub:"  # of weights in a suite, where a name without it is a path
NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w.-]+))?")
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX, UNUSED = "model_index.json", ("safety_checker/*",)  # of a pipeline, whose root may have the same weights again


def is_hub_name(text: str) -> bool:
    """Whether a text may be a repository's name; a path may look the same."""
    return NAME.fullmatch(text) is not None


def hub_folder(text: str) -> Path:
    """The snapshot of a repository. Raises ModelError for one that is not on this machine and may not be downloaded."""
    parts = NAME.fullmatch(text)
    if parts is None:
        raise ModelError(f"{text}: no name of the hub, allowed: owner/name or owner/name@revision")
    name, revision = parts[1], parts[2] or "main"
    allowed = os.environ.get("GENBENCH_DOWNLOAD") == "1"
    try:
        folder = _snapshot(name, revision, local_files_only=True)
    except OSError as error:  # what huggingface_hub's errors about absent files are
        if not allowed:
            raise ModelError(
                f"{name}: revision {revision} is not in the cache of the hub on this machine ($HF_HUB_CACHE); allow a "
                "download with `genbench run SUITE --download` or GENBENCH_DOWNLOAD=1, or name a folder"
            ) from error
    else:
        if _has_weights(folder) or not allowed:
            return folder
    try:
        return _downloaded(name, revision)
    except Exception as error:  # of the network, the hub or the disk
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{name}: revision {revision} cannot be downloaded: {reason}") from None


def _has_weights(folder: Path) -> bool:
    """Whether a snapshot is more than the configs that other programs may have looked at."""
    return any(any(folder.rglob(f"*{end}")) for end in WEIGHTS)


def _downloaded(name: str, revision: str) -> Path:
    """Configs, code and weights; of a pipeline those of its components. Weights as .bin where there are no others."""
    folder = _snapshot(name, revision, allow_patterns=["*.json"])
    below = "*/" if (folder / INDEX).is_file() else ""
    wanted = ["*.json", *(below + pattern for pattern in WANTED)]
    folder = _snapshot(name, revision, allow_patterns=wanted, ignore_patterns=list(UNUSED))
    if any(folder.rglob("*.safetensors")):
        return folder
    return _snapshot(name, revision, allow_patterns=[*wanted, f"{below}*.bin"], ignore_patterns=list(UNUSED))


def with_revision(text: str) -> str:
    """The name with the revision that it means now, 40 hexadecimal digits."""
    return f"{text.partition('@')[0]}@{hub_folder(text).name}"


def _snapshot(name: str, revision: str, **options: Any) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(f"{name}: needs the package huggingface_hub ({error}); pip install 'genbench[hub]'") from None
    return Path(snapshot_download(name, revision=revision, **options))
