"""Latent diffusion with the weights of a Stable Diffusion pipeline saved by diffusers: same images, nothing silent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genbench.commands.export import write_pipeline
from genbench.contract import Condition, DataSpec
from genbench.errors import ModelError
from genbench.plan.planner import make_plan
from genbench.sources.build import build, load_model, read_weights, write_weights
from genbench.space import seeded
from genbench.suite.schema import Suite
from zoo.latent_diffusion import LatentDiffusion
from zoo.stable_diffusion import merges_of, words_of

diffusers = pytest.importorskip("diffusers", reason="an optional peer")
transformers = pytest.importorskip("transformers", reason="an optional peer")

SPEC = DataSpec(3, 16, 16)
CONFIG = {
    "released": True, "latent": 4, "width": 8, "depths": [1, 2], "depth_blocks": 1, "channels": 16,
    "multipliers": [1, 2], "blocks": 1, "attention": [8], "heads": 2, "text_width": 64, "text_layers": 2,
    "text_length": 12, "groups": 4, "vocabulary": 517, "prediction": "eps", "critic_width": 4,
    "critic_halvings": 1,
}  # fmt: skip
TEXTS = ("A cat's  cat!", "döner, the the the the the the the the the the", "")
MERGES = [("c", "a"), ("ca", "t</w>"), ("t", "h")]


def write_vocabulary(folder: Path) -> transformers.CLIPTokenizer:
    """CLIP's files with three merges instead of 48,894."""
    folder.mkdir(parents=True)
    numbers = words_of([], 517)[0]
    pairs = [[numbers["c"], numbers["a"]], [512, numbers["t</w>"]], [numbers["t"], numbers["h"]]]
    (folder / "vocab.json").write_text(json.dumps(words_of(pairs, 517)[0]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stable Diffusion's classes with small networks, and every weight random."""
    root = tmp_path_factory.mktemp("stable")
    tokenizer = write_vocabulary(root / "vocabulary")
    text = transformers.CLIPTextConfig(
        vocab_size=517, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=12, hidden_act="quick_gelu", bos_token_id=515, eos_token_id=516,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKL(
            3, 3, ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, (8, 16), 1, latent_channels=4,
            norm_num_groups=4, sample_size=16, scaling_factor=0.25,
        )  # fmt: skip
        net = diffusers.UNet2DConditionModel(
            8, 4, 4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), block_out_channels=(16, 32),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=64, attention_head_dim=2,
        )  # fmt: skip
        parts = vae, transformers.CLIPTextModel(text), tokenizer, net
        for parameter in (p for part in (vae, parts[1], net) for p in part.parameters()):
            parameter.data.normal_(0.0, 0.1)
    scheduler = diffusers.DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    diffusers.StableDiffusionPipeline(*parts, scheduler, None, None, requires_safety_checker=False).save_pretrained(
        root / "sd"
    )
    return root / "sd"


def ours(folder, **sampler) -> LatentDiffusion:
    return load_model("latent_diffusion", data=SPEC, weights=folder, sampler=sampler, **CONFIG)


@pytest.mark.parametrize(
    ("spacing", "eta", "guidance"), [("leading", 0.0, 7.5), ("leading", 1.0, 1.0), ("trailing", 0.5, 3.0)]
)
@torch.no_grad()
def test_our_chain_draws_the_images_of_diffusers_pipeline(folder, spacing, eta, guidance):
    model = ours(folder, steps=10, spacing=spacing, eta=eta, guidance=guidance)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if spacing == "trailing":
        changes = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "steps_offset": 0}
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, **changes)
    call = {"height": 16, "width": 16, "num_inference_steps": 10, "eta": eta, "guidance_scale": guidance}
    images = pipeline(list(TEXTS), generator=seeded(3), output_type="np", **call).images
    expected = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    drawn = model.sample(3, seeded(3), Condition(texts=TEXTS))
    assert expected.std() > 0.05  # not a flat picture
    assert torch.allclose(drawn, expected, atol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", pytest.param("trailing", marks=pytest.mark.slow)])
def test_a_released_model_is_exported_as_a_pipeline_whose_weights_it_reads(folder, tmp_path, spacing):
    model = ours(folder, steps=4, spacing=spacing, guidance=3.0)
    assert write_pipeline(model, tmp_path / "out") < 1e-4
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert type(pipeline) is diffusers.StableDiffusionPipeline
    again = ours(tmp_path / "out", steps=4, spacing=spacing, guidance=3.0)
    assert torch.equal(again.sample(1, seeded(0)), model.sample(1, seeded(0)))


@torch.no_grad()
def test_codes_are_those_of_diffusers_autoencoder(folder):
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    x = 2 * torch.rand(2, 3, 16, 16, generator=seeded(0)) - 1
    assert torch.allclose(ours(folder).encode(x), 0.25 * vae.encode(x).latent_dist.mean, atol=1e-5)


def test_texts_are_the_tokens_of_transformers_tokenizer(folder):
    theirs = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    expected = theirs(list(TEXTS), padding="max_length", max_length=12, truncation=True)["input_ids"]
    assert ours(folder).text.tokenise(TEXTS).tolist() == expected
    assert expected[0][2:4] == [513, 6]  # "cat</w>" is one token


def test_a_vocabulary_in_either_form_has_the_same_merges(folder, tmp_path):
    write_vocabulary(tmp_path / "plain")
    text = {f"tokenizer/{f.name}": f.read_text() for f in (tmp_path / "plain").iterdir()}
    plain = merges_of(
        {
            "tokenizer/vocab.json": json.loads(text["tokenizer/vocab.json"]),
            "tokenizer/merges.txt": text["tokenizer/merges.txt"],
        }
    )
    fast = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())
    assert torch.equal(plain, merges_of({"tokenizer/tokenizer.json": fast}))
    with pytest.raises(ModelError, match="tokenizer: found other tokens than CLIP's"):
        merges_of({"tokenizer/vocab.json": {"a": 0, "b": 1, "ab": 2}, "tokenizer/merges.txt": "a b"})


def changed(folder: Path, target: Path, file: str, **settings: object) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(content | settings))
    return target


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("unet/config.json", {"use_linear_projection": True}, "use_linear_projection: found True, allowed: False"),
        ("unet/config.json", {"attention_head_dim": 4}, "attention_head_dim: found 4, allowed: 2"),
        ("text_encoder/config.json", {"hidden_act": "gelu"}, "hidden_act: found 'gelu', allowed: 'quick_gelu'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "prediction_type: found 'v_pred"),
        ("vae/config.json", {"shift_factor": 0.1}, "shift_factor: found 0.1, allowed: None"),
    ],
)
def test_a_pipeline_that_computes_something_else_is_refused(folder, tmp_path, file, settings, message):
    with pytest.raises(ModelError, match=f"{file}: {message}"):
        ours(changed(folder, tmp_path / "other", file, **settings))


def test_what_has_no_place_or_is_missing_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sd")
    file = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file(state | {"extra.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=r"does not fit LatentDiffusion: 'unet\.extra\.weight' is not in the model"):
        ours(tmp_path / "sd")
    save_file({name: tensor for name, tensor in state.items() if "mid_block.attentions" not in name}, file)
    with pytest.raises(ModelError, match=r"26 missing: 'network\.middle\.0\.transformer\.norm\.weight'"):
        ours(tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd" / "vae")
    with pytest.raises(ModelError, match="sd: a pipeline without vae; required: folders unet, vae, text_encoder"):
        ours(tmp_path / "sd")
    plain = build(LatentDiffusion, DataSpec(3, 16, 16), {}, {}, 0)
    with pytest.raises(ModelError, match=r"a pipeline of diffusers; config.released: true builds"):
        read_weights(plain, folder)


def test_a_row_of_a_suite_and_what_was_saved_again(folder, tmp_path):
    row = {"name": "latent_diffusion", "weights": str(folder), "config": CONFIG, "sampler": {"steps": 2}}
    dataset = {"name": "npz", "path": str(colour(tmp_path))}
    raw = {"suite": "s", "dataset": dataset, "features": "pixels", "models": [row], "metrics": ["fid"]}
    (tmp_path / "prompts.txt").write_text("a cat\nthe cat\n")
    raw["prompts"] = str(tmp_path / "prompts.txt")
    first = make_plan(Suite.model_validate(raw)).cells[0]
    assert first.source.file == folder
    other = changed(folder, tmp_path / "other", "vae/config.json", scaling_factor=0.5)
    again = make_plan(Suite.model_validate(raw | {"models": [row | {"weights": str(other)}]})).cells[0]
    assert again.samples_key != first.samples_key  # a setting is part of the key
    model = ours(folder, steps=2)
    write_weights(model, tmp_path / "one.safetensors")
    saved = ours(tmp_path / "one.safetensors", steps=2)  # with its vocabulary
    texts = Condition(texts=TEXTS)
    with torch.no_grad():
        assert torch.equal(saved.sample(3, seeded(0), texts), model.sample(3, seeded(0), texts))


def colour(folder: Path) -> Path:
    path = folder / "colour.npz"
    if not path.exists():
        np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8))
    return path
