"""Latent diffusion against an independent implementation: diffusers' networks with our weights, and its sampler."""

from types import SimpleNamespace

import pytest
import torch
from diffusion_worlds import denoiser
from torch import nn

from genbench.space import seeded
from zoo.attention import ConditionalUNet, ConvolutionBlock, Decoder, Encoder
from zoo.ddim import ImplicitSampler, implicit, timesteps
from zoo.latent_diffusion import LatentDiffusionConfig, make_schedule
from zoo.nets import Attention, ResidualBlock

diffusers = pytest.importorskip("diffusers", reason="an optional peer")


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def waken(module):
    """The module with every parameter random: layers that start at zero hide what is behind them."""
    gen = seeded(0)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=gen, dtype=torch.float64)
    return module


def pairs_of_blocks(ours, theirs):
    """Layers of a residual block, ours with theirs; the time's projection where there is one."""
    if isinstance(ours, ResidualBlock):
        found = [(ours.norm_in, theirs.norm1), (ours.conv_in, theirs.conv1), (ours.norm_out, theirs.norm2)]
        found += [(ours.conv_out, theirs.conv2), (ours.time, theirs.time_emb_proj)]
    else:
        net = [layer for layer in ours.net if not isinstance(layer, nn.SiLU)]
        found = list(zip(net, (theirs.norm1, theirs.conv1, theirs.norm2, theirs.conv2), strict=True))
    return found if isinstance(ours.shortcut, nn.Identity) else [*found, (ours.shortcut, theirs.conv_shortcut)]


def pairs_of_transformers(ours, theirs):
    inner = theirs.transformer_blocks[0]
    found = [(ours.norm, theirs.norm), (ours.enter, theirs.proj_in), (ours.leave, theirs.proj_out)]
    found += list(zip(ours.block.norms, (inner.norm1, inner.norm2, inner.norm3), strict=True))
    for mine, other in ((ours.block.attend, inner.attn1), (ours.block.cross, inner.attn2)):
        found += [(mine.query, other.to_q), (mine.key, other.to_k), (mine.value, other.to_v)]
        found.append((mine.out, other.to_out[0]))
    return [*found, (ours.block.feed.inner, inner.ff.net[0].proj), (ours.block.feed.out, inner.ff.net[2])]


def pairs_of_columns(ours, theirs, resized):
    found = []
    attentions = iter(getattr(theirs, "attentions", ()))
    for block, resnet in zip(ours.blocks, theirs.resnets, strict=True):
        found += pairs_of_blocks(block.residual, resnet)
        found += pairs_of_transformers(block.transformer, next(attentions)) if block.transformer else []
    return found + ([(getattr(ours.resize, "conv", ours.resize), resized[0].conv)] if ours.resize else [])


def pairs_of_u_nets(ours, theirs):
    found = [(ours.embed.first, theirs.time_embedding.linear_1), (ours.embed.second, theirs.time_embedding.linear_2)]
    found += [(ours.first, theirs.conv_in), (ours.norm, theirs.conv_norm_out), (ours.last, theirs.conv_out)]
    for mine, other in zip(ours.down, theirs.down_blocks, strict=True):
        found += pairs_of_columns(mine, other, other.downsamplers)
    for mine, other in zip(ours.up, theirs.up_blocks, strict=True):
        found += pairs_of_columns(mine, other, other.upsamplers)
    first, second = ours.middle
    found += pairs_of_transformers(first.transformer, theirs.mid_block.attentions[0])
    for mine, other in zip((first, second), theirs.mid_block.resnets, strict=True):
        found += pairs_of_blocks(mine.residual, other)
    return found


def copied(pairs, theirs):
    """Gives them our weights; every parameter of theirs must get one."""
    reached = set()
    with torch.no_grad():
        for ours, other in pairs:
            for name, parameter in other.named_parameters(recurse=False):
                parameter.copy_(getattr(ours, name).view_as(parameter))
                reached.add(id(parameter))
    assert reached == {id(p) for p in theirs.parameters()}
    return theirs.eval()


def test_u_net_is_diffusers():
    ours = waken(ConditionalUNet((4, 16, 16), 32, (1, 2), 2, (16,), 4, 24, groups=8))
    theirs = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24, attention_head_dim=4, norm_num_groups=8, norm_eps=1e-6, flip_sin_to_cos=False,
        freq_shift=1,
    )  # fmt: skip
    ours, theirs = ours.float(), copied(pairs_of_u_nets(ours, theirs), theirs)
    z, text, t = numbers(2, 4, 16, 16).float(), numbers(2, 7, 24, seed=1).float(), torch.tensor([3, 990])
    with torch.no_grad():
        found, expected = ours(z, t, text), theirs(z, t, text).sample
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def pairs_of_autoencoders(encoder, decoder, theirs):
    def middle(half):
        return [half.mid_block.resnets[0], half.mid_block.attentions[0], half.mid_block.resnets[1]]

    def columns(blocks, resized):
        return [unit for b in blocks for unit in [*b.resnets, *(r.conv for r in getattr(b, resized) or [])]]

    e, d = theirs.encoder, theirs.decoder
    units = [e.conv_in, *columns(e.down_blocks, "downsamplers"), *middle(e), e.conv_norm_out, e.conv_out]
    units += [theirs.quant_conv, theirs.post_quant_conv, d.conv_in, *middle(d), *columns(d.up_blocks, "upsamplers")]
    units += [d.conv_norm_out, d.conv_out]
    ours = [
        layer for layer in [*encoder.layers, *decoder.layers, decoder.last] if any(True for _ in layer.parameters())
    ]
    for mine, other in zip(ours, units, strict=True):
        if isinstance(mine, ConvolutionBlock):
            yield from pairs_of_blocks(mine, other)
        elif isinstance(mine, Attention):
            thirds = zip(mine.qkv.weight.chunk(3), mine.qkv.bias.chunk(3), strict=True)
            yield (mine.norm, other.group_norm)
            for (weight, bias), linear in zip(thirds, (other.to_q, other.to_k, other.to_v), strict=True):
                yield (SimpleNamespace(weight=weight, bias=bias), linear)
            yield (mine.out, other.to_out[0])
        else:
            yield (getattr(mine, "conv", mine), other)


def their_autoencoder():
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 32, 32), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=8,
    )  # fmt: skip


def our_autoencoder():
    return [waken(half(3, 4, [16, 32, 32], 2, 8)) for half in (Encoder, Decoder)]


@torch.no_grad()
def same_autoencoder(encoder, decoder, theirs):
    x, z = numbers(2, 3, 16, 16), numbers(2, 4, 4, 4, seed=1)
    posterior = theirs.encode(x).latent_dist
    for found, expected in zip(encoder(x), (posterior.mean, posterior.logvar), strict=True):
        assert torch.allclose(found, expected, atol=1e-9)
    assert torch.allclose(decoder(z), theirs.decode(z).sample, atol=1e-7)


def test_autoencoder_is_diffusers():
    encoder, decoder = our_autoencoder()
    theirs = their_autoencoder().double()
    same_autoencoder(encoder, decoder, copied(pairs_of_autoencoders(encoder, decoder, theirs), theirs))


def test_autoencoder_takes_the_weights_of_a_diffusers_file(tmp_path):
    waken(their_autoencoder()).save_pretrained(tmp_path)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path, torch_dtype=torch.float64, low_cpu_mem_usage=False)
    encoder, decoder = our_autoencoder()
    with torch.no_grad():
        for mine, other in pairs_of_autoencoders(encoder, decoder, theirs):
            for name, parameter in other.named_parameters(recurse=False):
                getattr(mine, name).copy_(parameter.view_as(getattr(mine, name)))
    same_autoencoder(encoder, decoder, theirs.eval())


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_chain_is_diffusers_step_for_step(kind):
    """Their scheduler has float32 constants. Its sigma at eta = 0 is 0, so no noise plays a part."""
    scheduler = diffusers.DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing",
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[kind],
    )  # fmt: skip
    scheduler.set_timesteps(25)
    seen = []

    def says(z, t):
        return torch.tanh(z) + 0.1 * torch.cos(t[:, None] / 100)

    def watched(z, t):
        seen.append((z.clone(), int(t[0])))
        return says(z, t)

    z = numbers(3, 5)
    mine, times = denoiser(watched, make_schedule(LatentDiffusionConfig()), kind), timesteps(1000, 25, "trailing")
    end = implicit(mine, z.clone(), times, ImplicitSampler(clip=False), seeded(0))
    for t, (ours, time) in zip(scheduler.timesteps.tolist(), seen, strict=True):
        assert t == time
        assert torch.allclose(ours, z, atol=1e-4)
        z = scheduler.step(says(z, torch.full((3,), t)), t, z).prev_sample
    assert torch.allclose(end, z, atol=1e-4)
