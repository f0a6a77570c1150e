"""The networks of latent diffusion: published sizes, attention against its formula, bytes of texts."""

import math

import pytest
import torch
import torch.nn.functional as F

from genbench.errors import ModelError
from genbench.space import seeded
from zoo.attention import (
    PADDING,
    ConditionalUNet,
    Decoder,
    Encoder,
    GatedFeedForward,
    MultiHeadAttention,
    PatchCritic,
    SharedTokens,
    SpatialTransformer,
    TextEncoder,
    require_heads,
)
from zoo.latent_diffusion import LatentDiffusionConfig


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def size(build):
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


def test_stable_diffusions_u_net_has_the_published_size():
    c = LatentDiffusionConfig()
    shape = (c.latent, 64, 64)
    assert (
        size(
            lambda: ConditionalUNet(
                shape, c.channels, c.multipliers, c.blocks, c.attention, c.heads, c.text_width, c.groups
            )
        )
        == 859_520_964
    )


def test_stable_diffusions_autoencoder_has_the_published_size():
    sizes = (3, 4, [128, 256, 512, 512], 2, 32)
    assert size(lambda: Encoder(*sizes)) + size(lambda: Decoder(*sizes)) == 83_653_863


def test_the_critic_is_isola_and_others_patch_discriminator():
    """Convolutions of 64, 128, 256, 512 and 1 outputs, 4x4 each, two numbers a channel for each normalisation."""
    convolutions = 3 * 64 * 16 + 64 + 16 * (64 * 128 + 128 * 256 + 256 * 512 + 512) + 1
    assert size(lambda: PatchCritic(3, 64, 3, 32)) == convolutions + 2 * (128 + 256 + 512)


def test_texts_become_bytes_filled_up_or_cut():
    assert TextEncoder(3, 8, 0, 2).tokenise(["ab", "", "äbc"]).tolist() == [
        [97, 98, PADDING], [PADDING] * 3, [0xC3, 0xA4, 98],
    ]  # fmt: skip


def test_attention_is_softmax_of_scaled_products():
    attention = waken(MultiHeadAttention(6, 5, heads=2))
    x, source = numbers(2, 3, 6), numbers(2, 4, 5, seed=1)
    rows = []
    for h in (slice(0, 3), slice(3, 6)):
        q, k, v = (F.linear(s, m.weight[h]) for s, m in zip((x, source, source), parts(attention), strict=True))
        rows.append((q @ k.transpose(1, 2) / math.sqrt(3)).softmax(2) @ v)
    assert torch.allclose(attention(x, source), attention.out(torch.cat(rows, 2)), atol=1e-12)


def test_shared_tokens_are_those_of_each_image():
    attention, x, tokens = waken(MultiHeadAttention(6, 5, heads=2)), numbers(3, 2, 6), numbers(2, 4, 5, seed=1)
    shared = SharedTokens(tokens, torch.tensor([[0, 1], [1, 0], [0, 1]]))
    assert torch.equal(shared.each, tokens[[1, 0, 1]])
    assert torch.allclose(attention(x, shared), attention(x, tokens[[1, 0, 1]]), atol=1e-12)


def parts(attention):
    return attention.query, attention.key, attention.value


def waken(module):
    gen = seeded(0)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=gen, dtype=torch.float64)
    return module


def test_feed_forward_is_gated_by_gelu():
    layer = waken(GatedFeedForward(2))
    x = numbers(1, 3, 2)
    inner = F.linear(x, layer.inner.weight, layer.inner.bias)
    gate = 0.5 * inner[..., 8:] * (1 + torch.erf(inner[..., 8:] / math.sqrt(2)))
    assert torch.allclose(layer(x), layer.out(inner[..., :8] * gate), atol=1e-12)


def test_transformer_starts_as_the_identity_and_the_u_net_at_zero():
    x, text = torch.randn(2, 8, 4, 4, generator=seeded(0)), torch.randn(2, 5, 6, generator=seeded(1))
    assert torch.equal(SpatialTransformer(8, 2, 6, groups=2)(x, text), x)
    net = ConditionalUNet((8, 4, 4), 8, (1, 2), 1, (4,), 2, 6, groups=2)
    assert net(x, torch.tensor([3, 999]), text).eq(0).all()


def test_byte_order_matters_to_the_text_encoder():
    encoder = TextEncoder(4, 8, 1, 2)
    one, two = encoder(encoder.tokenise(["ab", "ba"]))
    assert (one.mean(0) - two.mean(0)).abs().max() > 1e-4


def test_heads_divide_every_width():
    with pytest.raises(ModelError) as caught:
        require_heads((8, 6), 4)
    assert str(caught.value) == "U-Net: config.heads: found 4, allowed: a divisor of every width, one width is 6"
