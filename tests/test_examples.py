"""The examples in docstrings and docs run and give the values that they show."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genbench
from genbench import contract, features, metrics, registry, space
from genbench.contract import Batch, Condition, DataSpec, Draws, Model
from genbench.data import Dataset, DatasetSource, Split
from genbench.features import Extractor, ExtractorSource, Features
from genbench.metrics import Metric, Value, readings
from genbench.metrics.facts import Images
from genbench.space import seeded
from genbench.store import Kind, Store

ROOT = Path(__file__).parent.parent
SPEC = DataSpec(1, 4, 4, 17)
NAMES = {
    "np": np, "torch": torch, "nn": nn, "math": math, "genbench": genbench, "metrics": metrics, "space": space,
    "readings": readings, **{name: value for name, value in vars(contract).items() if isinstance(value, type)},
    **{c.__name__: c for c in (Extractor, ExtractorSource, Features, Metric, Value, Dataset, DatasetSource, Split)},
}  # fmt: skip
PIXELS = torch.randint(17, (5, *SPEC.shape), generator=seeded(0), dtype=torch.uint8)


def example(text: str | None) -> str:
    """The last indented block of a docstring."""
    blocks = re.findall(r"(?:\n\n|\A)((?: {4}[^\n]*\n?|\n(?= {4}))+)", inspect.cleandoc(text or "") + "\n")
    assert blocks, f"no example in: {text}"
    return textwrap.dedent(blocks[-1])


def run(code: str, **more: object) -> dict:
    """The names that the code binds; a line `expression  # number` must have that value to the digits shown."""
    names = {**NAMES, "__name__": __name__, **more}
    exec(compile(code, "example", "exec"), names)
    for line in code.splitlines():
        shown = re.fullmatch(r"(\S.*)  # (-?[\d.]+)", line)
        if shown:
            digits = len(shown[2].partition(".")[2])
            assert round(float(eval(shown[1], names)), digits) == float(shown[2]), line
    return names


# ---- metrics ---------------------------------------------------------------------------------------------------------

FUNCTIONS = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]


@pytest.mark.parametrize("name", [*FUNCTIONS, "Metric"])
def test_examples_of_metrics(name):
    code = example(getattr(metrics, name).__doc__)
    assert name in code
    assert "  # " in code
    run(code)


# ---- the contract ----------------------------------------------------------------------------------------------------


class _Parts(Draws):
    """What the methods in the examples use."""

    def __init__(self, data=SPEC, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.encoder, self.network = nn.Flatten(), nn.Identity()
        self.networks = {"a_to_b": lambda x: -x, "b_to_a": lambda x: -x}
        self.prior = torch.distributions.Uniform(0.0, 1.0)

    def generator(self, noise, condition=None):
        shift = 0 if condition is None else condition.view(-1, 1)
        return (noise + shift).tanh().unflatten(1, self.data.shape)

    def text_encoder(self, texts):
        return torch.tensor([float(len(text)) for text in texts])

    def posterior(self, pixels, gen):
        return torch.zeros(len(pixels), 2), torch.zeros(len(pixels))

    def log_likelihood(self, pixels, latents):
        return torch.full((len(pixels),), -16 * math.log(17))

    def log_weight(self, pixels, gen):
        return torch.full((len(pixels),), -16 * math.log(17))

    def integrate(self, y, steps):
        return torch.zeros(len(y))

    def noise(self, n, gen):
        return torch.zeros(n, 16)

    def sample(self, n, gen, condition=None):
        return self.generator(torch.randn(n, 16, generator=gen))


def built(ability: type) -> Draws:
    """A model with the methods of an ability's example."""
    methods = {name: value for name, value in run(example(ability.__doc__)).items() if name not in NAMES}
    methods = {name: method for name, method in methods.items() if not name.startswith("__")}
    return type(ability.__name__, (_Parts, ability), methods)()


CALLS = {
    "ExactLikelihood": lambda m: m.log_prob(PIXELS),
    "DequantisedDensity": lambda m: m.log_prob(PIXELS, seeded(0)),
    "LikelihoodBound": lambda m: m.log_prob_bound(PIXELS, seeded(0)),
    "ImportanceBound": lambda m: m.log_prob_importance(PIXELS, 8, seeded(0)),
    "LikelihoodEstimate": lambda m: m.log_prob_estimate(PIXELS, seeded(0)),
    "Encodes": lambda m: m.encode(space.to_unit_range(PIXELS, 17)),
    "Decodes": lambda m: m.decode(m.noise(5, seeded(0))),
    "Reconstructs": lambda m: m.decode(m.encode(0.9 * space.to_unit_range(PIXELS, 17))) / 0.9,
    "ClassConditional": lambda m: m.sample(5, seeded(0), Condition(torch.arange(5))),
    "TextConditional": lambda m: m.sample(5, seeded(0), Condition(texts=tuple("abcde"))),
    "Translates": lambda m: m.translate(m.translate(space.to_unit_range(PIXELS, 17), "a_to_b"), "b_to_a"),
    "Steps": lambda m: m.denoiser(space.to_unit_range(PIXELS, 17)),
}


@pytest.mark.parametrize("ability", contract.ABILITIES, ids=lambda a: a.__name__)
def test_examples_of_abilities(ability):
    name = ability.__name__
    result = CALLS[name](built(ability))
    if name in ("Reconstructs", "Translates", "Steps"):
        assert torch.allclose(result, space.to_unit_range(PIXELS, 17), atol=1e-5)
    elif "Likelihood" in name or name in ("DequantisedDensity", "ImportanceBound"):
        assert torch.allclose(result.double(), torch.full((5,), -16 * math.log(17), dtype=torch.float64))
    else:
        assert result.shape == ((5, 16) if name == "Encodes" else (5, *SPEC.shape))


def test_the_example_of_a_model_learns_the_mean():
    model = run(example(Model.__doc__))["MeanImage"](SPEC)
    x = torch.full((3, *SPEC.shape), 0.5)
    model.loss(Batch(x, PIXELS[:3]), "all", 0, seeded(0)).total.backward()
    assert torch.allclose(model.mean.grad, torch.full(SPEC.shape, -1 / 16))
    assert model.sample(2, seeded(0)).shape == (2, *SPEC.shape)


def test_the_example_of_a_class_that_only_draws(monkeypatch):
    class Generator(nn.Module):
        def forward(self, z):
            return F.pad(z[:, :1, None, None], (0, 3, 0, 3)).tanh()

    monkeypatch.setattr(torch.jit, "load", lambda path: {"generator.pt": Generator()}[Path(path).name])
    assert run(example(Draws.__doc__))["Exported"](SPEC).sample(3, seeded(0)).shape == (3, *SPEC.shape)


# ---- genbench.run, score, load_model ---------------------------------------------------------------------------------


def test_example_of_load_model():
    assert run(example(genbench.load_model.__doc__))["images"].shape == (16, 1, 8, 8)


def test_example_of_score(tmp_path, monkeypatch):
    np.savez(tmp_path / "samples.npz", images=np.random.default_rng(0).integers(17, size=(60, 8, 8), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    names = run(example(genbench.score.__doc__))
    assert set(names["scores"].values) == {"fid", "precision"}
    assert names["scores"].failed == []


def test_example_of_run(tmp_path, monkeypatch):
    code = example(genbench.run.__doc__)
    path = ROOT / "suites" / "digits.yaml"
    assert "suites/digits.yaml" in code
    monkeypatch.chdir(tmp_path)
    small = code.replace("suites/digits.yaml", str(path)).replace('"vae", "glow"], ', '"vae"], limit_images=20, ')
    assert "limit_images" in small
    table = run(small)["table"]
    assert list(table.columns) == ["model", "fid", "bits_per_dim"]
    assert "vae" in set(table["model"])


# ---- docs/architecture.md --------------------------------------------------------------------------------------------


def architecture(first: str) -> str:
    """The code block of docs/architecture.md that starts with these words."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    start = text.index(f"    {first}")
    end = re.search(r"\n\n(?=\S)", text[start:])
    return textwrap.dedent(text[start : start + end.start()])


def test_the_example_of_the_store():
    names = {"store": Store(), "Kind": Kind, "key": "ab"}
    assert run(architecture("def make(folder)"), **names)["path"].read_text() == "1.5"


def test_the_plugins_in_the_architecture_document(tmp_path):
    imports = (
        "import torch\nfrom genbench.contract import DataSpec, Draws\nfrom genbench.metrics import Metric, Value\n"
        "from genbench.metrics import readings\nfrom genbench.features import Extractor, ExtractorSource, Features\n"
        "from genbench.data import Dataset, DatasetSource, Split\n"
    )
    (tmp_path / "my.py").write_text(imports + architecture("class Noise(Draws)"))
    dataset = genbench.data.load({"name": f"{tmp_path}/my.py:STRIPES"})
    assert genbench.data.describe({"name": f"{tmp_path}/my.py:STRIPES"}) == (dataset.spec, dataset.fingerprint)
    model = registry.resolve_model(f"{tmp_path}/my.py:Noise")(dataset.spec)
    drawn = space.to_pixels(model.sample(20, seeded(0)), 17)
    extractor = features.load_extractor(f"{tmp_path}/my.py:MEANS", "stripes")
    assert np.allclose(extractor(dataset.test.pixels, 17).vectors, 7 / 16)
    metric = metrics.get("my.py:BRIGHTNESS", tmp_path)
    inputs = type(
        "Both", (metrics.base.Inputs,), {"generated": Images(drawn), "reference": Images(drawn), "levels": 17}
    )
    arguments = metric.reads.read(inputs(), metric)
    assert metric.compute(**arguments.values).value == 0.0
