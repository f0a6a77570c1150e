"""A worker without a process: its calls take the seconds that a test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genbench.errors import CellFailure
from genbench.speed.subjects import TimedModel

SPEC = {"channels": 1, "height": 8, "width": 8, "levels": 17, "classes": 10}


def subject(label: str = "vae", folder: str = ".", **more: Any) -> TimedModel:
    given = {"name": label, "source": None, "config": {}, "sampler": {}, "precision": "fp32", "spec": SPEC}
    return TimedModel(label, folder=folder, **{**given, **more})


class FakeWorker:
    """Seconds of a call: those of its tree, times noise. breaks: labels that cannot be built."""

    each: Callable[[Path | None], float] = staticmethod(lambda tree: 0.01)
    breaks: tuple[str, ...] = ()
    opened = 0

    def __init__(self, device: str, threads: int, tree: Path | None = None) -> None:
        type(self).opened += 1
        self.tree, self.rng = tree, np.random.default_rng([type(self).opened, 5])

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        if command == "build":
            self.label = arguments["subject"]["label"]
            if self.label in self.breaks:
                raise CellFailure("ModelError: no such model")
            return {"first_seconds": 0.1}
        if command == "bind":
            return {}
        if command == "fingerprint":
            return {"pixels": "same"}
        noise = np.exp(self.rng.normal(0, 0.01, arguments["calls"]))
        return {"seconds": [float(x) for x in type(self).each(self.tree) * noise]}

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeMeter:
    """Finds what a test lists, then nothing; disturbed work may be repeated `patience` times."""

    def __init__(self, *found: str, patience: int = 0) -> None:
        self.texts, self.patience = list(found), patience

    def found(self) -> str:
        return self.texts.pop(0) if self.texts else ""

    def again(self, seconds: float) -> bool:
        self.patience -= 1
        return self.patience >= 0

    def start(self) -> None:
        pass

    def watch(self, cores: object) -> None:
        pass

    def ripe(self) -> bool:
        return False
