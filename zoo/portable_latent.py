"""Latent diffusion (zoo.latent_diffusion) as a pipeline of diffusers, the inverse of zoo.stable_diffusion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from genbench.contract import DiffusersPart, DiffusersParts
from zoo.attention import ConditionalUNet, Decoder, Encoder, TextEncoder
from zoo.portable import group_count
from zoo.stable_diffusion import ClipText, autoencoder_units, our_name, words_of

Weights = Callable[[str], Tensor]
BYTE_NAMES = {  # of zoo.text_pipeline, and of zoo.attention
    r"\.norm1\.": ".norms.0.", r"\.norm3\.": ".norms.1.", r"\.attn1\.to_q\.": ".attend.query.",
    r"\.attn1\.to_k\.": ".attend.key.", r"\.attn1\.to_v\.": ".attend.value.", r"\.attn1\.to_out\.0\.": ".attend.out.",
    r"\.ff\.net\.0\.proj\.": ".feed.inner.", r"\.ff\.net\.2\.": ".feed.out.",
}  # fmt: skip


def pipeline_parts(model: Any) -> DiffusersParts:
    """A LatentDiffusion whose sampler DDIMScheduler has."""
    c, s, state = model.config, model.sampler, model.state_dict()
    of_unet, of_vae, of_text = (saved_weights(state, len(c.depths), c.depth_blocks, n) for n in model.components)
    parts = {
        "unet": unet_part(model.network, model.shape, c.released, of_unet),
        "vae": autoencoder_part(model.encoder, model.decoder, c, float(model.scale), of_vae),
        "scheduler": DiffusersPart("diffusers:DDIMScheduler", process(c, s.spacing)),
    }
    call = {"num_inference_steps": s.steps, "guidance_scale": s.guidance, "eta": s.eta}
    if not c.released:
        texts = {"text_encoder": byte_part(model.text, c.heads)}
        return DiffusersParts("zoo.text_pipeline:TextPipeline", parts | texts, call)
    unused = {name: [None, None] for name in ("safety_checker", "feature_extractor", "image_encoder")}
    sides = {"height": model.data.height, "width": model.data.width}
    kind = "diffusers:StableDiffusionPipeline"
    return DiffusersParts(kind, parts | clip_parts(model.text, of_text), call | sides, unused)


def process(config: Any, spacing: str) -> dict[str, Any]:
    """The arguments of DDIMScheduler."""
    return {
        "num_train_timesteps": config.steps, "beta_start": config.beta_first, "beta_end": config.beta_last,
        "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": config.zero_terminal, "clip_sample": False,
        "prediction_type": {"eps": "epsilon", "v": "v_prediction"}[config.prediction], "steps_offset": 1,
        "timestep_spacing": spacing, "set_alpha_to_one": spacing != "leading",
    }  # fmt: skip


def saved_weights(state: Mapping[str, Tensor], levels: int, blocks: int, component: str) -> Weights:
    """From the names of a component of a Stable Diffusion pipeline to tensors of LatentDiffusion's state."""
    units = autoencoder_units(levels, blocks)

    def weights(name: str) -> Tensor:
        ours = our_name(f"{component}.{name}", units)
        third = re.search(r"\.([qkv])\.(weight|bias)$", ours)
        if component == "vae" and third:
            tensor = state[ours.replace(f".{third[1]}.", ".qkv.")].chunk(3)["qkv".index(third[1])]
        else:
            tensor = state[ours]
        linear = component == "vae" and ".attentions." in name and tensor.dim() == 4
        return (tensor[..., 0, 0] if linear else tensor).detach().cpu().contiguous()

    return weights


def unet_part(net: ConditionalUNet, shape: Sequence[int], released: bool, weights: Weights) -> DiffusersPart:
    """As UNet2DConditionModel, for latents of this shape (c, h, w)."""
    attends = [column.blocks[0].transformer is not None for column in net.down]
    block = net.middle[0].transformer.block
    settings = {
        "sample_size": list(shape[1:]), "in_channels": shape[0], "out_channels": shape[0],
        "block_out_channels": [column.blocks[0].residual.conv_in.out_channels for column in net.down],
        "layers_per_block": len(net.down[0].blocks), "norm_num_groups": group_count(net),
        "norm_eps": 1e-5 if released else 1e-6, "flip_sin_to_cos": released, "freq_shift": 0 if released else 1,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "attention_head_dim": block.cross.heads, "cross_attention_dim": block.cross.key.in_features,
    }  # fmt: skip
    return DiffusersPart("diffusers:UNet2DConditionModel", settings, weights)


def autoencoder_part(encoder: Encoder, decoder: Decoder, config: Any, scale: float, weights: Weights) -> DiffusersPart:
    """As AutoencoderKL; config: LatentDiffusion's."""
    levels, colours = len(config.depths), decoder.last.out_channels
    settings = {
        "in_channels": colours, "out_channels": colours, "latent_channels": config.latent,
        "block_out_channels": [config.width * depth for depth in config.depths],
        "layers_per_block": config.depth_blocks, "norm_num_groups": group_count(encoder), "scaling_factor": scale,
        "down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels,
    }  # fmt: skip
    return DiffusersPart("diffusers:AutoencoderKL", settings, weights)


def clip_parts(text: ClipText, weights: Weights) -> dict[str, DiffusersPart]:
    """CLIP's text encoder and its tokenizer, of transformers."""
    words, pairs = words_of(text.merges.tolist(), text.vocabulary)
    kept = text.transformer.config.to_dict()
    tokenizer = {"vocab": words, "merges": pairs, "model_max_length": text.length}
    return {
        "text_encoder": DiffusersPart("transformers:CLIPTextModel", kept, weights),
        "tokenizer": DiffusersPart("transformers:CLIPTokenizer", tokenizer),
    }


def byte_part(text: TextEncoder, heads: int) -> DiffusersPart:
    """The encoder of bytes, as the class of zoo.text_pipeline."""
    state = text.state_dict()

    def weights(name: str) -> Tensor:
        for theirs, ours in BYTE_NAMES.items():
            name = re.sub(theirs, ours, name)
        return state[name].detach().cpu()

    length, width = text.position.weight.shape
    settings = {"length": length, "width": width, "layers": len(text.blocks), "heads": heads}
    return DiffusersPart("zoo.text_pipeline:ByteTextModel", settings, weights)
