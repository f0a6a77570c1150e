"""Sources with weights: trained here, read from a file, or built by the class itself."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from genbench import data
from genbench.contract import Draws, Model, Recipe
from genbench.draw.repeats import meter_for
from genbench.errors import CellFailure, ModelError
from genbench.keys import weights_key
from genbench.machine import made_with
from genbench.processes.group import Processes
from genbench.progress import Report, StallWatch, silent
from genbench.sources.base import DataPlan, Opened
from genbench.sources.build import read_weights, write_weights
from genbench.sources.network import Network, NetworkSource
from genbench.sources.read_files import hashes
from genbench.store import Kind, Store
from genbench.team import SOLO, Team
from genbench.text import cell_text
from genbench.train.batches import Batches
from genbench.train.doubts import loss_doubts
from genbench.train.loop import TRAIN_VERSION, CurvePoint, FitOptions, Fitted, fit

WEIGHTS_FILE, CURVES_FILE = "model.safetensors", "curves.csv"


@dataclass(frozen=True)
class Fit:
    """One training, which several rows may share.

    config: all options of the class. doubts: warnings that are known before it runs. key: of the weights.
    """

    label: str
    network: Network
    config: dict[str, Any]
    recipe: Recipe
    images: int
    seed: int
    precision: str
    compile: bool
    fingerprint: str
    doubts: tuple[str, ...] = ()
    preset: str = ""

    @property
    def key(self) -> str:
        """The key of the weights."""
        return weights_key(
            train=TRAIN_VERSION, code=self.network.code, config=self.config, recipe=asdict(self.recipe),
            images=self.images, seed=self.seed, precision=self.precision, compile=self.compile, data=self.fingerprint,
            **hashes(self.network.files),
        )  # fmt: skip

    def run(self, plan: DataPlan, store: Store, device: str, report: Report, team: Team = SOLO) -> dict[str, Any]:
        """Trains and stores the weights and loss curves, unless they are in the store; returns their meta.

        team: the processes that train together.
        """

        def make(folder: Path) -> dict[str, Any]:
            return self._train(folder, plan, store, device, report, team)

        store.kept(Kind.WEIGHTS, self.key, make)
        return store.meta(Kind.WEIGHTS, self.key)

    def _train(
        self, folder: Path, plan: DataPlan, store: Store, device: str, report: Report, team: Team
    ) -> dict[str, Any]:
        watch, scratch = StallWatch(report), store.scratch(Kind.WEIGHTS, self.key)
        meter = meter_for(torch.device(device), 0.0, torch.get_num_threads())
        with team.call(_train_too, self, plan, device) as group:
            model, fitted = self._fitted(plan, group.device(device), group, scratch, watch)
        write_weights(model, folder / WEIGHTS_FILE)
        write_curves(folder / CURVES_FILE, fitted.curves)
        meta = {"label": self.label, "steps": fitted.steps, "images": fitted.images, "seconds": fitted.seconds}
        meta["threads"], meta["busy"] = torch.get_num_threads(), meter.found()
        meta["warnings"] = [*self.doubts, *loss_doubts(model, fitted.curves), *watch.stalls]
        meta |= {"note": fitted.note} if fitted.note else {}
        meta |= {"at_once": fitted.at_once} if fitted.at_once else {}
        meta |= {"processes": team.size} if team.size > 1 else {}
        return meta | made_with(device) | {"config": asdict(model.config), "recipe": asdict(self.recipe)}

    def _fitted(
        self, plan: DataPlan, device: str, group: Processes, scratch: Path | None, report: Report
    ) -> tuple[Model, Fitted]:
        model = self.network.build(plan, self.seed).to(device)
        assert isinstance(model, Model)
        batches = self.batches(data.load(plan.entry, plan.folder), device)
        options = FitOptions(self.images, self.seed, self.precision, self.compile)
        return model, fit(model, batches, self.recipe, options, scratch, report, group)

    def batches(self, dataset: data.Dataset, device: str) -> Batches:
        """The train split as its training reads it."""
        train, source = dataset.train, dataset.source
        other = None if source is None else source.train.pixels
        levels, flip = dataset.spec.levels, self.recipe.flip
        return Batches(train.pixels, train.labels, levels, self.seed, flip, dataset.texts(train), other, device)


def _train_too(group: Processes, fit: Fit, plan: DataPlan, device: str) -> None:
    """What a member of the team does while process 0 trains."""
    fit._fitted(plan, group.device(device), group, None, silent)


def write_curves(path: Path, points: list[CurvePoint]) -> None:
    """Loss curves as CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stage", "step", "images", "seconds", "name", "value"])
        rows.writerows(asdict(replace(p, stage=cell_text(p.stage), name=cell_text(p.name))).values() for p in points)


@dataclass(frozen=True)
class Trained(NetworkSource):
    """A row whose weights are trained here."""

    fit: Fit
    phases: ClassVar[tuple[str, ...]] = ("train", "draw")

    @property
    def weights_key(self) -> str:
        """The key of its training."""
        return self.fit.key

    def read_weights(self, model: Draws, opened: Opened) -> None:
        """From the store."""
        if not opened.store.intact(Kind.WEIGHTS, self.fit.key):
            raise CellFailure("its weights are missing: training failed or was not run")
        try:
            read_weights(model, opened.store.path(Kind.WEIGHTS, self.fit.key) / WEIGHTS_FILE)
        except ModelError:
            opened.store.discard(Kind.WEIGHTS, self.fit.key)
            raise CellFailure(
                "its stored weights are damaged and were removed; run again to train them again"
            ) from None

    def warnings(self, store: Store) -> tuple[str, ...]:
        """That its training may not have worked."""
        return tuple(store.meta(Kind.WEIGHTS, self.fit.key).get("warnings", ()))

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """That of NetworkSource, with the averaging of weights, the images seen, and the hardware of the training."""
        meta = opened.store.meta(Kind.WEIGHTS, self.fit.key)
        trained = {"ema": self.fit.recipe.ema, "images_seen": meta["images"]}
        made = {name: meta[name] for name in ("device", "torch", "processes") if name in meta}
        return super().protocol(opened) | trained | {"trained_with": made}


@dataclass(frozen=True)
class Weights(NetworkSource):
    """A row with weights from a file; content: the hash of its bytes. key, strip: as in `checkpoints.read_state`.

    revision: the repository of the hub that it is from, with its revision; "" for a file of this machine.
    """

    file: Path
    content: str
    key: str = ""
    strip: str = ""
    revision: str = ""

    @property
    def weights_key(self) -> str:
        """The hash of the file, and what of it is read."""
        return weights_key(file=self.content, **self._chosen)

    @property
    def _chosen(self) -> dict[str, str]:
        fields = {"key": self.key, "strip": self.strip, "revision": self.revision}
        return {name: value for name, value in fields.items() if value}

    def read_weights(self, model: Draws, opened: Opened) -> None:
        """From the file."""
        read_weights(model, self.file, key=self.key, strip=self.strip)

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """That of NetworkSource, with the hash of the file, and which set of weights of it is read."""
        chosen = {f"weights_{name}": value for name, value in self._chosen.items()}
        return super().protocol(opened) | {"weights_file": self.content} | chosen


@dataclass(frozen=True)
class SelfContained(NetworkSource):
    """A row whose class only draws and brings its own weights."""

    def read_weights(self, model: Draws, opened: Opened) -> None:
        """Nothing: the class loaded them when it was built."""
