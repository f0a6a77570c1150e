"""Hashes that name artefacts, and seeds derived from them: the only place where either is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(data: Any) -> str:
    """SHA-256 (hex) of plain data as canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the names and bytes of all files below a folder."""
    if path.is_file():
        return file_hash(path)
    state = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        state.update(f"{file.relative_to(path)}\0{file_hash(file)}\0".encode())
    return state.hexdigest()


def stream_seed(seed: int, *names: Any) -> int:
    """A 60-bit seed for one purpose, derived from the cell's seed and the purpose's names.

    Different names give independent random streams, so that two purposes never share random numbers.
    """
    return int(digest([seed, *names])[:15], 16)


def weights_key(**parts: Any) -> str:
    """Key of trained weights: code, config, recipe, budget, seed, precision, data."""
    return digest({"weights": parts})


def samples_key(**parts: Any) -> str:
    """Key of generated images: what they are drawn from, how many, in which blocks, from which seed."""
    return digest({"samples": parts})


def split_key(fingerprint: str, split: str) -> str:
    """Key of the images of one split of a dataset, in place of a samples key."""
    return digest({"data": fingerprint, "split": split})


def texts_key(texts: tuple[str, ...]) -> str:
    """Key of texts, in place of a samples key."""
    return digest({"texts": texts})


def features_key(pixels: str, extractor: dict[str, Any]) -> str:
    """Key of the features of images, which have the key `pixels`, under an extractor with these protocol fields."""
    return digest({"pixels": pixels, "extractor": extractor})


def reference_key(features: str, name: str) -> str:
    """Key of what a metric keeps, under `name`, about a reference whose features have the key `features`."""
    return digest({"features": features, "kept": name})


def neighbours_key(samples: str, train: str) -> str:
    """Key of the train images nearest to samples, of two keys of features."""
    return digest({"samples": samples, "nearest of": train})


def summary_key(pixels: str, version: int) -> str:
    """Key of the linter's summary of images."""
    return digest({"pixels": pixels, "summary": version})


def likelihoods_key(source: str, kind: str, images: int, protocol: dict[str, Any]) -> str:
    """Key of log-probabilities of held-out images; source: the key of the weights or samples that they depend on."""
    return digest({"source": source, "kind": kind, "images": images, "protocol": protocol})


def value_key(metric: str, version: int, protocol: dict[str, Any], depends: dict[str, Any]) -> str:
    """Key of one measured value; depends: what its reading names (genbench.metrics.base.Reading.depends)."""
    return digest({"metric": metric, "version": version, "protocol": protocol, "depends": depends})
