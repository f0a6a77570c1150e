"""Pipelines of diffusers, made here with its own classes: what they draw, what they can do, and what is refused."""

from __future__ import annotations

import json
import runpy
import threading
from pathlib import Path

import pytest
import torch

from genbench.contract import Condition, DataSpec, abilities
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.errors import CellFailure, ModelError, Undefined
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded

diffusers = pytest.importorskip("diffusers", reason="an optional source")
pytest.importorskip("transformers", reason="an optional source")

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "sources"
SPEC = DataSpec(1, 8, 8, 17, classes=10)
LABELS, TEXTS = Condition(torch.tensor([3, 1, 4])), Condition(texts=("a three", "a one", "a four"))
CONDITIONS = {"ddpm": None, "dit": LABELS, "stable": TEXTS}


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(EXAMPLES / "make_pipelines.py"), run_name="make_pipelines")


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    """ddpm, dit and stable of the example."""
    place = tmp_path_factory.mktemp("pipelines")
    with torch.random.fork_rng():
        made["write_pipelines"](place)
    return place


def model(folder, name, config=None, spec=SPEC, **sampler):
    return build(resolve_model("any", f"diffusers:./{name}", folder), spec, config or {}, sampler, 0).eval()


def part(condition, i):
    if condition is None:
        return None
    texts = condition.texts and condition.texts[i : i + 1]
    return Condition(None if condition.labels is None else condition.labels[i : i + 1], texts)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_pipeline_draws_what_diffusers_draws_and_each_image_on_its_own(folder, name):
    drawn = model(folder, name, {"batch": 2}, steps=3).sample(3, seeded(1), CONDITIONS[name])
    seeds = torch.randint(2**63 - 1, (3,), generator=seeded(1)).tolist()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder / name)
    pipeline.set_progress_bar_config(disable=True)
    for i, seed in enumerate(seeds):  # one at a time
        condition = part(CONDITIONS[name], i)
        wish = {"dit": lambda c: {"class_labels": c.labels.tolist()}, "ddpm": lambda c: {},
                "stable": lambda c: {"prompt": list(c.texts), "height": 8, "width": 8}}[name](condition)  # fmt: skip
        image = pipeline(**wish, generator=seeded(seed), num_inference_steps=3, output_type="np").images
        expected = torch.from_numpy(image).permute(0, 3, 1, 2) * 2 - 1
        assert torch.allclose(drawn[i : i + 1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "sampler", "count"),
    [
        ("ddpm", {}, 20),  # all times of its scheduler, as the call's default is 1,000
        ("ddpm", {"scheduler_options": {"num_train_timesteps": 2000}}, 1000),
        ("ddpm", {"steps": 5}, 5),
        ("ddpm", {"scheduler": "DDIM", "scheduler_options": {"num_train_timesteps": 6}}, 6),
        ("stable", {"steps": 3, "scheduler": "HeunDiscrete"}, 10),
        ("dit", {"steps": 3}, 6),
        ("dit", {"steps": 3, "guidance": 1.0}, 3),
        ("stable", {"steps": 4, "scheduler": "PNDM", "scheduler_options": {"skip_prk_steps": True}}, 10),
        ("stable", {"steps": 3, "guidance": 1.0}, 3),
    ],
)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_evaluations_are_rows(folder, name, sampler, count):
    drawing = model(folder, name, **sampler)
    assert drawing.evaluations == count
    if count < 100:
        with EvaluationCount(drawing) as counted:
            drawing.sample(3, seeded(0), CONDITIONS[name])
        verify_evaluations(drawing, counted.per_image(3))


def test_abilities_are_those_of_the_folder(folder):
    found = {name: abilities(resolve_model("any", f"diffusers:{folder}/{name}")) for name in CONDITIONS}
    assert found["ddpm"] == ("LikelihoodBound", "LikelihoodEstimate", "Steps")
    assert found["dit"] == ("ClassConditional", "Steps")
    assert found["stable"] == ("TextConditional", "Steps")


def test_the_bound_is_that_of_our_ddpm_with_the_same_weights(folder):
    from zoo.ddpm import DDPM, AncestralSampler, Config
    from zoo.portable import from_diffusers

    down = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "norm_eps": 1e-6}
    ours = {"flip_sin_to_cos": False, "freq_shift": 1, "attention_head_dim": None, "downsample_padding": 0}
    net = diffusers.UNet2DModel(8, 1, 1, **down, **sizes, **ours)
    scheduler = diffusers.DDPMScheduler(20, beta_end=0.3, variance_type="fixed_large")
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(folder / "bound")
    config = Config(steps=20, beta_last=0.3, channels=8, multipliers=(1, 2), blocks=1, attention=(), groups=4)
    zoo = DDPM(SPEC, config, AncestralSampler("large", True))
    zoo.network.load_state_dict(from_diffusers(net.state_dict()))
    zoo.network.embed.scale = 1.0
    pixels = torch.randint(17, (4, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    theirs = model(folder, "bound", steps=20)
    with torch.no_grad():
        assert torch.allclose(theirs.log_prob_bound(pixels), zoo.log_prob_bound(pixels), rtol=1e-4)
        assert torch.allclose(theirs.log_prob_estimate(pixels), zoo.log_prob_estimate(pixels), rtol=1e-4)
    with pytest.raises(Undefined, match="bound is of the ancestral chain of all 20 steps: this row draws with DDIM"):
        model(folder, "bound", steps=20, scheduler="DDIM").log_prob_bound(pixels)


def test_classes_of_the_data_may_have_other_numbers_in_the_pipeline(folder):
    mapped = model(folder, "dit", {"classes": [9 - k for k in range(10)]}, steps=2)
    drawn = mapped.sample(3, seeded(1), Condition(9 - LABELS.labels))
    assert torch.equal(drawn, model(folder, "dit", steps=2).sample(3, seeded(1), LABELS))


def test_images_of_another_size_are_refused_or_resized(folder):
    spec = DataSpec(1, 12, 12, 17)
    with pytest.raises(ModelError, match=r"draws images of 1x8x8, the data has 1x12x12; config.resize: true resizes"):
        model(folder, "ddpm", spec=spec, steps=2).sample(1, seeded(0))
    assert model(folder, "ddpm", {"resize": True}, spec, steps=2).sample(2, seeded(0)).shape == (2, 1, 12, 12)
    with pytest.raises(ModelError, match=r"draws images of 1x8x8, the data has 3x8x8$"):
        model(folder, "ddpm", spec=DataSpec(3, 8, 8), steps=2).sample(1, seeded(0))


def test_weights_and_arithmetic_in_half_precision(folder):
    half, full = (model(folder, "ddpm", steps=3, dtype=dtype) for dtype in ("bf16", "fp32"))
    assert {p.dtype for p in half.denoiser.parameters()} == {torch.bfloat16}
    drawn, exact = half.sample(2, seeded(0)), full.sample(2, seeded(0))
    assert drawn.dtype == torch.float32
    assert drawn.isfinite().all()
    assert exact.shape == drawn.shape


@pytest.mark.parametrize("offload", ["model", "layer"])
def test_weights_are_not_moved_from_a_cpu_to_a_cpu(folder, offload):
    with pytest.raises(CellFailure, match=f"DDPMPipeline: config.offload: found '{offload}' on a CPU"):
        model(folder, "ddpm", {"offload": offload}, steps=2).sample(1, seeded(0))


def test_weights_that_wait_on_the_cpu_and_visit_a_device_draw_the_same_images(folder):
    pytest.importorskip("accelerate", reason="an optional source")
    waiting = model(folder, "stable", {"offload": "model"}, steps=2)
    assert not list(waiting.children())  # moving the model moves no component
    waiting.pipeline.enable_model_cpu_offload(device=torch.device("cpu"))  # a GPU's hooks, with a CPU in its place
    waiting.prepared = True
    drawn = waiting.sample(3, seeded(0), TEXTS)
    assert all(hasattr(part, "_hf_hook") for part in waiting.held)
    assert torch.equal(drawn, model(folder, "stable", steps=2).sample(3, seeded(0), TEXTS))


def test_an_error_of_the_compiler_states_what_to_delete_or_to_set(folder):
    """As with a compiled file that is cut short, which the compiler reports as an error of its own."""

    def damaged(graph, inputs):
        raise ImportError("cache/cx/cx4k.so: file too short")

    drawing = model(folder, "ddpm", steps=2)
    drawing.denoiser.compile(backend=damaged)
    with pytest.raises(CellFailure) as caught:
        drawing.sample(1, seeded(0))
    assert str(caught.value).startswith("DDPMPipeline: config.compile: the network cannot be compiled, or a file")
    assert "cx4k.so: file too short" in str(caught.value)
    assert str(caught.value).endswith("or set compile: false")


def test_progress_bars_have_no_semaphore_of_the_system(folder, monkeypatch):
    """A worker ends at once; Python would report the semaphore of a bar's usual lock as leaked, on the screen.

    transformers, which loads a text encoder, shows a bar of its own before diffusers does.
    """
    bars = pytest.importorskip("tqdm").tqdm
    monkeypatch.delattr(bars, "_lock", raising=False)
    monkeypatch.setattr("tqdm.std.TqdmDefaultWriteLock", None)
    model(folder, "stable", steps=1)
    assert isinstance(bars.get_lock(), type(threading.RLock()))


def test_slicing_changes_nothing(folder):
    sliced = model(folder, "stable", {"slicing": True}, steps=2).sample(3, seeded(0), TEXTS)
    assert torch.allclose(sliced, model(folder, "stable", steps=2).sample(3, seeded(0), TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sampler", "message"),
    [
        ("ddpm", {"guidance": 2.0}, "DDPMPipeline: sampler.guidance: found 2.0, which it does not accept"),
        ("ddpm", {"eta": 0.5}, "sampler.eta: found 0.5, which it does not accept"),
        ("dit", {"negative_prompt": "x"}, "sampler.negative_prompt: found 'x', which it does not accept"),
        ("ddpm", {"scheduler": "DDIMM"}, "sampler.scheduler: found 'DDIMM'; did you mean 'DDIMScheduler'"),
        ("ddpm", {"scheduler_options": {"stepps": 3}}, r"sampler.scheduler_options.stepps: unknown key"),
    ],
)
def test_options_that_a_pipeline_does_not_have(folder, name, sampler, message):
    with pytest.raises(ModelError, match=message):
        model(folder, name, **sampler)


# ---- refused folders -------------------------------------------------------------------------------------------------


def changed(made, folder, change):
    with torch.random.fork_rng():
        made["write_ddpm"](folder / "bad")
    path = folder / "bad" / "model_index.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return folder / "bad"


def test_code_of_a_pipeline_runs_only_where_the_suite_says_so(made, tmp_path):
    bad = changed(made, tmp_path, lambda index: index | {"unet": ["my_unet", "UNet2DModel"]})
    (bad / "unet" / "my_unet.py").write_text(
        f"open({str(tmp_path / 'trap')!r}, 'w')\nfrom diffusers import UNet2DModel\n"
    )
    with pytest.raises(ModelError, match=r"unet: found code of 'my_unet', allowed: .* unless config.trust_remote_code"):
        model(tmp_path, "bad")
    assert not (tmp_path / "trap").exists()


def test_a_component_of_an_installed_package_is_no_way_around(made, tmp_path):
    changed(made, tmp_path, lambda index: index | {"unet": ["subprocess", "Popen"]})
    with pytest.raises(ModelError, match="unet: found code of 'subprocess', allowed"):
        model(tmp_path, "bad")


def test_classes_that_configs_name_for_automatic_loading_are_not_run(made, tmp_path):
    with torch.random.fork_rng():
        made["write_stable"](tmp_path / "bad")
    files = {"text_encoder": "config.json", "tokenizer": "tokenizer_config.json", "unet": "config.json"}
    names = {"AutoConfig": "evil.Own", "AutoModel": "evil.Own", "AutoTokenizer": ["evil.Own", None]}
    for component, file in files.items():
        config = tmp_path / "bad" / component / file
        known = json.loads(config.read_text()) if config.is_file() else {}
        config.write_text(json.dumps(known | {"auto_map": names, "trust_remote_code": True}))
        for folder in (tmp_path / "bad", config.parent):
            (folder / "evil.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')\nclass Own: pass\n")
    assert model(tmp_path, "bad", steps=1).sample(1, seeded(0), part(TEXTS, 0)).shape == (1, 1, 8, 8)
    assert not (tmp_path / "trap").exists()


def test_a_pipeline_of_its_own_file_runs_only_where_the_suite_says_so(made, tmp_path):
    bad = changed(made, tmp_path, lambda index: index | {"_class_name": ["own", "Own"]})
    (bad / "own.py").write_text(
        f"open({str(tmp_path / 'trap')!r}, 'w')\nclass Own:\n    def __call__(self, batch_size=1): pass\n"
    )
    with pytest.raises(ModelError, match=r"_class_name: found code of 'own', allowed: .* unless config.trust_remote"):
        model(tmp_path, "bad")
    assert not (tmp_path / "trap").exists()


def test_a_pickle_is_not_run(made, tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "trap",)

    bad = changed(made, tmp_path, lambda index: index)
    (bad / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": Touch()}, bad / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded by diffusers"):
        model(tmp_path, "bad")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("name", ["NoPipeline", "UNet2DModel", "__doc__", 3])
def test_a_folder_that_names_no_pipeline(made, tmp_path, name):
    changed(made, tmp_path, lambda index: index | {"_class_name": name})
    with pytest.raises(ModelError, match=r"model_index.json: _class_name: found .*, allowed: a pipeline of"):
        model(tmp_path, "bad")


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ModelError, match=r"found a folder without model_index.json at .*empty, allowed: the folder of a"
    ):
        model(tmp_path, "empty")
    with pytest.raises((ModelError, CellFailure), match="found nothing at"):
        model(tmp_path, "none")
