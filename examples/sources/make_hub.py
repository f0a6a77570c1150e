"""Writes the artefacts of hub.yaml: two repositories in the folders in which the Hugging Face hub's client keeps them.

    python examples/sources/make_hub.py

hub/ becomes what $HF_HUB_CACHE contains after `genbench run hub.yaml --download`, with random weights in place of
downloaded ones: files under the hash of their content in blobs/, a folder of links to them for each revision in
snapshots/, and the revision of the branch main in refs/main.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from make_pipelines import write_ddpm
from make_weights import random_model
from safetensors.torch import save_file

REVISIONS = {"examples/ddpm": "1" * 40, "examples/vae": "2" * 40}


def write_repository(cache: Path, name: str, files: Path) -> None:
    """The files of a folder as a repository of the hub that was downloaded."""
    root = cache / f"models--{name.replace('/', '--')}"
    for file in (path for path in files.rglob("*") if path.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link = root / "snapshots" / REVISIONS[name] / file.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(REVISIONS[name])


def write_hub(cache: Path) -> None:
    """A pipeline of diffusers, and weights of a VAE of the zoo."""
    with tempfile.TemporaryDirectory() as scratch:
        write_ddpm(Path(scratch) / "ddpm")
        (Path(scratch) / "vae").mkdir()
        save_file(random_model("vae").state_dict(), Path(scratch) / "vae" / "model.safetensors")
        for name in REVISIONS:
            write_repository(cache, name, Path(scratch) / name.partition("/")[2])


if __name__ == "__main__":
    write_hub(Path(__file__).parent / "hub")
    print("export HF_HUB_CACHE=" + str(Path(__file__).parent / "hub"), file=sys.stderr)
