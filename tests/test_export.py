"""`genbench export`: what it writes is loaded by genbench, diffusers and onnxruntime, and draws the same images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import genbench
from genbench.commands.export import beside_noise, export_cell, write_decoder, write_pipeline
from genbench.commands.folding import constant_folded
from genbench.commands.sample import trained_cell
from genbench.contract import Condition, DataSpec, Decodes, TextConditional
from genbench.errors import GenbenchError, ModelError, SuiteError, Undefined
from genbench.evaluate.cell import evaluate
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.space import seeded
from genbench.store import Store
from genbench.suite.schema import Suite, read_suite

SUITE = {
    "suite": "small", "dataset": {"name": "digits"}, "features": "pixels", "budget": {"images": 128}, "samples": 20,
    "models": [
        {"name": "vae", "sampler": {"output": "sample"},
         "claims": [{"metric": "fid", "value": 3.0, "source": "nobody 2020"}]},
        {"name": "realnvp"},
        {"name": "ddpm", "config": {"steps": 20}},
        {"name": "ddim", "weights_of": "ddpm", "sampler": {"steps": 5, "spacing": "uniform"}},
    ],
    "metrics": ["fid"],
}  # fmt: skip


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return path


def train(suite: Path, *labels: str):
    plan, store = make_plan(read_suite(suite), models=labels), Store()
    for fit in plan.fits:
        fit.run(plan.data, store, "cpu", silent)
    return plan


def drawn(suite: Suite, label: str) -> torch.Tensor:
    cell, opened = trained_cell(label, suite)
    return cell.source.draw(opened).images.pixels


def test_a_row_with_the_folder_for_weights_draws_the_same_bits(suite, tmp_path):
    plan = train(suite, "vae")
    evaluate(plan.cells[0], False, Store(), "cpu", silent)
    export_cell("vae", suite, tmp_path / "out")
    rows = [{key: name, "weights": str(tmp_path / "out")} for key, name in (("name", "back"), ("label", "again"))]
    again = Suite.model_validate(SUITE | {"models": [{"name": "vae", "weights": str(tmp_path / "out")}, *rows]})
    for label in ("vae", "back", "again"):  # neither config nor sampler
        assert torch.equal(drawn(again, label), drawn(read_suite(suite), "vae"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| fid | " in card
    assert "fid 3 (tolerance 0): nobody 2020" in card
    call = next(line.strip() for line in card.splitlines() if "load_model" in line)
    model = eval(call.replace("FOLDER", str(tmp_path / "out")), {"genbench": genbench})
    assert model.sampler.output == "sample"
    same = trained_cell("vae", read_suite(suite))[1].model.sample(3, seeded(0))
    assert torch.allclose(model.sample(3, seeded(0)), same, atol=1e-5)  # another memory layout
    with pytest.raises(GenbenchError, match="found a folder with files, allowed: a new or empty one"):
        export_cell("vae", suite, tmp_path / "out")


def test_weights_of_unknown_models_and_damaged_folders_are_named(tmp_path):
    out, path = tmp_path / "out", tmp_path / "small.yaml"
    out.mkdir()
    path.write_text(yaml.safe_dump(SUITE | {"models": [{"name": "back", "weights": "out"}]}))
    for settings, message in (
        ('{"genbench": "1", "name": "nobodys"}', "models[0].name: unknown model 'back'; allowed: cgan"),
        ('{"name": "vae"}', "models[0].name: unknown model 'back'; allowed: cgan"),
        ("{", "models[0].weights: "),
    ):
        (out / "config.json").write_text(settings)
        with pytest.raises(SuiteError) as error:
            read_suite(path)
        assert message in str(error.value)


@pytest.mark.parametrize("present", [False, True])
def test_an_export_that_fails_leaves_no_files(suite, tmp_path, monkeypatch, present):
    train(suite, "realnvp")
    out = tmp_path / "out"
    if present:
        out.mkdir()

    def failing(*_):
        assert {p.name for p in out.iterdir()} == {"model.safetensors", "config.json"}
        raise OSError("no space left")

    monkeypatch.setattr("genbench.commands.export._further_parts", lambda model: {})
    monkeypatch.setattr("genbench.commands.export.model_card", failing)
    with pytest.raises(OSError, match="no space left"):
        export_cell("realnvp", suite, out)
    assert out.exists() == present
    assert not present or not list(out.iterdir())


def test_a_form_that_cannot_be_written_or_compared_leaves_no_files(suite, tmp_path, monkeypatch):
    train(suite, "realnvp")

    def half(model, path):
        path.mkdir()
        (path / "part").write_text("x")
        raise ValueError("cannot be compared")

    monkeypatch.setattr("genbench.commands.export._further_parts", lambda model: {"form": half})
    assert "form: not written: cannot be compared" in export_cell("realnvp", suite, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.safetensors", "config.json", "README.md"}


def test_a_form_with_other_images_is_named_with_what_is_allowed(suite, tmp_path, monkeypatch):
    train(suite, "realnvp")
    monkeypatch.setattr("genbench.commands.export._further_parts", lambda model: {"form": lambda model, path: 0.25})
    found = "form: found images that differ by 0.25 in [-1, 1], allowed: 0.002; do not use it"
    assert found in export_cell("realnvp", suite, tmp_path / "out")


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_diffusion_model_is_a_pipeline_that_draws_the_same_images(suite, tmp_path, name, capfd):
    diffusers = pytest.importorskip("diffusers", reason="an optional peer")
    train(suite, "ddpm", name)
    capfd.readouterr()
    text = export_cell(name, suite, tmp_path / "out")
    assert "Loading" not in capfd.readouterr().err  # diffusers' bars
    assert "diffusers: loaded again, its images differ by at most" in text
    folder = tmp_path / "out" / "diffusers"
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    card = (tmp_path / "out" / "README.md").read_text()
    assert {"ddpm": "pipeline(num_inference_steps=20", "ddim": "pipeline(num_inference_steps=5"}[name] in card
    call = {"ddpm": {"num_inference_steps": 20}, "ddim": {"num_inference_steps": 5, "use_clipped_model_output": True}}
    theirs = pipeline(batch_size=3, generator=seeded(4), output_type="np", **call[name]).images
    ours = trained_cell(name, read_suite(suite))[1].model.sample(3, seeded(4))
    assert torch.allclose(torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1, ours, atol=1e-3)
    if name == "ddpm":  # and genbench reads what it wrote, with the same bound
        kind = genbench.load_model(
            "any", source=f"diffusers:{folder}", data=DataSpec(1, 8, 8, 17), sampler={"steps": 20}
        )
        pixels = torch.randint(17, (4, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
        model = trained_cell(name, read_suite(suite))[1].model
        with torch.no_grad():
            assert torch.allclose(kind.log_prob_bound(pixels), model.log_prob_bound(pixels), rtol=1e-3)
        with pytest.raises(Undefined, match="a table of its times"):  # which the ODE's other times are not in
            kind.log_prob_estimate(pixels)


def test_what_diffusers_does_not_have_is_not_written_and_named(suite, tmp_path):
    pytest.importorskip("diffusers", reason="an optional peer")
    row = {"name": "ddpm", "config": {"steps": 20, "groups": 10}}
    suite.write_text(yaml.safe_dump(SUITE | {"models": [row], "budget": {"images": 4}}))
    train(suite, "ddpm")
    text = export_cell("ddpm", suite, tmp_path / "out")
    assert "diffusers: not written: normalisations have 8, 9 groups; diffusers has one number" in text
    assert not (tmp_path / "out" / "diffusers").exists()


def test_a_decoder_is_an_onnx_graph_with_the_same_images(suite, tmp_path):
    pytest.importorskip("onnxscript", reason="an optional library")
    pytest.importorskip("onnxruntime", reason="an optional library")
    train(suite, "vae")
    assert "decoder.onnx: loaded again, its images differ by at most" in export_cell("vae", suite, tmp_path / "out")
    model = trained_cell("vae", read_suite(suite))[1].model
    graph = genbench.load_model("any", source=f"onnx:{tmp_path}/out/decoder.onnx", data=model.data)
    assert torch.allclose(
        graph.decode(model.standard_normal(7, seeded(1))), model.decode(model.noise(7, seeded(1))), atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "sampler"), [("vae", {"output": "mean"}), ("realnvp", {"temperature": 0.5}), ("gan", {})]
)
@torch.no_grad()
def test_a_graph_read_back_as_a_source_draws_the_samples_of_the_model(tmp_path, name, sampler):
    """The learned prior and the temperature are part of it, as a source draws N(0, I)."""
    pytest.importorskip("onnxscript", reason="an optional library")
    pytest.importorskip("onnxruntime", reason="an optional library")
    model = genbench.load_model(name, data=DataSpec(1, 8, 8, 17, 10), sampler=sampler)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=seeded(2)))
    write_decoder(model, tmp_path / "decoder.onnx")
    graph = genbench.load_model("any", source=f"onnx:{tmp_path}/decoder.onnx", data=model.data)
    drawn = model.sample(9, seeded(3))
    assert torch.allclose(graph.sample(9, seeded(3)), drawn, atol=1e-4)
    if name == "vae":
        assert not torch.allclose(model.decode(model.standard_normal(9, seeded(3))), drawn, atol=1e-3)


@pytest.mark.parametrize("name", ["gan", "dcgan", "stylegan", "glow", pytest.param("realnvp", marks=pytest.mark.slow)])
@torch.no_grad()
def test_every_decoder_of_the_zoo_is_a_graph_for_any_number_of_images(tmp_path, name):
    pytest.importorskip("onnxscript", reason="an optional library")
    runtime = pytest.importorskip("onnxruntime", reason="an optional library")
    config = {"steps": 1, "width": 8} if name == "glow" else {}
    model = genbench.load_model(name, data=DataSpec(1, 8, 8, 17, 10), **config)
    assert isinstance(model, Decodes)
    for parameter in model.parameters():  # many layers begin as zeros
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=seeded(2)))
    assert write_decoder(model, tmp_path / "decoder.onnx") < 1e-4
    session = runtime.InferenceSession(tmp_path / "decoder.onnx")
    z = model.noise(7, seeded(1))
    (images,) = session.run(None, {session.get_inputs()[0].name: z.numpy()})
    assert torch.allclose(torch.from_numpy(images), model.decode(z), atol=1e-4)
    assert len(images) == 7


@pytest.mark.parametrize(("name", "sampler", "apart"), [
    ("vae", {"output": "sample"}, True), ("vae", {"output": "mean"}, False), ("stylegan", {}, True),
    ("dcgan", {}, False), ("ddpm", {}, False), ("realnvp", {"temperature": 0.5}, False), ("cgan", {}, False),
])  # fmt: skip
@torch.no_grad()
def test_samples_that_are_no_images_of_their_noise_are_found(name, sampler, apart):
    model = genbench.load_model(name, data=DataSpec(1, 8, 8, 17, 10), sampler=sampler)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=seeded(2)))
    assert (beside_noise(model) > 2e-3) is apart


@torch.no_grad()
def test_what_depends_on_weights_alone_is_folded_and_random_numbers_are_not():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[2.0, 1.0], [0.0, 4.0]]))

        def forward(self, z):
            return z @ torch.linalg.inv_ex(self.weight).inverse + torch.rand(2)

    graph, axes = constant_folded(Net(), torch.zeros(3, 2))
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert not any("inv" in name for name in names)
    assert any("rand" in name for name in names)
    assert axes is not None
    assert graph(torch.zeros(5, 2)).shape == (5, 2)
    assert not torch.equal(graph(torch.zeros(1, 2)), graph(torch.zeros(1, 2)))


def perturbed(name: str, data: DataSpec, **options: dict) -> torch.nn.Module:
    """A model of the zoo whose weights are all random: many layers begin as zeros."""
    model = genbench.load_model(name, data=data, **options)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=seeded(2))
    return model


SQUARE, OBLONG = DataSpec(1, 8, 8, 17), DataSpec(3, 8, 12, 17)


@pytest.mark.parametrize(
    ("name", "sampler", "data"),
    [
        ("ddim", {"steps": 7, "spacing": "quadratic"}, SQUARE),
        ("ddim", {"steps": 7, "spacing": "uniform", "eta": 0.5}, OBLONG),
        ("flow_matching", {"steps": 7}, SQUARE),
        ("flow_matching", {"steps": 1}, SQUARE),
        ("flow_matching", {"steps": 3, "solver": "heun"}, OBLONG),
        ("edm", {"steps": 3}, SQUARE),
        ("edm", {"steps": 3, "churn": 2.0, "sigma_max": 10.0, "sigma_min": 0.05, "rho": 4.0}, OBLONG),
        ("edm", {"steps": 3, "solver": "euler"}, SQUARE),
        ("mean_flow", {"steps": 1}, SQUARE),
        ("mean_flow", {"steps": 3}, OBLONG),
        ("latent_diffusion", {"steps": 4}, SQUARE),
        pytest.param("latent_diffusion", {"steps": 4, "spacing": "leading", "guidance": 0.0, "eta": 0.5},
                     DataSpec(3, 16, 24), marks=pytest.mark.slow),
    ],
)  # fmt: skip
@torch.no_grad()
def test_every_diffusion_model_is_a_pipeline_that_draws_the_same_images(tmp_path, name, sampler, data):
    pytest.importorskip("diffusers", reason="an optional peer")
    model = perturbed(name, data, sampler=sampler)
    assert write_pipeline(model, tmp_path / "out") < 1e-4
    images = model.sample(2, seeded(0))
    assert images.std() > 0.05
    assert (model.sample(2, seeded(1)) - images).abs().max() > 0.1


@pytest.mark.parametrize(
    ("sampler", "config", "message"),
    [
        ({"steps": 3}, {}, "sampler.steps: found 3, allowed for diffusers: a divisor of 1000"),
        ({"guidance": 0.5}, {"released": True, "vocabulary": 520, "text_width": 64, "text_layers": 1},
         "sampler.guidance: found 0.5, allowed for StableDiffusionPipeline: at least 1"),
    ],
)  # fmt: skip
def test_what_no_pipeline_draws_is_named(sampler, config, message):
    pytest.importorskip("transformers", reason="an optional peer")
    with pytest.raises(ModelError, match=message):
        genbench.load_model("latent_diffusion", data=SQUARE, sampler=sampler, **config).for_diffusers()


def test_a_pipeline_with_a_file_of_its_own_is_read_as_a_source_where_the_suite_trusts_it(tmp_path):
    pytest.importorskip("diffusers", reason="an optional peer")
    model = perturbed("latent_diffusion", SQUARE, sampler={"steps": 4, "guidance": 2.0})
    write_pipeline(model, tmp_path / "out")
    (tmp_path / "out" / "text_pipeline.py").write_text(
        (tmp_path / "out" / "text_pipeline.py").read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n"
    )
    row = {"data": SQUARE, "source": f"diffusers:{tmp_path / 'out'}", "sampler": {"steps": 4, "guidance": 2.0}}
    with pytest.raises(ModelError, match="_class_name: found code of 'text_pipeline', allowed: diffusers"):
        genbench.load_model("any", **row)
    assert not (tmp_path / "ran").exists()  # reading its arguments did not import it
    theirs = genbench.load_model("any", **row, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert isinstance(theirs, TextConditional)
    assert theirs.evaluations == 8
    drawn = theirs.sample(2, seeded(0), Condition(texts=("a one", "a two")))
    again = theirs.sample(1, seeded(0), Condition(texts=("a one",)))
    assert torch.allclose(drawn[:1], again, atol=1e-4)
    assert drawn.std() > 0.05


@torch.no_grad()
def test_a_generator_of_classes_is_a_graph_of_latents_and_classes(tmp_path):
    pytest.importorskip("onnxscript", reason="an optional library")
    pytest.importorskip("onnxruntime", reason="an optional library")
    model = perturbed("cgan", DataSpec(1, 8, 8, 17, 10))
    assert write_decoder(model, tmp_path / "decoder.onnx") < 1e-4
    graph = genbench.load_model("any", source=f"onnx:{tmp_path}/decoder.onnx", data=model.data)
    labels = torch.tensor([3, 1, 4])
    drawn = graph.sample(3, seeded(1), Condition(labels))
    assert torch.allclose(drawn, model.sample(3, seeded(1), Condition(labels)), atol=1e-4)
    assert not torch.allclose(drawn, graph.sample(3, seeded(1), Condition(labels.flip(0))), atol=1e-2)


def test_config_json_states_class_options_and_images(suite, tmp_path):
    train(suite, "ddpm")
    export_cell("ddpm", suite, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (settings["name"], settings["config"]["steps"], settings["data"]["levels"]) == ("ddpm", 20, 17)
