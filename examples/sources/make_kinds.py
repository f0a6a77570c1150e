"""Writes the artefacts of kinds.yaml: further kinds of diffusers' pipelines, small, with random weights.

    python examples/sources/make_kinds.py

latent/ and consistency/ draw any image, digits/ one of a class; large/ (Stable Diffusion XL), stable_3/, flux/ and
pixart/ draw one for a text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LDMPipeline,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from make_pipelines import HALVES, SIZES, autoencoder, write_tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

BLOCKS: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


def write_latent(folder: Path) -> None:
    """Latent diffusion without a condition: a U-Net on the latents of a quantised autoencoder."""
    quantised = VQModel(1, 1, **HALVES, **SIZES, latent_channels=3, sample_size=8, num_vq_embeddings=16)
    net = UNet2DModel(4, 3, 3, **BLOCKS, **SIZES)
    LDMPipeline(quantised, net, DDIMScheduler()).save_pretrained(folder)


def write_consistency(folder: Path, classes: int | None = None) -> None:
    """A consistency model, of one of these classes."""
    net = UNet2DModel(8, 1, 1, **BLOCKS, **SIZES, num_class_embeds=classes)
    ConsistencyModelPipeline(net, CMStochasticIterativeScheduler()).save_pretrained(folder)


def write_consistency_of_a_class(folder: Path) -> None:
    """A consistency model of the ten digits."""
    write_consistency(folder, classes=10)


def write_large(folder: Path) -> None:
    """Stable Diffusion XL: two text encoders, whose features are joined, and the image's size as a further input."""
    tokenizers = [write_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")]
    end = tokenizers[0].eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(tokenizers[0]), hidden_size=16, intermediate_size=16, num_hidden_layers=2, projection_dim=16,
        num_attention_heads=2, max_position_embeddings=32, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    net = UNet2DConditionModel(
        4, 4, 4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **SIZES, cross_attention_dim=2 * 16,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
    )  # fmt: skip
    encoders = CLIPTextModel(text), CLIPTextModelWithProjection(text)
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    StableDiffusionXLPipeline(
        autoencoder(), *encoders, *tokenizers, net, scheduler, add_watermarker=False
    ).save_pretrained(folder)


def letters() -> tuple[Any, Any]:
    """T5 with small networks, and letters for its vocabulary."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((chr(i), -3.0) for i in range(97, 123)),
    ]
    settings = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5Tokenizer(vocab=pieces, extra_ids=0), T5EncoderModel(settings)


def words(folder: Path, kind: Any) -> tuple[Any, Any]:
    """CLIP's text encoder of this class with small networks."""
    tokenizer = write_tokenizer(folder)
    end = tokenizer.eos_token_id
    settings = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, projection_dim=16, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return tokenizer, kind(settings)


def shifted() -> AutoencoderKL:
    """An autoencoder of images of 8x8 pixels whose latents are shifted."""
    return AutoencoderKL(1, 1, **HALVES, **SIZES, latent_channels=4, sample_size=8, shift_factor=0.1)


def write_stable_3(folder: Path) -> None:
    """Stable Diffusion 3: a transformer on latents and three text encoders; a flow."""
    first, second = (words(folder / name, CLIPTextModelWithProjection) for name in "12")
    tokenizer = letters()[0]
    third = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    net = SD3Transformer2DModel(
        sample_size=4, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    encoders = first[1], first[0], second[1], second[0], T5EncoderModel(third), tokenizer
    StableDiffusion3Pipeline(net, scheduler, shifted(), *encoders).save_pretrained(folder)


def write_flux(folder: Path) -> None:
    """Flux: a transformer that receives the guidance as a number; its flow's times depend on the size."""
    tokenizer, encoder = words(folder / "1", CLIPTextModel)
    second, encoder_2 = letters()
    net = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    parts = scheduler, shifted(), encoder, tokenizer, encoder_2, second, net
    FluxPipeline(*parts).save_pretrained(folder)


def write_pixart(folder: Path) -> None:
    """PixArt: a transformer on latents, and T5."""
    tokenizer, encoder = letters()
    net = PixArtTransformer2DModel(
        sample_size=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, caption_channels=16, in_channels=4,
        cross_attention_dim=16, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler()
    PixArtAlphaPipeline(tokenizer, encoder, autoencoder(), net, scheduler).save_pretrained(folder)


def write_kinds(folder: Path) -> None:
    """A folder for each."""
    torch.manual_seed(0)
    write_latent(folder / "latent")
    write_consistency(folder / "consistency")
    write_consistency_of_a_class(folder / "digits")
    write_large(folder / "large")
    write_stable_3(folder / "stable_3")
    write_flux(folder / "flux")
    write_pixart(folder / "pixart")


if __name__ == "__main__":
    write_kinds(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
