"""RealNVP and Glow give the log-probabilities of normflows and nflows on the same weights.

The peers' couplings, 1x1 convolutions, normalisations, squeezes, multi-scale bookkeeping, base distributions and (for
Glow in normflows) networks are theirs; where a network is lent to the peer, the docstring says so.
"""

import math

import pytest
import torch
from torch import nn

from genbench.space import seeded
from zoo.glow import Flow as GlowFlow
from zoo.glow import GlowConfig
from zoo.nets import log_normal
from zoo.realnvp import AffineCoupling as MaskedCoupling
from zoo.realnvp import BatchNorm, RealNVPConfig, ResidualNetwork, Squeeze, channel_mask
from zoo.realnvp import Flow as RealNVPFlow

SHAPE = (2, 4, 4)


@pytest.fixture(autouse=True)
def _same_initial_weights():
    torch.manual_seed(0)


@torch.no_grad()
def shaken(module, size=0.1):
    """The module in float64 and eval mode, its weights moved by noise."""
    module = module.double().eval()
    gen = seeded(0)
    for parameter in module.parameters():
        parameter.add_(size * torch.randn(parameter.shape, generator=gen, dtype=torch.float64))
    return module


def images(n=3):
    return torch.rand(n, *SHAPE, generator=seeded(1), dtype=torch.float64)


def copy_into(target, values):
    """Writes values into parameters and buffers of the peer by name; a name that it lacks is an error."""
    own = dict(target.named_parameters()) | dict(target.named_buffers())
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value.reshape(own[name].shape))


# --- Glow in normflows, every part of it theirs -----------------------------------------------------------------------


def glow_steps(level):
    """The (normalisation, 1x1 convolution, coupling) triples of a level."""
    layers = list(level)[:-1]  # the last is the prior
    return list(zip(layers[0::3], layers[1::3], layers[2::3], strict=True))


def plain_weights(conv):
    """Kernel and bias of a convolution whose gain is multiplied into them."""
    gain = (conv.factor * conv.logs).exp()
    return conv.weight * gain[:, None, None, None], conv.bias * gain


def normflows_block(normflows, norm, conv, coupling, config):
    """A GlowBlock with the step's weights. The peer has x = (z - t) sigmoid, so its shift is the negative of ours."""
    channels = len(norm.bias)
    affine = config.coupling == "affine"
    block = normflows.flows.GlowBlock(channels, config.width, scale=affine, use_lu=config.lu).double()
    net = block.flows[0].flows[1].param_map.net
    for own, theirs in zip(
        (coupling.network.first, coupling.network.middle, coupling.network.last), net[::2], strict=True
    ):
        weight, bias = plain_weights(own)
        copy_into(theirs, {"weight": weight, "bias": bias})
    with torch.no_grad():
        for tensor in (net[-1].weight, net[-1].bias):
            tensor[:: 2 if affine else 1] *= -1
    copy_into(block.flows[2], {"s": -norm.log_scale, "t": -norm.bias, "data_dep_init_done": torch.tensor(1.0)})
    if not config.lu:
        copy_into(block.flows[1], {"W": conv.matrix})
        return block
    parts = {"P": conv.permutation, "L": conv.lower, "U": conv.upper, "log_S": conv.log_s, "sign_S": conv.sign}
    copy_into(block.flows[1], parts)
    return block


def normflows_base(normflows, shape, mean, log_scale):
    """A Gaussian with one mean and log-scale per channel."""
    base = normflows.distributions.GlowBase(shape).double()
    copy_into(base, {"loc": mean, "log_scale": log_scale})
    return base


def normflows_glow(normflows, flow, config):
    """Our flow as a MultiscaleFlow, whose lists run from the top level down and whose flows run towards pixels."""
    bases, flows, merges = [], [], []
    for level, shape in zip(flow.levels, flow.shapes, strict=True):
        prior = level[-1]
        blocks = [normflows_block(normflows, *layers, config) for layers in reversed(glow_steps(level))]
        flows.insert(0, [*blocks, normflows.flows.Squeeze()])
        if level is flow.levels[-1]:
            bases.insert(0, normflows_base(normflows, shape, -prior.bias, -prior.log_scale))
            continue
        _, moments = plain_weights(prior.network)  # its kernel is zero: the same moments everywhere
        bases.insert(0, normflows_base(normflows, shape, moments[0::2], moments[1::2]))
        merges.insert(0, normflows.flows.Merge())
    return normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
@pytest.mark.parametrize("coupling", ["affine", "additive"])
@pytest.mark.parametrize("lu", [False, True])
def test_glow_has_normflows_log_probabilities(coupling, lu):
    """normflows has no prior that depends on the channels kept, so that convolution's kernel is set to zero."""
    normflows = pytest.importorskip("normflows")
    config = GlowConfig(levels=2, steps=2, width=6, coupling=coupling, lu=lu, least_scale=0.0)
    flow = shaken(GlowFlow(SHAPE, config))
    flow.levels[0][-1].network.weight.zero_()
    y = images()
    z, log_det = flow(y)
    theirs = normflows_glow(normflows, flow, config).log_prob(y - 0.5, None)
    assert torch.allclose(log_normal(z) + log_det, theirs, rtol=0, atol=1e-10)


@torch.no_grad()
def test_glow_draws_normflows_images():
    normflows = pytest.importorskip("normflows")
    config = GlowConfig(levels=2, steps=2, width=6, least_scale=0.0)
    flow = shaken(GlowFlow(SHAPE, config), size=0.05)
    flow.levels[0][-1].network.weight.zero_()
    peer = normflows_glow(normflows, flow, config)
    gen = seeded(3)
    eps = [torch.randn(2, *shape, generator=gen, dtype=torch.float64) for shape in flow.shapes]
    latents = [base.loc + base.log_scale.exp() * e for base, e in zip(peer.q0, reversed(eps), strict=True)]
    theirs, _ = peer.forward_and_log_det(latents)
    ours = flow.inverse(torch.cat([e.flatten(1) for e in eps], dim=1))
    assert torch.allclose(ours, theirs + 0.5, rtol=0, atol=1e-10)


# --- the same in nflows -----------------------------------------------------------------------------------------------


class Lent(nn.Module):
    """A network of ours with the signature that nflows calls."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, context=None):
        return self.network(x)


def nflows_step(nflows, norm, conv, coupling):
    """The step as nflows transforms; the matrix of its 1x1 convolution, L U after a permutation, is given to ours."""
    channels = len(norm.bias)
    theirs = nflows.transforms.ActNorm(channels).double()
    copy_into(theirs, {"log_scale": norm.log_scale, "shift": norm.bias * norm.log_scale.exp()})
    mixing = shaken(nflows.transforms.OneByOneConvolution(channels, identity_init=False))
    copy_into(mixing, {"bias": torch.zeros(channels)})
    permutation = torch.eye(channels, dtype=torch.float64)[mixing.permutation._permutation]
    copy_into(conv, {"matrix": mixing.weight() @ permutation})

    class Sigmoid(nflows.transforms.AffineCouplingTransform):
        """Their coupling with Glow's reading of the network's output."""

        def _scale_and_shift(self, params):
            scale = torch.sigmoid(params[:, 1::2] + 2)
            return scale, params[:, 0::2] * scale

    mask = [0] * (channels // 2) + [1] * (channels // 2)
    return [theirs, mixing, Sigmoid(mask, lambda *_: Lent(coupling.network))]


@torch.no_grad()
def test_glow_has_nflows_log_probabilities():
    """The coupling networks are lent to nflows, which has none of this kind, and its shift and scale are read anew.

    nflows gives the first half of the channels away, so each level but the last ends in a swap of the halves.
    """
    pytest.importorskip("nflows")
    import nflows.distributions
    import nflows.flows
    import nflows.transforms

    flow = shaken(GlowFlow(SHAPE, GlowConfig(levels=2, steps=2, width=6, least_scale=0.0)))
    flow.levels[0][-1].network.weight.zero_()
    flow.levels[0][-1].network.bias.zero_()
    flow.levels[1][-1].bias.zero_()
    flow.levels[1][-1].log_scale.zero_()
    stack = nflows.transforms.MultiscaleCompositeTransform(num_transforms=2)
    shape = (8, 2, 2)
    for level in flow.levels:
        layers = [nflows.transforms.SqueezeTransform()]
        layers += [part for triple in glow_steps(level) for part in nflows_step(nflows, *triple)]
        c = shape[0]
        halves = torch.arange(c).roll(c // 2 if level is flow.levels[0] else 0)
        layers.append(nflows.transforms.Permutation(halves, dim=1))
        shape = stack.add_transform(nflows.transforms.CompositeTransform(layers), shape)
        shape = None if shape is None else (4 * shape[0], shape[1] // 2, shape[2] // 2)
    peer = nflows.flows.Flow(stack, nflows.distributions.StandardNormal([math.prod(SHAPE)])).eval()
    y = images()
    z, log_det = flow(y)
    assert torch.allclose(log_normal(z) + log_det, peer.log_prob(y - 0.5), rtol=0, atol=1e-10)


# --- RealNVP ----------------------------------------------------------------------------------------------------------


class Part(nn.Module):
    """The log-scale or the shift of a coupling of ours, for all dimensions and without a mask."""

    def __init__(self, coupling, which):
        super().__init__()
        self.coupling, self.which = coupling, which

    def forward(self, x):
        raw, shift = self.coupling.network(x).chunk(2, dim=1)
        return self.coupling.scale * raw.tanh() if self.which == "log_s" else shift


def masked_affine(normflows, coupling):
    """A MaskedAffineFlow that is lent our network; its forward is our forward."""
    mask = (coupling.mask * torch.ones(1, *SHAPE)).double()[0]
    return normflows.flows.MaskedAffineFlow(mask, t=Part(coupling, "t"), s=Part(coupling, "log_s"))


@torch.no_grad()
def test_realnvp_has_normflows_log_probabilities():
    """Logit, standardisation, checkerboard couplings and the base are theirs, the networks of s and t are lent."""
    normflows = pytest.importorskip("normflows")
    flow = shaken(RealNVPFlow(SHAPE, RealNVPConfig(scales=1, channels=6, blocks=1, batch_norm=False)))
    y = images()
    logit = normflows.transforms.Logit(alpha=0.05)
    standardise = normflows.flows.AffineConstFlow(SHAPE).double()
    copy_into(
        standardise,
        {"s": -flow.standardise.log_scale, "t": -flow.standardise.shift * (-flow.standardise.log_scale).exp()},
    )
    h, log_p = logit.inverse(y)
    for layer in [standardise, *[masked_affine(normflows, coupling) for coupling in flow.scales[0]]]:
        h, log_det = layer(h)
        log_p = log_p + log_det
    log_p = log_p + normflows.distributions.DiagGaussian(SHAPE, trainable=False).double().log_prob(h)
    z, log_det = flow(y)
    assert torch.allclose(log_normal(z) + log_det, log_p, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("turn", [0, 1])
def test_realnvps_channel_coupling_is_nflows(turn):
    """The network is lent: nflows gives it the kept channels alone, ours gets zeros for the others."""
    transforms = pytest.importorskip("nflows.transforms")
    shape = (4, 4, 4)
    config = RealNVPConfig(channels=6, blocks=1)
    coupling = shaken(MaskedCoupling(channel_mask(shape, turn), ResidualNetwork(shape, config), 4))
    changed = (1 - coupling.mask[0, :, 0, 0]).bool()

    class Network(nn.Module):
        def forward(self, kept, context=None):
            x = kept.new_zeros(len(kept), *shape)
            x[:, ~changed] = kept
            raw, shift = coupling.network(x).chunk(2, dim=1)
            return torch.cat([(coupling.scale * raw.tanh())[:, changed], shift[:, changed]], dim=1)

    class Exponential(transforms.AffineCouplingTransform):
        def _scale_and_shift(self, params):
            log_s, shift = params.chunk(2, dim=1)
            return log_s.exp(), shift

    peer = Exponential(changed.int(), lambda *_: Network())
    x = torch.randn(3, *shape, generator=seeded(1), dtype=torch.float64)
    (z, log_det), (theirs, their_log_det) = coupling(x), peer(x)
    assert torch.allclose(z, theirs, rtol=0, atol=1e-12)
    assert torch.allclose(log_det, their_log_det, rtol=0, atol=1e-12)
    assert torch.allclose(coupling.inverse(z)[0], peer.inverse(z)[0], rtol=0, atol=1e-12)


class KeptToChanged(nn.Module):
    """A coupling's network with nflows' signature: given the kept numbers alone, it says log s and t of the others."""

    def __init__(self, coupling, shape):
        super().__init__()
        self.coupling, self.shape = coupling, shape
        self.kept = coupling.mask.expand(1, *shape).flatten().bool()

    def forward(self, kept, context=None):
        x = kept.new_zeros(len(kept), len(self.kept))
        x[:, self.kept] = kept
        parts = self.coupling.scale_and_shift(x.unflatten(1, self.shape))
        return torch.cat([part.flatten(1)[:, ~self.kept] for part in parts], dim=1)


class OfFlatImages(nn.Module):
    """A transform of rows of numbers as one of images."""

    def __init__(self, transform, shape):
        super().__init__()
        self.transform, self.shape = transform, shape

    def forward(self, x, context=None):
        z, log_det = self.transform(x.flatten(1))
        return z.unflatten(1, self.shape), log_det


def nflows_layer(transforms, layer, shape):
    """A coupling, batch normalisation or squeeze of ours as theirs."""

    class Exponential(transforms.AffineCouplingTransform):
        def _scale_and_shift(self, params):
            log_s, shift = params.chunk(2, dim=1)
            return log_s.exp(), shift

    if isinstance(layer, Squeeze):
        order = [4 * c + 2 * i + j for i, j in Squeeze.CORNERS for c in range(shape[0])]
        return [transforms.SqueezeTransform(), transforms.Permutation(torch.tensor(order), dim=1)]
    if isinstance(layer, BatchNorm):
        norm = transforms.BatchNorm(math.prod(shape), eps=layer.eps).double().eval()
        exactly_1 = torch.full(norm.bias.shape, 1 - layer.eps, dtype=torch.float64).expm1().log()
        copy_into(norm, {"running_mean": layer.mean, "running_var": layer.var, "unconstrained_weight": exactly_1})
        return [OfFlatImages(norm, shape)]
    network = KeptToChanged(layer, shape)
    return [OfFlatImages(Exponential((~network.kept).int(), lambda *_: network), shape)]


@torch.no_grad()
@pytest.mark.parametrize("batch_norm", [False, True])
def test_realnvp_of_two_scales_has_nflows_log_probabilities(batch_norm):
    """All is theirs but the networks of s and t; their squeeze has another order of the four pixels of a block."""
    transforms = pytest.importorskip("nflows.transforms")
    import nflows.distributions
    import nflows.flows

    config = RealNVPConfig(scales=2, channels=6, blocks=1, batch_norm=batch_norm)
    flow = shaken(RealNVPFlow(SHAPE, config), size=0.05)
    gen = seeded(2)
    for name, buffer in flow.named_buffers():
        if name.endswith((".mean", ".var")):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=gen, dtype=torch.float64))
    stack, shape = transforms.MultiscaleCompositeTransform(num_transforms=2), SHAPE
    for scale in flow.scales:
        layers = []
        for layer in scale:
            layers += nflows_layer(transforms, layer, shape)
            if isinstance(layer, Squeeze):
                shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
        shape = stack.add_transform(transforms.CompositeTransform(layers), shape)
    margin, width = torch.tensor([(1 - config.constraint) / 2, config.constraint], dtype=torch.float64)
    press = transforms.PointwiseAffineTransform(shift=margin, scale=width)
    spread = (-flow.standardise.log_scale).exp()[0]
    standardise = transforms.PointwiseAffineTransform(shift=-flow.standardise.shift[0] * spread, scale=spread)
    whole = transforms.CompositeTransform([press, transforms.Logit(), standardise, stack])
    peer = nflows.flows.Flow(whole, nflows.distributions.StandardNormal([math.prod(SHAPE)])).eval()
    y = images()
    z, log_det = flow(y)
    assert torch.allclose(log_normal(z) + log_det, peer.log_prob(y), rtol=0, atol=1e-9)
