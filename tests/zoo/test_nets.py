"""The U-Net and its blocks against formulas, published sizes and their own definition."""

import math

import pytest
import torch
import torch.nn.functional as F

from genbench.errors import ModelError
from genbench.space import seeded
from zoo.nets import (
    Attention,
    Halve,
    ResidualBlock,
    UNet,
    UNetBlock,
    dropout,
    group_norm,
    halvings,
    sinusoid,
    skip_widths,
)


def waken(module, seed=0):
    """The module with every parameter random: layers that start at zero hide what is behind them."""
    gen = seeded(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=gen, dtype=parameter.dtype)
    return module


def small_unet(shape=(1, 8, 8), **options):
    return UNet(shape, **{"channels": 8, "multipliers": (1, 2), "blocks": 1, "groups": 4} | options)


def test_sinusoid_is_the_geometric_ladder():
    found = sinusoid(torch.tensor([0, 3]), 6)
    frequencies = [1.0, 1e-2, 1e-4]
    assert found[0].tolist() == [0, 0, 0, 1, 1, 1]
    expected = [math.sin(3 * f) for f in frequencies] + [math.cos(3 * f) for f in frequencies]
    assert found[1].tolist() == pytest.approx(expected, abs=1e-6)


def test_sinusoid_takes_fractions_of_a_step():
    assert sinusoid(torch.tensor([2.5]), 4)[0, 0] == pytest.approx(math.sin(2.5), abs=1e-6)


def test_attention_is_softmax_of_scaled_products():
    attention = waken(Attention(6, groups=3)).double()
    x = torch.randn(2, 6, 3, 4, generator=seeded(1), dtype=torch.float64)
    h = F.group_norm(x, 3, attention.norm.weight, attention.norm.bias, 1e-6).flatten(2)  # (B, C, N)
    w, b = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    q, k, v = (torch.einsum("oc,bcn->bon", w, h) + b[:, None]).split(6, dim=1)
    weights = torch.einsum("bcn,bcm->bnm", q, k).div(math.sqrt(6)).softmax(dim=2)
    mixed = torch.einsum("bnm,bcm->bcn", weights, v)
    out = torch.einsum("oc,bcn->bon", attention.out.weight[:, :, 0, 0], mixed) + attention.out.bias[:, None]
    assert torch.allclose(attention(x), x + out.view_as(x), atol=1e-12)


def test_blocks_start_as_the_identity():
    x, emb = torch.randn(2, 8, 4, 4, generator=seeded(0)), torch.randn(2, 32, generator=seeded(1))
    assert torch.equal(UNetBlock(8, 8, 32, 0.0, 4, True)(x, emb), x)


def test_residual_block_with_other_width_starts_as_its_shortcut():
    block = ResidualBlock(8, 12, 32, 0.0, 4)
    x, emb = torch.randn(2, 8, 4, 4, generator=seeded(0)), torch.randn(2, 32, generator=seeded(1))
    assert torch.equal(block(x, emb), block.shortcut(x))


def test_residual_block_is_told_the_time():
    block = waken(ResidualBlock(8, 8, 32, 0.0, 4))
    x = torch.randn(1, 8, 4, 4, generator=seeded(0))
    early, late = torch.zeros(1, 32), torch.ones(1, 32)
    assert not torch.allclose(block(x, early), block(x, late))


def test_dropout_keeps_the_mean_and_uses_its_generator_alone():
    x = torch.ones(200_000)
    before = torch.get_rng_state()
    found = dropout(x, 0.1, seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert float(found.mean()) == pytest.approx(1, abs=4 * math.sqrt(0.1 / 0.9 / 200_000))
    assert torch.equal(found, dropout(x, 0.1, seeded(0)))


def test_dropout_without_generator_does_nothing():
    x = torch.ones(10)
    assert dropout(x, 0.9, None) is x


def test_unet_drops_out_only_when_given_a_generator():
    net = waken(small_unet(rate=0.5))
    x, t = torch.randn(2, 1, 8, 8, generator=seeded(0)), torch.tensor([1, 2])
    assert torch.equal(net(x, t), net(x, t))
    assert not torch.allclose(net(x, t), net(x, t, seeded(0)))


def test_unet_of_the_paper_has_the_published_number_of_parameters():
    net = UNet((3, 32, 32), 128, (1, 2, 2, 2), 2, (16,))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307


def test_halving_that_pads_after_sees_three_pixels_from_its_own_on():
    """Sums of 3x3 windows that start at even rows and columns; what lies beyond the bottom and the right is 0."""
    halve = Halve(1).double()
    torch.nn.init.ones_(halve.weight)
    torch.nn.init.zeros_(halve.bias)
    x = torch.randn(2, 1, 6, 4, generator=seeded(0), dtype=torch.float64)
    expected = [[x[:, 0, i : i + 3, j : j + 3].sum((1, 2)) for j in (0, 2)] for i in (0, 2, 4)]
    assert torch.allclose(halve(x)[:, 0], torch.stack([torch.stack(row, 1) for row in expected], 1))


def test_padding_decides_which_pixels_a_halving_sees():
    """Weights fit either way; a constant image is halved to one that differs at the padded borders alone."""
    after, around = small_unet(padding="after"), small_unet()
    after.load_state_dict(around.state_dict())
    found, expected = (net.down[0].resize(torch.ones(1, 8, 8, 8)) for net in (after, around))
    assert torch.allclose(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)
    assert torch.allclose(found[..., 0, 0], expected[..., 1, 1], atol=1e-6)
    assert not torch.allclose(found[..., -1, -1], expected[..., 1, 1], atol=1e-6)


def test_unet_has_as_many_outputs_as_asked_for():
    assert small_unet(outputs=5)(torch.zeros(2, 1, 8, 8), torch.tensor([0, 5])).shape == (2, 5, 8, 8)


@pytest.mark.parametrize(
    ("shape", "multipliers"),
    [
        ((1, 8, 8), (1, 2)),
        ((1, 28, 28), (1, 2, 4)),
        ((3, 32, 32), (1, 2, 2, 2)),
        ((2, 12, 20), (1, 3, 2)),
        ((1, 7, 9), (1,)),
    ],
)
def test_unet_gives_an_image_of_the_same_shape(shape, multipliers):
    net = waken(small_unet(shape, multipliers=multipliers, blocks=2, attention=(shape[1] // 2,)))
    assert net(torch.zeros(2, *shape), torch.tensor([0, 5])).shape == (2, *shape)


def test_unet_is_zero_before_training():
    net = small_unet()
    x = torch.randn(2, 1, 8, 8, generator=seeded(0))
    assert torch.equal(net(x, torch.tensor([0, 5])), torch.zeros_like(x))


def test_unet_treats_images_apart():
    net = waken(small_unet(attention=(4,)))
    x, t = torch.randn(5, 1, 8, 8, generator=seeded(0)), torch.tensor([0, 900, 3, 4, 50])
    assert torch.allclose(net(x, t)[1:2], net(x[1:2], t[1:2]), atol=1e-4)


def test_unet_computes_in_the_precision_of_its_weights():
    net = waken(small_unet(attention=(4,)))
    x, t = torch.randn(2, 1, 8, 8, generator=seeded(0)), torch.tensor([3.5, 70.25])
    single, double = net(x, t), net.double()(x.double(), t.double())
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, atol=1e-5)


def test_time_scale_multiplies_the_time():
    one, ten = waken(small_unet()), waken(small_unet(time_scale=10.0))
    x = torch.randn(1, 1, 8, 8, generator=seeded(0))
    assert torch.equal(one(x, torch.tensor([70])), ten(x, torch.tensor([7])))


@pytest.mark.parametrize("shape", [(1, 9, 8), (1, 8, 9), (1, 6, 6)])
def test_sides_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(ModelError) as caught:
        small_unet(shape, multipliers=(1, 2, 2))
    size, most = f"{shape[1]}x{shape[2]}", halvings(*shape[1:]) + 1
    assert str(caught.value) == f"U-Net: config.multipliers: found 3, allowed: at most {most} for {size} images"


@pytest.mark.parametrize("channels", [2, 7])
def test_channels_that_cannot_embed_time_are_refused(channels):
    with pytest.raises(ModelError, match=f"config.channels: found {channels}, allowed: an even number, at least 4"):
        small_unet(channels=channels)


@pytest.mark.parametrize(("size", "times"), [((8, 8), 3), ((28, 28), 2), ((12, 20), 2), ((7, 8), 0)])
def test_halvings(size, times):
    assert halvings(*size) == times


def test_skips_are_one_per_block_and_per_halving():
    assert skip_widths(4, [8, 16], blocks=2) == [4, 8, 8, 8, 16, 16]


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (24, 24), (48, 24)])
def test_group_norm_takes_the_largest_divisor(channels, groups):
    assert group_norm(channels, 32).num_groups == groups
