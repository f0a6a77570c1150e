"""The U-Net of zoo.nets as the config and the weights of diffusers' UNet2DModel, the inverse of nets.from_diffusers."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

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


def network_settings(net: UNet, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:
    """The arguments of a UNet2DModel that computes what the network computes for times 0 .. steps - 1.

    Raises ModelError for one that UNet2DModel cannot be.
    """
    groups = {norm.num_groups for norm in net.modules() if isinstance(norm, nn.GroupNorm)}
    if len(groups) != 1:
        raise ModelError(
            f"normalisations have {', '.join(map(str, sorted(groups)))} groups; UNet2DModel has one number"
        )
    attends = [isinstance(column.blocks[0].attention, Attention) for column in net.down]
    halved = [column.resize for column in net.down if column.resize is not None]
    return {
        "sample_size": [shape[1], shape[2]], "in_channels": shape[0], "out_channels": net.last.out_channels,
        "block_out_channels": [column.blocks[0].residual.conv_in.out_channels for column in net.down],
        "layers_per_block": len(net.down[0].blocks), "norm_num_groups": groups.pop(), "norm_eps": 1e-6,
        "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "downsample_padding": 0 if any(isinstance(layer, Halve) for layer in halved) else 1,
        "attention_head_dim": None, "flip_sin_to_cos": False, "freq_shift": 1,
        **({} if net.embed.scale == 1 else {"time_embedding_type": "learned", "num_train_timesteps": steps}),
    }  # fmt: skip


def network_state(net: UNet, steps: int) -> dict[str, Tensor]:
    """The network's weights under the names of UNet2DModel; where times are scaled, with a table of the sinusoids."""
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
    if net.embed.scale != 1:
        found["time_proj.weight"] = sinusoid(torch.arange(steps) * net.embed.scale, net.embed.dims)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}


def without_table(net: UNet, shape: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The same for a UNet2DModel that receives the network's times multiplied by the scale of its time embedding."""
    settings, state = network_settings(net, shape, 1), network_state(net, 1)
    settings = {name: value for name, value in settings.items() if name != "num_train_timesteps"}
    state = {name: tensor for name, tensor in state.items() if name != "time_proj.weight"}
    return settings | {"time_embedding_type": "positional"}, state
