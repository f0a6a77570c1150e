"""Plans: what each key depends on, what does not apply and why, and refusals with a line."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from genbench import metrics
from genbench.contract import DataSpec, abilities
from genbench.errors import SuiteError
from genbench.metrics.facts import Capabilities, Setting
from genbench.plan.planner import make_plan
from genbench.registry import resolve_model
from genbench.sources.build import load_model
from genbench.sources.files import Files
from genbench.sources.trained import SelfContained, Weights
from genbench.suite.schema import Suite, read_suite

TOYS = Path(__file__).parent / "toys.py"


def suite(**more) -> Suite:
    models = [{"name": "toy", "source": f"{TOYS}:Diagonal"}]
    base = {"suite": "s", "dataset": {"name": "digits"}, "models": models, "metrics": ["fid", "bits_per_dim"]}
    return Suite.model_validate({**base, **more})


def toy(**more) -> dict:
    return {"name": "toy", "source": f"{TOYS}:Diagonal", **more}


def keys(s: Suite, cell: int = 0, **more):
    found = make_plan(s, **more).cells[cell]
    return found.source.weights_key, found.samples_key, {m.name: m.key for m in found.metrics}


def test_a_changed_metric_measures_again_and_nothing_else():
    before, after = keys(suite()), keys(suite(metrics=["fid", "bits_per_dim", "kid"]))
    assert before[:2] == after[:2]
    assert before[2].items() < after[2].items()


def test_other_features_change_values_but_not_samples():
    before, after = keys(suite()), keys(suite(features="pixels"))
    assert before[:2] == after[:2]
    assert before[2]["fid"] != after[2]["fid"]
    assert before[2]["bits_per_dim"] == after[2]["bits_per_dim"]


@pytest.mark.parametrize(
    "change",
    [
        {"models": [toy(config={"scale": 0.3})]},
        {"models": [toy(train={"lr": 0.5})]},
        {"budget": {"images": 32}},
        {"seeds": [1]},
        {"precision": "bf16"},
    ],
)
def test_what_training_depends_on_changes_every_key(change):
    before, after = keys(suite()), keys(suite(**change))
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert not set(before[2].values()) & set(after[2].values())


def test_more_samples_keep_the_weights():
    before, after = keys(suite()), keys(suite(samples=100))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_file_of_ones_own_is_part_of_the_key(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text(TOYS.read_text())
    first = keys(suite(models=[{"name": "toy", "source": f"{copy}:Diagonal"}]))
    other = tmp_path / "edited.py"
    other.write_text(TOYS.read_text().replace("data.shape, 0.5", "data.shape, 0.6"))
    assert keys(suite(models=[{"name": "toy", "source": f"{other}:Diagonal"}]))[0] != first[0]


def test_ddim_draws_from_the_weights_of_ddpm():
    models = [{"name": "ddpm"}, {"name": "ddim", "weights_of": "ddpm", "sampler": {"steps": 10}}]
    plan = make_plan(suite(models=models))
    ddpm, ddim = plan.cells[:2]
    assert len(plan.fits) == 1
    assert ddpm.source.weights_key == ddim.source.weights_key
    assert ddpm.samples_key != ddim.samples_key


def test_a_config_that_needs_the_rows_sampler_is_trained():
    """The default has 50 steps, more than there are; the sampler is still no part of the key of the weights."""
    rows = [
        {"name": "ddim", "config": {"steps": 8}, "sampler": {"steps": 4}},
        {"name": "ddim", "label": "fewer", "config": {"steps": 8}, "sampler": {"steps": 2}},
    ]
    plan = make_plan(suite(models=rows, metrics=["fid"]))
    assert [fit.network.build(plan.data, 0).config.steps for fit in plan.fits] == [8]
    weights = {cell.source.fit.key for cell in plan.cells if cell.label in ("ddim", "fewer")}
    assert len(weights) == 1


def test_a_row_states_what_its_class_is_given():
    rows = suite(models=[{"name": name} for name in ("gan", "cgan", "latent_diffusion")], metrics=["fid"])
    assert [cell.source.given for cell in make_plan(rows).cells[:4]] == ["", "class", "caption", ""]


def test_scale_rows_stand_in_every_plan():
    cells = [c for c in make_plan(suite()).cells if not c.source.ranked]
    assert [c.label for c in cells] == ["held-out real", "memorised train", "blurred real", "uniform noise", "gaussian"]
    reasons = {c.label: {m.name: m.reason for m in c.metrics} for c in cells}
    assert reasons["gaussian"]["bits_per_dim"] == ""
    assert reasons["held-out real"]["bits_per_dim"] == "a scale row has no network"


def test_samples_from_elsewhere_get_the_metrics_they_can_have(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((5, 8, 8), np.uint8))
    models = [toy(), {"name": "theirs", "samples": str(tmp_path / "x.npz")}]
    cell = make_plan(suite(models=models, metrics=["fid", "bits_per_dim", "latency"], samples=5)).cells[1]
    assert [m.reason for m in cell.metrics] == ["", *["samples only: there is no network"] * 2]
    assert isinstance(cell.source, Files)


def test_a_weights_file_is_not_trained(tmp_path):
    spec = DataSpec(1, 8, 8, 17, 10)
    model = load_model("toy", data=spec, source=f"{TOYS}:Diagonal")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    cell = make_plan(suite(models=[toy(weights=str(tmp_path / "w.safetensors"))])).cells[0]
    assert isinstance(cell.source, Weights)
    assert cell.source.file == tmp_path / "w.safetensors"


def refused(tmp_path: Path, models: str, metrics: str = "[fid]") -> str:
    path = tmp_path / "s.yaml"
    path.write_text(f"suite: s\ndataset: {{name: digits}}\nmodels:\n{models}\nmetrics: {metrics}\n")
    with pytest.raises(SuiteError) as caught:
        make_plan(read_suite(path))
    return str(caught.value).replace(str(tmp_path), "")


def test_a_metric_that_no_model_can_give(tmp_path):
    assert refused(tmp_path, "  - {name: dcgan}", "[fid, bits_per_dim]") == (
        "/s.yaml:5: metrics[1]: bits_per_dim: not available for any model of this suite; "
        "needs ExactLikelihood or DequantisedDensity or LikelihoodBound; DCGAN has: Decodes"
    )


def test_an_option_that_the_model_does_not_have(tmp_path):
    text = refused(tmp_path, "  - {name: ddpm, config: {chanels: 32}}")
    assert text.startswith("/s.yaml:4: models[0].config.chanels: unknown key; did you mean 'channels'? allowed: ")
    text = refused(tmp_path, "  - name: ddpm\n    sampler:\n      variance: huge")
    assert text == "/s.yaml:6: models[0].sampler.variance: found 'huge' (str), allowed: large, small, learned"


def test_a_source_that_is_not_a_model(tmp_path):
    text = refused(tmp_path, f"  - {{name: x, source: '{TOYS}:NotAModel'}}")
    assert text.endswith("'" + f"{TOYS}:NotAModel' is a class, allowed: a subclass of genbench.contract.Draws")
    text = refused(tmp_path, f"  - {{name: x, source: '{TOYS}:Diagnal'}}")
    assert "has no 'Diagnal'; did you mean 'Diagonal'? it has:" in text


def test_labels_and_seeds_of_the_command_line():
    with pytest.raises(SuiteError, match=r"--models: unknown 'toi'; did you mean 'toy'\? allowed: toy"):
        make_plan(suite(), models=["toi"])
    with pytest.raises(SuiteError, match="--seeds: none of them is in the suite; allowed: 0"):
        make_plan(suite(), seeds=[7])


def test_limit_images_caps_budget_samples_and_held_out_images():
    cell = make_plan(suite(), limit_images=50).cells[0]
    assert (cell.source.fit.images, cell.drawing.n, cell.facts.images) == (50, 50, 50)


def reasons(models: list[dict[str, Any]], names: list[str], **changes: Any) -> list[str]:
    return [m.reason for m in make_plan(suite(models=models, metrics=names, **changes)).cells[0].metrics]


def test_what_is_asked_for_decides_what_applies():
    names = ["fid", "class_accuracy", "per_class_fid", "cas"]
    assert reasons([{"name": "cgan"}], names) == [""] * 4
    plain = make_plan(suite(models=[{"name": "gan"}, {"name": "cgan"}], metrics=names)).cells[0]
    assert [m.reason for m in plain.metrics] == ["", *["its samples were drawn without requested classes"] * 3]
    setting = Setting("digits", 10, "classifier", probabilities=True, spatial=True)
    metric, cgan = metrics.get("prompt_agreement"), resolve_model("cgan", None)
    reason = metric.reads.why_not(metric, setting, Capabilities("CGAN", abilities(cgan)))
    assert reason == "needs TextConditional; CGAN has: ClassConditional"


def test_samples_with_labels_were_asked_for_classes(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((50, 8, 8), np.uint8), labels=np.arange(50) % 10)
    theirs = {"name": "theirs", "samples": str(tmp_path / "x.npz")}
    assert reasons([theirs], ["class_accuracy", "cas", "per_class_fid"], samples=50) == ["", "", ""]


def test_features_without_classes_or_a_map():
    setting = Setting("digits", 10, "pixels", probabilities=False, spatial=False)
    cgan = Capabilities("CGAN", abilities(resolve_model("cgan", None)))
    wanted = [metrics.get(name) for name in ("fid", "is", "sfid", "cas", "class_accuracy")]
    assert [metric.reads.why_not(metric, setting, cgan) for metric in wanted] == [
        "", "features 'pixels' give no class probabilities", "features 'pixels' have no spatial map", "",
        "features 'pixels' give no class probabilities",
    ]  # fmt: skip


def test_a_translator_needs_a_translation_task(tmp_path):
    assert refused(tmp_path, "  - {name: cyclegan}") == (
        "/s.yaml:4: models[0]: CycleGAN translates; found dataset digits, allowed: {name: edges, of: ...}"
    )
    edges = {"name": "edges", "of": "digits"}
    names = ["fid", "cycle_error", "bits_per_dim"]
    models = [{"name": "cyclegan"}, {"name": "vae"}]
    plan = make_plan(suite(models=models, metrics=names, dataset=edges))
    assert [m.reason for m in plan.cells[0].metrics][:2] == ["", ""]
    assert (
        plan.cells[1].metrics[1].reason
        == "needs Translates; VAE has: LikelihoodBound, ImportanceBound, Encodes, Decodes, Reconstructs"
    )
    assert reasons([{"name": "vae"}], ["fid"], dataset=edges) == [""]


def test_scale_rows_are_asked_for_nothing():
    models = [{"name": "cgan"}, {"name": "vae"}]
    names = ["class_accuracy", "bits_per_dim_iwae", "latency", "memorised"]
    cells = make_plan(suite(models=models, metrics=names)).cells
    gaussian = next(c for c in cells if c.label == "gaussian")
    assert [m.reason for m in gaussian.metrics] == [
        "a scale row is drawn without requested classes", "needs ImportanceBound; gaussian has: DequantisedDensity",
        "a scale row has no network", "",
    ]  # fmt: skip


def test_what_is_sent_to_workers_is_plain_data():
    cell = make_plan(suite()).cells[0]
    code = "import sys, pickle; pickle.load(sys.stdin.buffer); print([m for m in sys.modules if m == 'pydantic'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(cell),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == b"[]"


def test_a_class_that_only_draws_is_planned_without_training(tmp_path):
    (tmp_path / "drawer.py").write_text(DRAWER)
    models = [{"name": "noise", "source": f"{tmp_path}/drawer.py:Noise"}]
    plan = make_plan(suite(models=models, metrics=["fid", "latency"]))
    assert plan.fits == []
    assert isinstance(plan.cells[0].source, SelfContained)
    assert [m.reason for m in plan.cells[0].metrics] == ["", ""]


DRAWER = """
import torch
from genbench.contract import Draws

class Noise(Draws):
    def sample(self, n, gen, condition=None):
        return torch.rand(n, *self.data.shape, generator=gen, device=gen.device) * 2 - 1
"""
