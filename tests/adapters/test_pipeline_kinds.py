"""Further kinds of diffusers' pipelines: latent diffusion, consistency models, Stable Diffusion XL."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

from genbench.contract import Condition, DataSpec, abilities
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.errors import CellFailure, ModelError
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


def letters():
    """T5 with small networks, and letters for its vocabulary."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((chr(i), -3.0) for i in range(97, 123)),
    ]
    settings = transformers.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0), transformers.T5EncoderModel(settings)


def words(example, folder, kind):
    """CLIP's text encoder of this class with small networks."""
    tokenizer = example["write_tokenizer"](folder)
    end = tokenizer.eos_token_id
    settings = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, projection_dim=16, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return tokenizer, kind(settings)


def shifted(example):
    return diffusers.AutoencoderKL(
        1, 1, **example["HALVES"], **example["SIZES"], latent_channels=4, sample_size=8, shift_factor=0.1
    )


def stable_3(example, folder):
    """A transformer on latents and three text encoders; a flow."""
    first, second = (words(example, folder / name, transformers.CLIPTextModelWithProjection) for name in "12")
    tokenizer = letters()[0]
    third = transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    net = diffusers.SD3Transformer2DModel(
        sample_size=4, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    encoders = first[1], first[0], second[1], second[0], transformers.T5EncoderModel(third), tokenizer
    diffusers.StableDiffusion3Pipeline(net, scheduler, shifted(example), *encoders).save_pretrained(folder)


def flux(example, folder):
    """A transformer that receives the guidance as a number; its flow's times depend on the size."""
    tokenizer, encoder = words(example, folder / "1", transformers.CLIPTextModel)
    second, encoder_2 = letters()
    net = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    parts = scheduler, shifted(example), encoder, tokenizer, encoder_2, second, net
    diffusers.FluxPipeline(*parts).save_pretrained(folder)


def pixart(example, folder):
    tokenizer, encoder = letters()
    net = diffusers.PixArtTransformer2DModel(
        sample_size=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, caption_channels=16, in_channels=4,
        cross_attention_dim=16, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler()
    diffusers.PixArtAlphaPipeline(tokenizer, encoder, example["autoencoder"](), net, scheduler).save_pretrained(folder)


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
        (stable_3, TEXTS, "TextConditional", 6),
        (flux, TEXTS, "TextConditional", 3),
        (pixart, TEXTS, "TextConditional", 6),
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
        more = {"use_resolution_binning": False} if write is pixart else {}  # of published sizes only
        image = pipeline(
            **wish(condition, i), **more, generator=seeded(seed), num_inference_steps=3, output_type="np"
        ).images
        assert torch.allclose(drawn[i : i + 1], torch.from_numpy(image).permute(0, 3, 1, 2) * 2 - 1, atol=1e-4)


def test_what_needs_more_than_a_class_or_a_text_is_refused_in_a_line(example, tmp_path):
    with torch.random.fork_rng():
        example["write_stable"](tmp_path / "made")
    parts = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "made").components
    repaint = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    repaint.save_pretrained(tmp_path / "repaint")
    model = build(resolve_model("any", "diffusers:./repaint", tmp_path), SPEC, {}, {"steps": 2}, 0)
    with pytest.raises(CellFailure, match="StableDiffusionImg2ImgPipeline: diffusers cannot draw with it in this way"):
        model.sample(1, seeded(0), Condition(texts=("a",)))
    index = {"_class_name": "KandinskyV22Pipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "made" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="KandinskyV22Pipeline requires image_embeds, allowed: prompt, class_labels"):
        resolve_model("any", "diffusers:./made", tmp_path)


def test_further_arguments_of_a_call(example, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flux(example, tmp_path / "made")
    kind = resolve_model("any", "diffusers:./made", tmp_path)
    options = {"steps": 2, "negative_prompt": "blurry", "call": {"true_cfg_scale": 2.0}}
    model = build(kind, SPEC, {}, options, 0).eval()
    with EvaluationCount(model) as counted:
        model.sample(2, seeded(1), Condition(texts=("a", "b")))
    assert model.evaluations == 4
    verify_evaluations(model, counted.per_image(2))
    with pytest.raises(ModelError, match=r"FluxPipeline: sampler.call.true_cfg: unknown key; did you mean"):
        build(kind, SPEC, {}, {"call": {"true_cfg": 2.0}}, 0)
