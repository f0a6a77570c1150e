"""Writes the artefacts of pipelines.yaml: small pipelines of diffusers with random weights, saved by diffusers.

    python examples/sources/make_pipelines.py

ddpm/ draws any digit, dit/ one of a class, stable/ one for a text. A pipeline of your own, trained or downloaded, is a
folder of the same kind.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZES: dict[str, Any] = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
HALVES: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


def autoencoder(channels: int = 1) -> AutoencoderKL:
    """Images of 8x8 pixels to latents of 4x4."""
    return AutoencoderKL(channels, channels, **HALVES, **SIZES, latent_channels=4, sample_size=8)


def write_ddpm(folder: Path, steps: int = 20) -> None:
    """A U-Net on pixels, drawn in as many steps as it was trained for."""
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    net = UNet2DModel(8, 1, 1, down_block_types=down, up_block_types=up, **SIZES)
    scheduler = DDPMScheduler(steps, beta_end=0.3, variance_type="fixed_large")
    DDPMPipeline(net, scheduler).save_pretrained(folder)


def write_dit(folder: Path) -> None:
    """A transformer on latents, for one of a thousand classes, which is the number that diffusers' DiT requires."""
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, norm_num_groups=4,
        sample_size=4, num_embeds_ada_norm=1000,
    )  # fmt: skip
    labels = {str(k): str(k) for k in range(1000)}
    DiTPipeline(net, autoencoder(), DDIMScheduler(), id2label=labels).save_pretrained(folder)


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with letters for its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)


def write_stable(folder: Path) -> None:
    """Stable Diffusion with small networks."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    end = tokenizer.eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    net = UNet2DConditionModel(
        4, 4, 4, down_block_types=down, up_block_types=up, **SIZES, cross_attention_dim=16, attention_head_dim=2
    )
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    StableDiffusionPipeline(
        autoencoder(), CLIPTextModel(text), tokenizer, net, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)


def write_pipelines(folder: Path) -> None:
    """The folders ddpm, dit and stable."""
    torch.manual_seed(0)
    write_ddpm(folder / "ddpm")
    write_dit(folder / "dit")
    write_stable(folder / "stable")


if __name__ == "__main__":
    write_pipelines(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
