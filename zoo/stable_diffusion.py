"""Stable Diffusion 1 as diffusers saves it: its text encoder, and what its networks are called in zoo.latent_diffusion.

A pipeline's folder has the U-Net (unet/), the autoencoder (vae/), CLIP's text encoder (text_encoder/), its vocabulary
(tokenizer/) and the process (scheduler/). With config.released, latent diffusion has networks of the same architecture,
and `from_pipeline` returns the pipeline's weights under their names. Networks that compute something else, such as
Stable Diffusion 2's, are refused with the setting in which they differ.

The text encoder is that of CLIP (Radford et al. 2021, arXiv:2103.00020) by the package transformers. Its vocabulary
consists of the 256 bytes, the bytes at the end of a word, one token for each merge of two tokens (Sennrich et al. 2016,
arXiv:1508.07909), and two tokens for the start and the end. The merges are a buffer, so that weights are complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from genbench.errors import ModelError

WORD_END, START, END = "</w>", "<|startoftext|>", "<|endoftext|>"
PLAIN = 512  # tokens of bytes, within and at the end of a word
HEAD = 64  # channels of a head in every published CLIP
NO_MERGE = -1

# Layers of the U-Net as diffusers calls them, and the same layers in zoo.attention; applied in this order.
UNET_NAMES = {
    r"^unet\.time_embedding\.linear_1": "network.embed.first",
    r"^unet\.time_embedding\.linear_2": "network.embed.second",
    r"^unet\.conv_in": "network.first", r"^unet\.conv_norm_out": "network.norm", r"^unet\.conv_out": "network.last",
    r"^unet\.mid_block\.resnets\.(\d)": r"network.middle.\1.residual",
    r"^unet\.mid_block\.attentions\.0": "network.middle.0.transformer", r"^unet\.(down|up)_blocks": r"network.\1",
    r"\.resnets\.(\d+)": r".blocks.\1.residual", r"\.attentions\.(\d+)": r".blocks.\1.transformer",
    r"\.downsamplers\.0\.conv": ".resize", r"\.upsamplers\.0": ".resize", r"residual\.time_emb_proj": "residual.time",
    r"residual\.norm1": "residual.norm_in", r"residual\.conv1": "residual.conv_in",
    r"residual\.norm2": "residual.norm_out", r"residual\.conv2": "residual.conv_out",
    r"residual\.conv_shortcut": "residual.shortcut", r"\.proj_in": ".enter", r"\.proj_out": ".leave",
    r"\.transformer_blocks\.0": ".block", r"block\.norm1": "block.norms.0", r"block\.norm2": "block.norms.1",
    r"block\.norm3": "block.norms.2", r"\.attn1": ".attend", r"\.attn2": ".cross", r"\.to_q": ".query",
    r"\.to_k": ".key", r"\.to_v": ".value", r"\.to_out\.0": ".out", r"\.ff\.net\.0\.proj": ".feed.inner",
    r"\.ff\.net\.2": ".feed.out",
}  # fmt: skip
# Layers within a unit of the autoencoder, with the names of older files.
AUTOENCODER_NAMES = {
    "norm1": "net.0", "conv1": "net.2", "norm2": "net.3", "conv2": "net.5", "conv_shortcut": "shortcut",
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "out", "query": "q", "key": "k",
    "value": "v", "proj_attn": "out",
}  # fmt: skip
# What the files of a pipeline must say for its networks to compute what ours compute.
RELEASED: dict[str, dict[str, object]] = {
    "unet/config.json": {
        "norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0, "act_fn": "silu", "downsample_padding": 1,
        "use_linear_projection": False, "class_embed_type": None, "num_class_embeds": None,
        "addition_embed_type": None, "time_cond_proj_dim": None, "encoder_hid_dim": None, "dual_cross_attention": False,
        "center_input_sample": False,
        "only_cross_attention": False, "resnet_time_scale_shift": "default", "mid_block_scale_factor": 1,
        "transformer_layers_per_block": 1, "time_embedding_type": "positional",
    },
    "vae/config.json": {"act_fn": "silu", "shift_factor": None, "use_quant_conv": True, "use_post_quant_conv": True,
                        "mid_block_add_attention": True},
    "text_encoder/config.json": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "scheduler/scheduler_config.json": {"beta_schedule": "scaled_linear", "trained_betas": None},
}  # fmt: skip
SCALE = 0.18215  # of Stable Diffusion 1's latents, where vae/config.json does not state it


# ---- text -------------------------------------------------------------------------------------------------------


class ClipText(nn.Module):
    """CLIP's text encoder: tokens (B, L) to the features (B, L, D) of its last layer.

    length: L. width: D. vocabulary: number of tokens, at least 514. Raises ModelError without transformers.
    """

    merges: Tensor

    def __init__(self, length: int, width: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        try:
            from transformers import CLIPTextConfig, CLIPTextModel
        except ImportError as error:
            needs = f"needs the package transformers ({error}); pip install 'genbench[clip]'"
            raise ModelError(f"LatentDiffusion: config.released: {needs}") from None
        if width % HEAD or vocabulary < PLAIN + 2:
            found, allowed = f"found {width} and {vocabulary}", f"a multiple of {HEAD}, and at least {PLAIN + 2}"
            raise ModelError(f"LatentDiffusion: config.text_width, vocabulary: {found}, allowed: {allowed}")
        self.length, self.vocabulary = length, vocabulary
        settings = CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=width // HEAD, max_position_embeddings=length, hidden_act="quick_gelu",
            bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
        )  # fmt: skip
        model = CLIPTextModel(settings)
        self.transformer = getattr(model, "text_model", model)  # one level deeper before version 5
        self.register_buffer("merges", torch.full((vocabulary - PLAIN - 2, 2), NO_MERGE))
        self.register_load_state_dict_post_hook(lambda module, _: module.__dict__.pop("tokenizer", None))

    @cached_property
    def tokenizer(self) -> Any:
        """Transformers' tokenizer for the merges."""
        from transformers import CLIPTokenizer

        words, pairs = words_of(self.merges.tolist(), self.vocabulary)
        return CLIPTokenizer(vocab=words, merges=pairs)

    def tokenise(self, texts: Sequence[str]) -> Tensor:
        """Start, tokens and end of each text, cut or filled up with ends: (B, length) int64 on the CPU."""
        rows = self.tokenizer(list(texts), padding="max_length", max_length=self.length, truncation=True)
        return torch.tensor(rows["input_ids"], dtype=torch.long)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, L, D) of tokens (B, L)."""
        features: Tensor = self.transformer(input_ids=tokens).last_hidden_state
        return features


def words_of(merges: Sequence[Sequence[int]], vocabulary: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens by text, and the merges as pairs of texts; a merge of NO_MERGE is none."""
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = sorted(ByteLevel.alphabet())
    words, pairs = [*symbols, *(symbol + WORD_END for symbol in symbols)], []
    for first, second in merges:
        if first != NO_MERGE:
            pairs.append((words[first], words[second]))
            words.append(words[first] + words[second])
    return {word: i for i, word in enumerate(words)} | {START: vocabulary - 2, END: vocabulary - 1}, pairs


def merges_of(settings: Mapping[str, Any]) -> Tensor:
    """The merges (M, 2) of a pipeline's vocabulary, from tokenizer/. Raises ModelError for one that is not CLIP's."""
    words, pairs = settings.get("tokenizer/vocab.json"), settings.get("tokenizer/merges.txt")
    if words is None or pairs is None:
        model = settings.get("tokenizer/tokenizer.json", {}).get("model", {})
        words, pairs = model.get("vocab"), model.get("merges")
    else:
        pairs = [line for line in pairs.splitlines() if line and not line.startswith("#version")]
    if words is None or pairs is None:
        raise ModelError("tokenizer: found no vocabulary, allowed: vocab.json and merges.txt, or tokenizer.json")
    split = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in pairs]
    try:
        numbers = [[words[first], words[second]] for first, second in split]
        same = words_of(numbers, len(words))[0] == words
    except (KeyError, ValueError, IndexError, TypeError):
        same = False
    padding = settings.get("tokenizer/tokenizer_config.json", {}).get("pad_token", END)
    padding = padding["content"] if isinstance(padding, dict) else padding
    if not same or padding != END:
        found = f"{len(words)} tokens with {len(split)} merges and {padding} as padding"
        allowed = f"bytes, bytes at the end of a word, one for each merge, {START}, {END}, and {END} as padding"
        raise ModelError(f"tokenizer: found other tokens than CLIP's, {found}; allowed: {allowed}")
    return torch.tensor(numbers, dtype=torch.long).reshape(-1, 2)


# ---- networks ---------------------------------------------------------------------------------------------------


def is_pipeline(state: Mapping[str, Tensor]) -> bool:
    """Whether a state is that of a whole pipeline."""
    return "unet.conv_in.weight" in state and any(name.startswith("vae.") for name in state)


def refuse_other_pipeline(settings: Mapping[str, Any], wanted: Mapping[str, Mapping[str, object]]) -> None:
    """Raises ModelError where a file of a pipeline says that it computes something else.

    settings: contents by file. wanted: further settings by file, beside RELEASED.
    """
    for file, fixed in RELEASED.items():
        for name, allowed in {**fixed, **wanted.get(file, {})}.items():
            found = settings.get(file, {}).get(name, allowed)
            if found != allowed:
                raise ModelError(f"{file}: {name}: found {found!r}, allowed: {allowed!r} with this config")


def from_pipeline(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], levels: int, blocks: int
) -> dict[str, Tensor]:
    """The weights of a pipeline under the names of LatentDiffusion, without those of its critic.

    levels, blocks: resolutions of the autoencoder, and residual blocks at each. Names that have no place stay as they
    are.
    """
    units = autoencoder_units(levels, blocks)
    renamed = {our_name(name, units): tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    for name in [n for n in renamed if n.startswith(("encoder.", "decoder.")) and ".q." in n]:
        thirds = [renamed.pop(name.replace(".q.", f".{part}."), None) for part in "qkv"]
        renamed[name.replace(".q.", ".qkv.")] = torch.cat([third for third in thirds if third is not None])
    found = {name: _as_convolution(name, tensor) for name, tensor in renamed.items()}
    scale = settings.get("vae/config.json", {}).get("scaling_factor", SCALE)
    return found | {"scale": torch.tensor(float(scale)), "text.merges": merges_of(settings)}


def _as_convolution(name: str, tensor: Tensor) -> Tensor:
    linear = name.endswith((".qkv.weight", ".out.weight")) and name.startswith(("encoder.", "decoder."))
    return tensor[..., None, None] if linear and tensor.dim() == 2 else tensor


def autoencoder_units(levels: int, blocks: int) -> dict[str, str]:
    """The units of AutoencoderKL, and where zoo.attention's Encoder and Decoder, whose layers are a list, have them."""
    middle = ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"]
    encoder, decoder = ["encoder.conv_in"], ["post_quant_conv", "decoder.conv_in", *(f"decoder.{m}" for m in middle)]
    for i in range(levels):
        encoder += [f"encoder.down_blocks.{i}.resnets.{k}" for k in range(blocks)]
        decoder += [f"decoder.up_blocks.{i}.resnets.{k}" for k in range(blocks + 1)]
        if i < levels - 1:
            encoder += ["", f"encoder.down_blocks.{i}.downsamplers.0.conv"]  # "": padding
            decoder += [f"decoder.up_blocks.{i}.upsamplers.0"]
    encoder += [*(f"encoder.{m}" for m in middle), "encoder.conv_norm_out", "", "encoder.conv_out", "quant_conv"]
    decoder += ["decoder.conv_norm_out"]
    halves = {"encoder": encoder, "decoder": decoder}
    places = {f"vae.{unit}": f"{half}.layers.{i}" for half, units in halves.items() for i, unit in enumerate(units)}
    return places | {"vae.decoder.conv_out": "decoder.last"}


def our_name(name: str, units: Mapping[str, str]) -> str:
    """The name in LatentDiffusion of a pipeline's tensor; parts of one attention have the names of its q, k and v."""
    if name.startswith("text_encoder."):
        return f"text.transformer.{name.removeprefix('text_encoder.').removeprefix('text_model.')}"
    if name.startswith("unet."):
        for theirs, ours in UNET_NAMES.items():
            name = re.sub(theirs, ours, name)
        return name
    unit = next((unit for unit in units if name.startswith(f"{unit}.")), "")
    if not unit:
        return name
    layer, _, kind = name.removeprefix(f"{unit}.").rpartition(".")
    inner = AUTOENCODER_NAMES.get(layer, layer)
    return ".".join(part for part in (units[unit], inner, kind) if part)
