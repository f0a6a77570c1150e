"""Images made elsewhere: an array file or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genbench import data
from genbench.data.files import captions_of_images
from genbench.data.images import open_images
from genbench.keys import digest, samples_key
from genbench.metrics.facts import Capabilities, Images
from genbench.sources.base import DataPlan, Drawing, Opened, Samples, Source

NO_NETWORK = "samples only: there is no network"


@dataclass(frozen=True)
class Files(Source):
    """Images in a file or folder; content: the hash of their bytes. wishes: the class of the dataset that each
    was asked to show; no_classes: why that is not known, "" where it is. texts: the text of each; no_texts: likewise.
    """

    label: str
    path: Path
    content: str
    wishes: tuple[int, ...] = ()
    no_classes: str = data.NOT_LABELLED
    texts: tuple[str, ...] = ()
    no_texts: str = ""
    family = ""

    @property
    def given(self) -> str:  # type: ignore[override]
        """The class, where it is known for each image."""
        return "class" if self.wishes else ""

    @property
    def capabilities(self) -> Capabilities:
        """No abilities: there is no network."""
        return Capabilities(self.label, (), NO_NETWORK, self.no_classes, self.no_texts)

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """The hash of the file, and what its images were asked to show."""
        asked: dict[str, Any] = {"wishes": self.wishes} if self.wishes else {}
        return samples_key(file=self.content, **asked, **({"texts": digest(self.texts)} if self.texts else {}))

    def count(self, plan: DataPlan, drawing: Drawing) -> int | None:
        """All images of the file."""
        return open_images(self.path).count

    def draw(self, opened: Opened) -> Samples:
        """All images of the file."""
        plan = opened.plan
        split, found = data.read_samples(self.path, plan.spec)
        labels = torch.tensor(self.wishes) if self.wishes else None
        images = Images(split.pixels, labels, self.texts or None)
        return Samples(images, {"file": self.path.name, "found": found.plain})

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """The hash of the file."""
        return {"samples_file": self.content}


def made_elsewhere(label: str, path: Path, plan: DataPlan) -> Files:
    """The source of a file or folder of images."""
    known = data.classes_of(plan.entry, plan.spec.classes, plan.folder)
    numbers, reason = data.wished_classes(path, plan.spec, known)
    wishes = () if numbers is None else tuple(numbers.tolist())
    texts, no_texts = captions_of_images(open_images(path))
    return Files(label, path, data.content_of(path), wishes, reason, texts, no_texts)
