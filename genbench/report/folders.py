"""The folders that a page is made from: their records, suites, machines, training curves and sample grids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.files import read_json_object, real_path, refuse_unsafe
from genbench.records import Record, read_records, row_slug, same_measurement, slug
from genbench.report.claims import Claim, read_claims
from genbench.report.pictures import Tiles, read_tiles, sample_grids
from genbench.report.training import Curves, read_curves, training_records
from genbench.suite.yaml_source import read_source

NOT_OF_TRAINING = frozenset(("label", "sampler", "claims"))  # keys of a suite's entry that weights do not depend on


@dataclass(frozen=True)
class Folder:
    """One result. name: different from those of the others on the page, and fit for a folder.

    renamed: by (label, dataset), the names of rows that another folder has too.
    """

    directory: Path
    name: str
    records: tuple[Record, ...]
    renamed: Mapping[tuple[str, str], str]

    @cached_property
    def curves(self) -> Curves:
        """The training curves, by slug of the row and seed."""
        return read_curves(self.directory)

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The suite's entries of models by label; none where the folder has no readable suite."""
        return suite_entries(self.directory / "suite.yaml")

    @cached_property
    def weights_of(self) -> dict[str, str]:
        """By label, the label of the row whose weights it draws with: as stated, or the first trained alike."""
        named = {label: str(e["weights_of"]) for label, e in self.entries.items() if e.get("weights_of")}
        return trained_alike(self.entries) | named

    def trained_as(self, label: str) -> str:
        """The label of the row whose training a row uses, its own for most."""
        while label in self.weights_of and self.weights_of[label] != label:
            label = self.weights_of[label]
        return label

    @cached_property
    def claims(self) -> list[Claim]:
        """The published figures, under the names of the rows on the page."""
        claims = read_claims(self.directory / "suite.yaml")
        return [replace(claim, model=shown) for claim in claims for shown in self._shown(claim.model)]

    def _shown(self, label: str) -> set[str]:
        return {self.renamed.get((label, r.dataset), label) for r in self.records if r.model == label} or {label}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json, or nothing when there is no such file. Raises StoreError when it is not a JSON object."""
        path = self.directory / "environment.json"
        return read_json_object(path, StoreError) if path.is_file() else {}

    @property
    def suite_text(self) -> str:
        """The text of suite.yaml, "" without one."""
        path = self.directory / "suite.yaml"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def file_name(self, label: str, dataset: str) -> str:
        """The row in the names of its pictures and curves."""
        return row_slug(label, dataset, self._has_datasets)

    @cached_property
    def _has_datasets(self) -> bool:
        """Whether it has several datasets."""
        return len({r.dataset for r in self.records}) > 1

    def grids(self, kind: str = "samples") -> dict[str, Tiles]:
        """The sample grids by slug of the row."""
        return {name: read_tiles(path) for name, (_, path) in sample_grids(self.directory, kind).items()}

    @cached_property
    def measured(self) -> list[Record]:
        """Its records, and the times of its trainings, under the names of the rows on the page."""
        records = [*self.records, *training_records(self.records, self.curves, self.weights_of)]
        names = self.renamed
        return [replace(r, model=names[k]) if (k := (r.model, r.dataset)) in names else r for r in records]

    def label(self, shown: str, dataset: str) -> str | None:
        """The folder's own label of a row of the page; None where the row is not from here."""
        return self.rows.get((shown, dataset))

    @cached_property
    def rows(self) -> dict[tuple[str, str], str]:
        """Its labels by the name of the row on the page and the dataset."""
        rows = dict.fromkeys((r.model, r.dataset) for r in self.records)
        return {(self.renamed.get((label, dataset), label), dataset): label for label, dataset in rows}


def read_folders(directories: Sequence[Path]) -> list[Folder]:
    """The folders with their records.

    Rows with the same label and dataset in several folders are seeds of one model where they were configured alike and
    no seed is in two of them with other values; otherwise each gets the name of its folder in brackets. Raises
    StoreError for a folder without records, with links, or with two runs of one cell.
    """
    directories = list({real_path(d): d for d in directories}.values())
    found = [(directory, _records(directory)) for directory in directories]
    clashing = _clashes([records for _, records in found])
    names = _names(directories)
    return [
        Folder(directory, name, tuple(records), {key: f"{key[0]} ({name})" for key in clashing})
        for (directory, records), name in zip(found, names, strict=True)
    ]


def _records(directory: Path) -> list[Record]:
    refuse_unsafe(directory, "figures", "curves")
    records = read_records(directory / "records.jsonl")
    if not records:
        raise StoreError(f"{directory / 'records.jsonl'}: found no records; `genbench run SUITE` writes them")
    return records


def _names(directories: Sequence[Path]) -> list[str]:
    """Each folder's own name; where two have the same, with the names of as many folders above as make them differ."""
    parts = [real_path(d).parts[1:] for d in directories]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = [slug("-".join(part[-depth:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name}-{number}" for number, name in enumerate(names)]


def _clashes(results: Sequence[Sequence[Record]]) -> set[tuple[str, str]]:
    """(label, dataset) of rows that are in several results and not the same model."""
    if len(results) == 1:
        return set()
    values: dict[tuple[str, str], dict[tuple[int, str], Record]] = {}
    models: dict[tuple[str, str], str] = {}
    clashing = set()
    for records in results:
        for record in records:
            key = (record.model, record.dataset)
            earlier = values.setdefault(key, {}).setdefault((record.seed, record.metric), record)
            config = record.protocol.get("model", {}).get("config")
            made = models.setdefault(key, json.dumps(config, sort_keys=True)) if config is not None else ""
            if (earlier is not record and not same_measurement(earlier, record)) or (
                made and made != json.dumps(config, sort_keys=True)
            ):
                clashing.add(key)
    return clashing


def home_of(folders: Iterable[Folder], shown: str, dataset: str) -> tuple[Folder, str] | None:
    """The first folder that a row of the page is from, and its label there."""
    for folder in folders:
        label = folder.label(shown, dataset)
        if label is not None:
            return folder, label
    return None


def suite_entries(path: Path) -> dict[str, dict[str, Any]]:
    """The models of a result's suite, which has no grids, by label; {} where there is no such file or no suite."""
    from genbench.errors import SuiteError
    from genbench.registry import short_name

    try:
        models = (read_source(path).data or {}).get("models", []) if path.is_file() else []
        entries = {str(m.get("label") or short_name(m["name"])): m for m in models}
        return {label: _named(entry, entries) for label, entry in entries.items()}
    except (SuiteError, AttributeError, KeyError, TypeError):
        return {}


def trained_alike(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """By label, the label of the first row that is trained in the same way and differs in how it is drawn from."""
    owners, first = {}, dict[str, str]()
    for label, entry in entries.items():
        if not any(entry.get(key) for key in ("samples", "weights", "weights_of")):
            training = {key: value for key, value in entry.items() if key not in NOT_OF_TRAINING}
            owners[label] = first.setdefault(json.dumps(training, sort_keys=True, default=str), label)
    return {label: owner for label, owner in owners.items() if owner != label}


def _named(entry: dict[str, Any], entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The entry with the model's name, which one that uses another row's weights may leave out."""
    owner = entries.get(entry.get("weights_of", ""), {})
    return {**entry, "name": owner["name"]} if "name" not in entry and "name" in owner else entry


def all_claims(folders: Iterable[Folder]) -> list[Claim]:
    """The published figures of all folders."""
    return [claim for folder in folders for claim in folder.claims]
