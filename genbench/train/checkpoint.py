"""Checkpoints of a training: one file with the state and a checksum of it, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from genbench.files import whole

DIGEST = hashlib.sha256().digest_size


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain data, followed by the SHA-256 of their bytes."""
    with whole(path) as partial:
        torch.save(state, partial)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        with partial.open("ab") as file:
            file.write(digest)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state of a checkpoint, on the device; None for a damaged file."""
    content = path.read_bytes()
    payload, digest = content[:-DIGEST], content[-DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state
