"""The U-Net of zoo.nets as the config and the weights of diffusers' UNet2DModel, and the inverse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genbench.contract import DiffusersPart
from genbench.errors import ModelError
from zoo.nets import Attention, Halve, UNet, sinusoid

OUR_NAMES = {
    r"^embed\.first": "time_embedding.linear_1",
    r"^embed\.second": "time_embedding.linear_2",
    r"^first": "conv_in",
    r"^norm": "conv_norm_out",
    r"^last": "conv_out",
    r"^middle\.(\d)\.residual": r"mid_block.resnets.\1",
    r"^middle\.0\.attention": "mid_block.attentions.0",
    r"^(down|up)\.": r"\1_blocks.",
    r"blocks\.(\d+)\.residual": r"resnets.\1",
    r"(_blocks\.\d+)\.blocks\.(\d+)\.attention": r"\1.attentions.\2",
    r"resize\.conv": "upsamplers.0.conv",
    r"resize": "downsamplers.0.conv",
    r"resnets\.(\d+)\.time": r"resnets.\1.time_emb_proj",
    r"(resnets\.\d+)\.norm_in": r"\1.norm1",
    r"(resnets\.\d+)\.conv_in": r"\1.conv1",
    r"(resnets\.\d+)\.norm_out": r"\1.norm2",
    r"(resnets\.\d+)\.conv_out": r"\1.conv2",
    r"shortcut": "conv_shortcut",
    r"(attentions\.\d+)\.norm": r"\1.group_norm",
    r"(attentions\.\d+)\.out": r"\1.to_out.0",
}


def group_count(net: nn.Module) -> int:
    """The number of groups of all normalisations. Raises ModelError where they differ: diffusers has one number."""
    groups = {norm.num_groups for norm in net.modules() if isinstance(norm, nn.GroupNorm)}
    if len(groups) != 1:
        raise ModelError(f"normalisations have {', '.join(map(str, sorted(groups)))} groups; diffusers has one number")
    return groups.pop()


def network_settings(net: UNet, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The arguments of a UNet2DModel that computes what the network computes for times multiplied by their scale.

    Raises ModelError for one that UNet2DModel cannot be.
    """
    attends = [isinstance(column.blocks[0].attention, Attention) for column in net.down]
    halved = [column.resize for column in net.down if column.resize is not None]
    return {
        "sample_size": [shape[1], shape[2]], "in_channels": shape[0], "out_channels": net.last.out_channels,
        "block_out_channels": [column.blocks[0].residual.conv_in.out_channels for column in net.down],
        "layers_per_block": len(net.down[0].blocks), "norm_num_groups": group_count(net), "norm_eps": 1e-6,
        "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "downsample_padding": 0 if any(isinstance(layer, Halve) for layer in halved) else 1,
        "attention_head_dim": None, "flip_sin_to_cos": False, "freq_shift": 1, "time_embedding_type": "positional",
    }  # fmt: skip


def network_state(net: UNet) -> dict[str, Tensor]:
    """The network's weights under the names of UNet2DModel."""
    found: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        for ours, theirs in OUR_NAMES.items():
            name = re.sub(ours, theirs, name)
        if ".qkv." in name:
            thirds = zip("qkv", tensor.chunk(3), strict=True)
            found |= {name.replace(".qkv.", f".to_{part}."): third for part, third in thirds}
        else:
            found[name] = tensor
    linear = {name for name in found if ".attentions." in name and found[name].dim() == 4}
    found |= {name: found[name][..., 0, 0] for name in linear}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}


def unet_part(net: UNet, shape: tuple[int, int, int], times: Sequence[int] | None = None) -> DiffusersPart:
    """The network as a UNet2DModel.

    It receives the network's times multiplied by the scale of its time embedding; with `times`, it receives positions
    in that list instead, and has a table of their sinusoids.
    """
    settings, state = network_settings(net, shape), network_state(net)
    if times is not None:
        settings |= {"time_embedding_type": "learned", "num_train_timesteps": len(times)}
        state["time_proj.weight"] = sinusoid(torch.tensor(times) * net.embed.scale, net.embed.dims)
    return DiffusersPart("diffusers:UNet2DModel", settings, state.__getitem__)


# ---- from diffusers ---------------------------------------------------------------------------------------------

# Layer names of diffusers' UNet2DModel, including those of older files, and the names of the same layers here.
DIFFUSERS_NAMES = {
    r"^time_embedding\.linear_1": "embed.first", r"^time_embedding\.linear_2": "embed.second", r"^conv_in": "first",
    r"^conv_norm_out": "norm", r"^conv_out": "last", r"^mid_block\.resnets\.(\d)": r"middle.\1.residual",
    r"^mid_block\.attentions\.0": "middle.0.attention", r"^(down|up)_blocks": r"\1",
    r"resnets\.(\d+)": r"blocks.\1.residual", r"attentions\.(\d+)": r"blocks.\1.attention",
    r"downsamplers\.0\.conv": "resize", r"upsamplers\.0": "resize", r"time_emb_proj": "time", r"conv1": "conv_in",
    r"conv2": "conv_out", r"conv_shortcut": "shortcut", r"norm1": "norm_in", r"norm2": "norm_out",
    r"group_norm": "norm", r"to_q|query": "q", r"to_k|key": "k", r"to_v|value": "v", r"to_out\.0|proj_attn": "out",
}  # fmt: skip


# What a UNet2DModel's config.json must say for its network to be this one.
DIFFUSERS_SETTINGS: dict[str, tuple[object, ...]] = {
    "attention_head_dim": (None,), "norm_eps": (1e-6,), "flip_sin_to_cos": (False,), "freq_shift": (1,),
    "act_fn": ("silu",), "time_embedding_type": ("positional",), "resnet_time_scale_shift": ("default",),
    "center_input_sample": (False,), "class_embed_type": (None,), "num_class_embeds": (None,), "add_attention": (True,),
    "mid_block_scale_factor": (1,),
}  # fmt: skip


def is_diffusers_unet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state has the names of a diffusers U-Net."""
    return "time_embedding.linear_1.weight" in state and "conv_in.weight" in state


def refuse_other_unet(settings: Mapping[str, object], padding: str, groups: int) -> None:
    """Raises ModelError where a UNet2DModel's config says that its network is another one; {}: nothing is known."""
    wanted = {"downsample_padding": (0 if padding == "after" else 1,), "norm_num_groups": (groups,)}
    for name, allowed in {**DIFFUSERS_SETTINGS, **wanted}.items():
        if name in settings and settings[name] not in allowed:
            raise ModelError(
                f"config.json: {name}: found {settings[name]!r}, allowed: {allowed[0]!r} for a network like this one"
            )


def from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a UNet from that of a diffusers UNet2DModel of the same sizes, e.g. google/ddpm-cifar10-32.

    The model must have single-head attention (attention_head_dim: null), norm_eps 1e-6, flip_sin_to_cos false and
    freq_shift 1, as the models converted from Ho et al. have. downsample_padding 0 is padding "after" here, 1 "around".
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for theirs, ours in DIFFUSERS_NAMES.items():
            name = re.sub(theirs, ours, name)
        renamed[name] = tensor[..., None, None] if ".attention." in name and tensor.dim() == 2 else tensor
    for name in [n for n in renamed if re.search(r"attention\.q\.", n)]:
        thirds = [renamed.pop(name.replace("attention.q.", f"attention.{part}.")) for part in "qkv"]
        renamed[name.replace("attention.q.", "attention.qkv.")] = torch.cat(thirds)
    return renamed
