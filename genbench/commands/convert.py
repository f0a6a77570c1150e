"""`genbench convert`: rewrites a result of schema 1, whose protocols were flat, as schema 2. No value changes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from genbench.errors import StoreError
from genbench.files import read_json_object, refuse_unsafe, write_text
from genbench.protocol import Protocol, protocol_hash
from genbench.records import (
    BOUND,
    DENSITY,
    ESTIMATE,
    MASS,
    UNREADABLE_RECORD,
    Record,
    read_records,
    write_records,
)
from genbench.registry import METRICS
from genbench.suite.yaml_source import read_source

MODEL_FIELDS = frozenset({
    "config", "sampler", "evaluations", "parameters", "ema", "precision", "images_seen", "weights_file",
    "non_finite_samples", "caveat",
})  # fmt: skip
DATA_FIELDS = {"dataset": "name", "dataset_fingerprint": "fingerprint"} | {
    name: name
    for name in (
        "n_fake", "n_real", "quantisation", "levels", "dims", "reference", "memory_of", "held_out", "tested_on",
        "split", "pairs",
    )
}  # fmt: skip
FEATURE_FIELDS = frozenset({
    "extractor", "extractor_weights", "feature_layer", "resize", "pixel_range", "grey", "feature_precision",
    "similarity", "similarity_weights", "similarity_resize",
})  # fmt: skip
MACHINE_FIELDS = frozenset({"torch", "device", "threads", "dtype", "memory", "batch"})


def convert_result(directory: Path) -> str:
    """Rewrites DIR/records.jsonl, and the claims of DIR/suite.yaml; returns one line for the screen.

    Raises StoreError for a folder without records, or with records that are neither schema 1 nor 2.
    """
    path = directory / "records.jsonl"
    if not path.is_file():
        raise StoreError(f"{path}: not found; allowed: the folder of a result")
    refuse_unsafe(directory)
    finished = _finished(directory / "environment.json")
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        records = [_record(line, finished) for line in lines if line["schema"] == 1]
    except (*UNREADABLE_RECORD, KeyError, AttributeError) as error:
        raise StoreError(f"{path}: not records of schema 1: {error}") from None
    if not records:
        read_records(path)
        return f"{path}: is schema 2 already"
    suite_path = directory / "suite.yaml"
    suite = _converted_suite(suite_path)
    write_records(path, records)
    if suite:
        write_text(suite_path, suite)
    return f"{path}: {len(records):,} records rewritten as schema 2; `genbench report {directory}` renders them"


def _record(old: dict[str, Any], finished: str) -> Record:
    known = {f.name for f in fields(Record)} - {"schema"}
    values = {k: v for k, v in old.items() if k in known}
    tree = branches(old["metric"], old["protocol"]) if old["status"] == "ok" else {}
    values |= {"protocol": tree, "protocol_hash": protocol_hash(tree) if tree else ""}
    values |= {"warnings": tuple(old.get("warnings", ())), "kind": kind_of(old), "time": finished}
    return Record(**values)


def branches(metric: str, flat: dict[str, Any]) -> Protocol:
    """The tree of a flat protocol. Fields that the metric declares belong to the branch `metric`, whatever the name."""
    declared = METRICS[metric] if metric in METRICS else None  # noqa: SIM401 - a registry has no get
    own = declared.protocol if declared else {}
    tree: Protocol = {"data": {}, "features": {}, "metric": {}, "model": {}, "machine": {}}
    for name, value in flat.items():
        if name in own:
            tree["metric"][name] = value
        elif name in DATA_FIELDS:
            tree["data"][DATA_FIELDS[name]] = value
        elif name in FEATURE_FIELDS:
            tree["features"][name] = value
        elif name in MODEL_FIELDS:
            tree["model"][name] = value
        elif declared and declared.reads.alone and name in MACHINE_FIELDS:
            tree["machine"] |= {name: value} if name in declared.machine else {}
        else:
            tree["metric"][name] = value
    return tree


def kind_of(old: dict[str, Any]) -> str:
    """The kind of likelihood of a record of schema 1, in which densities of flows were marked as exact."""
    if old["value"] is None or not old["metric"].startswith("bits_per_dim"):
        return ""
    exact = MASS if old["model"] == "uniform noise" else DENSITY
    return {"=": exact, "<=": BOUND, "~": ESTIMATE}[old["kind"]]


def _finished(path: Path) -> str:
    return str(read_json_object(path, StoreError).get("finished", "")) if path.is_file() else ""


def _converted_suite(path: Path) -> str:
    """The text of the suite with its claims converted; "" where it has none."""
    if not path.is_file():
        return ""
    suite = read_source(path).data
    try:
        claims = [claim for model in suite.get("models", []) for claim in model.get("claims", [])]
        for claim in claims:
            tree = branches(claim["metric"], claim.pop("protocol", {}))
            claim["protocol"] = {branch: values for branch, values in tree.items() if values}
            kind = {"=": DENSITY, "<=": BOUND, "~": ESTIMATE}[claim.pop("kind", "=")]
            claim |= {"kind": kind} if claim["metric"].startswith("bits_per_dim") else {}
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: cannot be read as a suite with claims: {error}") from None
    return yaml.safe_dump(suite, sort_keys=False) if claims else ""
