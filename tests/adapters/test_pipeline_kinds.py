"""Further kinds of diffusers' pipelines: latent diffusion, consistency models, Stable Diffusion XL."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from genbench.contract import Condition, DataSpec, abilities
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded

diffusers = pytest.importorskip("diffusers", reason="an optional source")
transformers = pytest.importorskip("transformers", reason="an optional source")

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "sources"
SPEC = DataSpec(1, 8, 8, 17, classes=10)
UNCONDITIONAL, LABELS = Condition(), Condition(torch.tensor([3, 1, 4]))
TEXTS = Condition(texts=("a three", "a one", "a four"))
BLOCKS = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLES / "make_pipelines.py"), run_name="make_pipelines")


def latent(example, folder):
    quantised = diffusers.VQModel(
        1, 1, **example["HALVES"], **example["SIZES"], latent_channels=3, sample_size=8, num_vq_embeddings=16
    )
    net = diffusers.UNet2DModel(4, 3, 3, **BLOCKS, **example["SIZES"])
    diffusers.LDMPipeline(quantised, net, diffusers.DDIMScheduler()).save_pretrained(folder)


def consistency(example, folder, classes=None):
    net = diffusers.UNet2DModel(8, 1, 1, **BLOCKS, **example["SIZES"], num_class_embeds=classes)
    diffusers.ConsistencyModelPipeline(net, diffusers.CMStochasticIterativeScheduler()).save_pretrained(folder)


def consistency_of_a_class(example, folder):
    consistency(example, folder, classes=10)


def large(example, folder):
    """With two text encoders, whose features are joined, and the size of the image as a further input."""
    tokenizers = [example["write_tokenizer"](folder / name) for name in ("tokenizer", "tokenizer_2")]
    end = tokenizers[0].eos_token_id
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizers[0]), hidden_size=16, intermediate_size=16, num_hidden_layers=2, projection_dim=16,
        num_attention_heads=2, max_position_embeddings=32, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    net = diffusers.UNet2DConditionModel(
        4, 4, 4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **example["SIZES"], cross_attention_dim=2 * 16,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
    )  # fmt: skip
    encoders = transformers.CLIPTextModel(text), transformers.CLIPTextModelWithProjection(text)
    scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear")
    diffusers.StableDiffusionXLPipeline(
        example["autoencoder"](), *encoders, *tokenizers, net, scheduler, add_watermarker=False
    ).save_pretrained(folder)


def wish(condition, i):
    if condition.texts:
        return {"prompt": [condition.texts[i]], "height": 8, "width": 8}
    return {} if condition.labels is None else {"class_labels": condition.labels[i : i + 1].tolist()}


@pytest.mark.parametrize(
    ("write", "condition", "ability", "evaluations"),
    [
        (latent, UNCONDITIONAL, None, 3),
        (consistency, UNCONDITIONAL, None, 3),
        (consistency_of_a_class, LABELS, "ClassConditional", 3),
        (large, TEXTS, "TextConditional", 6),  # guidance is on
    ],
)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_it_draws_what_diffusers_draws_and_each_image_on_its_own(
    example, tmp_path, write, condition, ability, evaluations
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write(example, tmp_path / "made")
    kind = resolve_model("any", "diffusers:./made", tmp_path)
    assert abilities(kind) == tuple(name for name in (ability, "Steps") if name)
    model = build(kind, SPEC, {"batch": 2}, {"steps": 3}, 0).eval()
    with EvaluationCount(model) as counted:
        drawn = model.sample(3, seeded(1), None if condition is UNCONDITIONAL else condition)
    assert model.evaluations == evaluations
    verify_evaluations(model, counted.per_image(3))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "made")
    pipeline.set_progress_bar_config(disable=True)
    for i, seed in enumerate(torch.randint(2**63 - 1, (3,), generator=seeded(1)).tolist()):  # one at a time
        image = pipeline(**wish(condition, i), generator=seeded(seed), num_inference_steps=3, output_type="np").images
        assert torch.allclose(drawn[i : i + 1], torch.from_numpy(image).permute(0, 3, 1, 2) * 2 - 1, atol=1e-4)
