"""Images made elsewhere: an array file or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench import data
from genbench.keys import samples_key
from genbench.metrics.facts import Capabilities, Images
from genbench.sources.base import DataPlan, Drawing, Opened, Samples, Source

NO_NETWORK = "samples only: there is no network"
NOT_LABELLED = "its samples were drawn without requested classes"


@dataclass(frozen=True)
class Files(Source):
    """Images in a file or folder; content: the hash of their bytes. labelled: whether it has the requested classes."""

    label: str
    path: Path
    content: str
    labelled: bool = False
    family = ""

    @property
    def capabilities(self) -> Capabilities:
        """No abilities: there is no network."""
        return Capabilities(self.label, (), NO_NETWORK, "" if self.labelled else NOT_LABELLED)

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """The hash of the file."""
        return samples_key(file=self.content)

    def draw(self, opened: Opened) -> Samples:
        """All images of the file."""
        split = data.read_images(self.path, opened.plan.spec)
        return Samples(Images(split.pixels, split.labels), {"file": self.path.name})

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """The hash of the file."""
        return {"samples_file": self.content}
