"""Writes the artefacts of weights.yaml: checkpoints as people save them, and images with labels.

    python examples/sources/make_weights.py

vae.pt is a checkpoint of a training loop, gan/ is sharded, network/ is a U-Net of diffusers, stable_1/ a pipeline of
Stable Diffusion 1, drawn/ a folder of pictures for each class. All weights are random.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from PIL import Image
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import genbench

DIGITS = genbench.DataSpec(1, 8, 8, 17, 10)


def random_model(name: str) -> torch.nn.Module:
    """A model of the zoo, in which nothing is zero as before training."""
    model = genbench.load_model(name, data=DIGITS)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return model


def write_checkpoint(file: Path) -> None:
    """A VAE of several processes: weights and their average, both with the prefix "module.", and an optimiser."""
    model = random_model("vae")
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    average = {name: tensor + 0.01 for name, tensor in weights.items()}
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    torch.save({"model": weights, "ema": average, "optimizer": optimizer, "step": 1000}, file)


def write_sharded(folder: Path) -> None:
    """A GAN in two files of safetensors, and the index that names the file of each tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    state = random_model("gan").state_dict()
    files = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        save_file({name: state[name].contiguous() for name in state if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def write_network(folder: Path) -> None:
    """A U-Net with the choices of google/ddpm-cifar10-32, but narrow."""
    UNet2DModel(
        8, 1, 1, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
    ).save_pretrained(folder)  # fmt: skip


def write_vocabulary(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer without merges: the bytes alone."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def write_stable_1(folder: Path) -> None:
    """Stable Diffusion 1 with small networks, whose choices are otherwise those of the published files."""
    tokenizer, sizes = write_vocabulary(folder / "tokenizer"), {"layers_per_block": 1, "norm_num_groups": 4}
    end = tokenizer.eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=256, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=16, hidden_act="quick_gelu", bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    vae = AutoencoderKL(
        1, 1, ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, (8, 16), **sizes, latent_channels=4, sample_size=8
    )
    net = UNet2DConditionModel(
        4, 4, 4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), block_out_channels=(16, 32), **sizes,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=64, attention_head_dim=2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    parts = vae, CLIPTextModel(text), tokenizer, net, scheduler, None, None
    StableDiffusionPipeline(*parts, requires_safety_checker=False).save_pretrained(folder)


def write_drawn(folder: Path, each: int = 3) -> None:
    """Noise as 8x8 pictures, in a folder for each digit."""
    rng = np.random.default_rng(0)
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 17, (8, 8), dtype=np.uint8)).save(folder / str(digit) / f"{i}.png")


def write_weights(folder: Path) -> None:
    """All of them."""
    torch.manual_seed(0)
    write_checkpoint(folder / "vae.pt")
    write_sharded(folder / "gan")
    write_network(folder / "network")
    write_stable_1(folder / "stable_1")
    write_drawn(folder / "drawn")


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
