"""The vision transformer of DINOv2 (Oquab et al. 2023) with the parameter names of the published weights.

    x_0 = [class token, patches of 14x14] + positions;   y = x + g_1 attention(norm(x));   x' = y + g_2 mlp(norm(y))

torch-fidelity downloads this network as code; genbench contains it, so that no downloaded code is executed. The
positions of the 37x37 patches of its training are resized (bicubic) to those of the image. The published code adds a
tenth of a patch to the scale factor, and so does this one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH, TRAINED_SIDE, OFFSET, EPS = 14, 37, 0.1, 1e-6
SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}  # width, blocks, heads


class Attention(nn.Module):
    """Multi-head self-attention of tokens (B, T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mixed tokens (B, T, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """X times gamma."""
        return x * self.gamma


class Block(nn.Module):
    """Attention, then an MLP, each on normalised tokens, scaled and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, EPS), Attention(width, heads), Scale(width)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, EPS), MLP(width), Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoV2(nn.Module):
    """Images (B, 3, S, S), S a multiple of 14, to the normalised class token (B, D)."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of training; contained in the published weights
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_SIDE**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised class token of images x."""
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.positions(x.shape[2] // PATCH)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0])

    def positions(self, side: int) -> Tensor:
        """Position embeddings (1, 1 + side^2, D) of side x side patches."""
        if side == TRAINED_SIDE:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().unflatten(1, (TRAINED_SIDE, TRAINED_SIDE)).permute(0, 3, 1, 2)
        factor = (side + OFFSET) / TRAINED_SIDE
        grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], 1)
