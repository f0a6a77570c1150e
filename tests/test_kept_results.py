"""A run measures again exactly what an edit or a replaced file changed."""

from __future__ import annotations

from pathlib import Path

import yaml

import genbench
from genbench.store import Kind, Store
from genbench.store.artefacts import META, write_description

READER = """
import numpy as np
import torch
from genbench.contract import Draws


class Wrapped(Draws):  # as a class around an ONNX graph
    @classmethod
    def files(cls, config):
        return ("graph.npy",)

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.scale = float(np.load(self.beside("graph.npy")))

    def sample(self, n, gen, condition=None):
        return (2 * torch.rand(n, *self.data.shape, generator=gen) - 1) * self.scale
"""
MODELS = """
import torch
from genbench.contract import Loss, Model
from helper import START


class Base(Model):
    start = 0.0

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mean = torch.nn.Parameter(torch.full(data.shape, self.start))

    def loss(self, batch, player, step, gen):
        return Loss((batch.x - self.mean).square().mean())

    def sample(self, n, gen, condition=None):
        return self.mean + 0.1 * torch.randn(n, *self.data.shape, generator=gen)


class Helped(Base):
    start = START


class Alone(Base):
    start = 0.25
"""


class Bench:
    """A folder with a suite, its models and its results."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        np.save(folder / "graph.npy", 0.5)
        for name, text in (("reader.py", READER), ("models.py", MODELS), ("helper.py", "START = 0.5\n")):
            (folder / name).write_text(text)
        models = [{"name": "reader.py:Wrapped"}, {"name": "models.py:Helped"}, {"name": "models.py:Alone"}]
        keys = {"suite": "s", "dataset": {"name": "digits"}, "features": "pixels", "metrics": ["fid"], "samples": 20}
        keys |= {"block": 20, "budget": {"images": 128}, "models": models}
        (folder / "suite.yaml").write_text(yaml.safe_dump(keys))

    def edit(self, name: str, before: str, after: str) -> None:
        text = (self.folder / name).read_text()
        assert before in text
        (self.folder / name).write_text(text.replace(before, after))

    def run(self) -> tuple[dict[str, float], set[str]]:
        """The values by model, and the labels of the rows that were trained for it."""
        before = {artefact.key for artefact in Store().entries() if artefact.kind == Kind.WEIGHTS}
        records = genbench.run(self.folder / "suite.yaml", out=self.folder / "out", device="cpu").records
        new = [a for a in Store().entries() if a.kind == Kind.WEIGHTS and a.key not in before]
        labels = {Store().meta(Kind.WEIGHTS, artefact.key)["label"] for artefact in new}
        return {r.model: r.value for r in records if r.role == "model"}, labels


def test_a_replaced_file_and_an_edited_neighbour_are_measured_again_and_nothing_else(tmp_path):
    import numpy as np

    bench = Bench(tmp_path)
    first, trained = bench.run()
    assert trained == {"Helped", "Alone"}
    np.save(tmp_path / "graph.npy", 0.25)
    bench.edit("helper.py", "0.5", "0.75")
    second, trained = bench.run()
    assert trained == {"Helped"}
    assert [first[name] == second[name] for name in ("Wrapped", "Helped", "Alone")] == [False, False, True]
    bench.edit("models.py", "start = 0.25", "start = 0.3")
    third, trained = bench.run()
    assert trained == {"Alone"}
    assert [second[name] == third[name] for name in ("Wrapped", "Helped", "Alone")] == [True, True, False]


def test_a_stored_value_that_was_damaged_or_is_of_an_earlier_version_is_measured_again(tmp_path):
    bench = Bench(tmp_path)
    first, _ = bench.run()
    damaged, earlier, *_ = sorted((Store().root / Kind.VALUES).glob("*"))
    text = (damaged / META).read_text()
    start = text.index('"value": ', text.index('"measured": ')) + len('"value": {')
    digit = next(i for i in range(text.index('"value": ', start), len(text)) if text[i].isdigit())
    (damaged / META).write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    (earlier / "value.json").write_text("{}")
    write_description(earlier, {})
    again, trained = bench.run()
    assert (again, trained) == (first, set())
    assert all("measured" in Store().meta(Kind.VALUES, folder.name) for folder in (damaged, earlier))
