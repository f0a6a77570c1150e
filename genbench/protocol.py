"""The protocol of a number: a tree that states how it was measured, and which parts decide comparability.

    data      the dataset, its fingerprint and splits, how many images on either side, quantisation
    features  the extractor, its weights, resizing; the distance between images where one is used
    metric    the constants of the metric
    model     what the models of a leaderboard may differ in: config, sampler, precision, images seen, ...
    machine   what timings and memory depend on: device, threads, batch, library versions

Two numbers are comparable when all branches except `model` are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from genbench.keys import digest

Protocol = dict[str, dict[str, Any]]


def compared(protocol: Protocol) -> Protocol:
    """The branches that comparable numbers share."""
    return {branch: fields for branch, fields in protocol.items() if branch != "model" and fields}


def protocol_hash(protocol: Protocol) -> str:
    """Twelve hex digits over the compared branches: numbers with equal hashes may be ranked together."""
    return digest(compared(protocol))[:12]


def leaves(protocol: dict[str, Any], of: str = "") -> Iterator[tuple[str, Any]]:
    """Every field as ("features.extractor", value), in order; values that are mappings are opened."""
    for name, value in protocol.items():
        path = f"{of}{name}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value
