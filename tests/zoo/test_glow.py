"""Glow against what is known: autograd's Jacobians, integrals, closed forms at initialisation, entropies."""

import copy
import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from genbench.check import check_model
from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.sources.build import read_weights, write_weights
from genbench.space import bits_per_dim, seeded, to_pixels, to_unit_range
from zoo.glow import (
    ActNorm,
    ConditionalAffine,
    Conv1x1,
    Flow,
    Glow,
    GlowConfig,
    GlowSampler,
    LUConv1x1,
    enter,
    inverses,
    leave,
    read_prior,
    squeeze,
    step,
)
from zoo.glow_networks import CouplingNetwork, GainConv, ZeroConv
from zoo.nets import log_normal

TINY = GlowConfig(levels=2, steps=2, width=6)
DIGITS = DataSpec(1, 8, 8, 17)
SHAPE = (4, 4, 4)
LOG_SIGMOID_2 = -0.12692801104297252


@pytest.fixture(autouse=True)
def _same_initial_weights():
    torch.manual_seed(0)


def shaken(module, seed=0, size=0.2):
    """The module in eval mode, its weights moved by noise."""
    gen = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=gen, dtype=parameter.dtype))
    return module.eval()


def coupling(kind="affine", positions=False):
    return step(SHAPE, GlowConfig(width=6, coupling=kind, positions=positions))[2]


def split_prior():
    return ConditionalAffine(ZeroConv(2, 4), read_prior)


def random_pixels(n, data, seed=0):
    return torch.randint(0, data.levels, (n, *data.shape), generator=seeded(seed)).to(torch.uint8)


def batch_of(pixels, levels):
    return Batch(to_unit_range(pixels, levels), pixels)


def prepared(data=DIGITS, config=TINY, n=32):
    model = Glow(data, config)
    model.prepare(batch_of(random_pixels(n, data), data.levels), seeded(0))
    return model


# --- every layer alone, then the stack --------------------------------------------------------------------------------

LAYERS = {
    "activation normalisation": lambda: ActNorm(4),
    "1x1 convolution": lambda: Conv1x1(4),
    "1x1 convolution, LU": lambda: LUConv1x1(4),
    "affine coupling": coupling,
    "affine coupling with positions": lambda: coupling(positions=True),
    "additive coupling": lambda: coupling("additive"),
    "split prior": split_prior,
    "flow": lambda: Flow(SHAPE, TINY),
    "flow, LU and additive": lambda: Flow(SHAPE, GlowConfig(2, 2, 6, coupling="additive", lu=True)),
    "flow of one level with a logit": lambda: Flow(SHAPE, GlowConfig(1, 3, 6, constraint=0.9, positions=True)),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_log_det_is_that_of_autograds_jacobian(make):
    layer = shaken(make().double())
    x = torch.rand(2, *SHAPE, generator=seeded(1), dtype=torch.float64)
    z, log_det = layer(x)
    assert log_det.shape == (2,)
    for i in range(2):
        matrix = jacobian(lambda v: layer(v.view(1, *SHAPE))[0].flatten(), x[i].flatten())
        assert log_det[i].item() == pytest.approx(torch.linalg.slogdet(matrix).logabsdet.item(), abs=1e-9)
    assert z.numel() == x.numel()


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_inverse_undoes_forward(make):
    x = torch.rand(3, *SHAPE, generator=seeded(1), dtype=torch.float64)
    for dtype, tolerance in [(torch.float64, 1e-10), (torch.float32, 1e-5)]:
        layer = shaken(make().to(dtype), size=0.1)
        assert (layer.inverse(layer(x.to(dtype))[0]) - x).abs().max() < tolerance


@pytest.mark.parametrize("constraint", [0.0, 0.9])
def test_entrance_has_autograds_log_det_and_inverse(constraint):
    y = torch.rand(2, 1, 3, 3, generator=seeded(0), dtype=torch.float64)
    z, log_det = enter(y, constraint)
    for i in range(2):
        matrix = jacobian(lambda v: enter(v.view(1, 1, 3, 3), constraint)[0].flatten(), y[i].flatten())
        assert log_det[i].item() == pytest.approx(torch.linalg.slogdet(matrix).logabsdet.item(), abs=1e-9)
    assert (leave(z, constraint) - y).abs().max() < 1e-12


def test_prior_of_a_split_is_the_conditional_gaussian():
    prior = shaken(split_prior().double())
    x = torch.randn(3, *SHAPE, generator=seeded(1), dtype=torch.float64)
    z, log_det = prior(x)
    h = prior.network(x[:, :2])
    known = torch.distributions.Normal(h[:, 0::2], h[:, 1::2].exp()).log_prob(x[:, 2:]).flatten(1).sum(1)
    assert torch.allclose(log_normal(z[:, 2:].flatten(1)) + log_det, known)
    assert torch.equal(z[:, :2], x[:, :2])


def test_prior_of_a_split_starts_as_a_standard_normal():
    x = torch.randn(3, *SHAPE, generator=seeded(1))
    z, log_det = split_prior()(x)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(3))


# --- activation normalisation and its initialisation ------------------------------------------------------------------


def test_actnorm_shifts_before_it_scales():
    layer = ActNorm(2)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -2.0]))
        layer.log_scale.copy_(torch.tensor([math.log(3.0), 0.0]))
    z, log_det = layer(torch.full((5, 2, 3, 4), 2.0))
    assert torch.allclose(z[:, 0], torch.tensor(9.0))
    assert torch.allclose(z[:, 1], torch.tensor(0.0))
    assert torch.allclose(log_det, torch.full((5,), 12 * math.log(3.0)))


@torch.no_grad()
def test_actnorm_gives_the_first_batch_mean_0_and_variance_1_in_every_channel():
    x = torch.randn(50, 3, 4, 4, generator=seeded(0)) * torch.tensor([0.1, 1, 7]).view(3, 1, 1) + 5
    layer = ActNorm(3)
    z = layer.initialise(x)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(z.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-3)
    assert layer(x)[1][0].item() == pytest.approx(-8 * (x.var((0, 2, 3), correction=0) + 1e-6).log().sum().item())


@torch.no_grad()
def test_a_constant_channel_stays_finite():
    assert torch.isfinite(ActNorm(2).initialise(torch.ones(4, 2, 3, 3))).all()


def test_preparing_normalises_every_layer_and_happens_once():
    model = Glow(DIGITS, TINY)
    assert not model.flow.initialised
    batch = batch_of(random_pixels(64, DIGITS), 17)
    model.prepare(batch, seeded(0))
    assert model.flow.initialised
    latents = model.flow((batch.pixels + torch.rand(batch.pixels.shape, generator=seeded(0))) / 17)[0]
    top = latents[:, 32:].view(64, 8, 4)  # the last level's normalisation saw this batch
    assert torch.allclose(top.mean((0, 2)), torch.zeros(8), atol=1e-4)
    assert torch.allclose(top.var((0, 2), correction=0), torch.ones(8), atol=1e-3)
    before = copy.deepcopy(model.state_dict())
    model.prepare(batch_of(random_pixels(8, DIGITS, seed=5), 17), seeded(7))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def test_hidden_channels_are_normalised_on_the_first_batch():
    network = CouplingNetwork(2, 4, width=8, size=None)
    x = 3 + torch.randn(100, 2, 4, 4, generator=seeded(0))
    network.initialise(x)
    for h in (network.first(x), network.middle(network.first(x).relu())):
        assert torch.allclose(h.mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
        assert torch.allclose(h.var((0, 2, 3), correction=0), torch.ones(8), atol=1e-3)
    assert torch.equal(network(x), torch.zeros(100, 4, 4, 4))


def test_restored_weights_are_not_initialised_again(tmp_path):
    trained = shaken(prepared(), size=0.05)
    write_weights(trained, tmp_path / "glow.safetensors")
    restored = Glow(DIGITS, TINY).eval()
    read_weights(restored, tmp_path / "glow.safetensors")
    restored.prepare(batch_of(random_pixels(16, DIGITS, seed=9), 17), seeded(1))
    pixels = random_pixels(3, DIGITS, seed=4)
    assert torch.equal(restored.log_prob(pixels), trained.log_prob(pixels))


def test_looking_at_the_likelihood_initialises_nothing():
    model = Glow(DIGITS, TINY).train()
    before = copy.deepcopy(model.state_dict())
    model.log_prob(random_pixels(4, DIGITS))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# --- 1x1 convolutions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Conv1x1, LUConv1x1])
def test_conv_starts_as_a_rotation(kind):
    conv = kind(12)
    assert torch.allclose(conv.weight() @ conv.weight().T, torch.eye(12), atol=1e-5)
    assert conv(torch.randn(3, 12, 5, 4))[1].abs().max() < 1e-4


@pytest.mark.parametrize("sign", [1, -1])
def test_conv_log_det_counts_positions_and_ignores_the_determinants_sign(sign):
    conv = Conv1x1(3)
    with torch.no_grad():
        conv.matrix.copy_(torch.diag(torch.tensor([2.0, 2.0, 2.0 * sign])))
    z, log_det = conv(torch.ones(2, 3, 5, 4))
    assert torch.allclose(log_det, torch.full((2,), 5 * 4 * 3 * math.log(2.0)))
    assert torch.allclose(z[:, 2], torch.tensor(2.0 * sign))


def test_conv_is_torchs_1x1_convolution():
    conv, x = Conv1x1(6), torch.randn(2, 6, 3, 5)
    assert torch.allclose(conv(x)[0], nn.functional.conv2d(x, conv.matrix[:, :, None, None]), atol=1e-6)


@pytest.mark.parametrize("kind", [Conv1x1, LUConv1x1])
def test_inverses_found_together_are_each_convolutions_own(kind):
    convs = [shaken(kind(5).double(), seed) for seed in range(3)]
    x = torch.randn(2, 5, 3, 4, generator=seeded(1), dtype=torch.float64)
    for each, inverse in zip(convs, inverses(convs), strict=True):
        assert torch.allclose(inverse @ each.weight(), torch.eye(5, dtype=torch.float64), atol=1e-10)
        assert torch.allclose(nn.functional.conv2d(each(x)[0], inverse[:, :, None, None]), x, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("lu", [False, True])
def test_a_flow_is_undone_layer_by_layer_last_first(lu):
    flow = shaken(Flow(SHAPE, GlowConfig(levels=1, steps=3, width=6, lu=lu)).double())
    z = torch.randn(2, 64, generator=seeded(1), dtype=torch.float64)
    h = z.view(2, 16, 2, 2)
    for layer in reversed(flow.levels[0]):
        h = layer.inverse(h)
    assert torch.allclose(flow.inverse(z), nn.functional.pixel_shuffle(h, 2) + 0.5, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Conv1x1, LUConv1x1])
def test_a_convolution_is_not_rounded_under_autocast(kind):
    conv, x = shaken(kind(6)), torch.randn(2, 6, 3, 5, generator=seeded(1))
    z, back = conv(x)[0], conv.inverse(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x)[0], z)
        assert torch.equal(conv.inverse(x), back)


def test_lu_form_has_the_determinant_of_its_product():
    conv = shaken(LUConv1x1(7).double())
    weight = conv.weight()
    expected = torch.linalg.slogdet(weight).logabsdet.item()
    assert conv.log_abs_dets([conv], weight[None]).item() == pytest.approx(expected, abs=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("lu", [False, True])
def test_a_flow_computes_what_its_layers_do_one_after_another(lu):
    flow = shaken(Flow(SHAPE, GlowConfig(levels=1, steps=3, width=6, lu=lu)).double())
    y = torch.rand(2, *SHAPE, generator=seeded(1), dtype=torch.float64)
    h, log_det = squeeze(y - 0.5), torch.zeros(2, dtype=torch.float64)
    for layer in flow.levels[0]:
        h, change = layer(h)
        log_det = log_det + change
    z, whole = flow(y)
    assert torch.allclose(z, h.flatten(1), atol=1e-12)
    assert torch.allclose(whole, log_det, atol=1e-12)


def test_sampling_computes_no_determinant(monkeypatch):
    model = prepared(config=TINY).eval()
    monkeypatch.setattr(torch.linalg, "slogdet", lambda _: pytest.fail("a determinant while sampling"))
    assert model.sample(2, seeded(0)).shape == (2, 1, 8, 8)


# --- couplings --------------------------------------------------------------------------------------------------------


def test_coupling_keeps_its_half_and_reads_shift_and_scale_interleaved():
    layer = coupling()
    with torch.no_grad():
        layer.network.last.bias.copy_(torch.tensor([1.0, -2.0, 3.0, 2.0]))  # t, h, t, h
    x = torch.randn(2, *SHAPE, generator=seeded(0))
    z, log_det = layer(x)
    assert torch.equal(z[:, :2], x[:, :2])
    assert torch.allclose(z[:, 2], (x[:, 2] + 1) * 0.5)
    assert torch.allclose(z[:, 3], (x[:, 3] + 3) / (1 + math.exp(-4)))
    assert torch.allclose(log_det, torch.full((2,), 16 * (math.log(0.5) - math.log1p(math.exp(-4)))))


def test_a_saturated_coupling_stays_invertible():
    layer = coupling().double()
    with torch.no_grad():
        layer.network.last.bias[1::2] = -1000.0
    x = torch.randn(2, *SHAPE, generator=seeded(0), dtype=torch.float64)
    z, log_det = layer(x)
    assert torch.allclose(log_det, torch.full((2,), 32 * math.log(1e-6), dtype=torch.float64))
    assert torch.allclose(layer.inverse(z), x)


def test_no_scale_of_a_coupling_is_below_the_least():
    layer = step(SHAPE, GlowConfig(width=6, least_scale=0.5))[2]
    with torch.no_grad():
        layer.network.last.bias.copy_(torch.tensor([1.0, -1000.0, 3.0, -2.0]))  # raw + 2: as small as can be, and 0
    x = torch.randn(2, *SHAPE, generator=seeded(0))
    z, log_det = layer(x)
    assert torch.allclose(z[:, 2], (x[:, 2] + 1) * 0.5)
    assert torch.allclose(z[:, 3], (x[:, 3] + 3) * 0.75)
    assert torch.allclose(log_det, torch.full((2,), 16 * math.log(0.5 * 0.75)))


def test_new_affine_coupling_scales_by_sigmoid_2():
    layer, x = coupling(), torch.randn(2, *SHAPE)
    z, log_det = layer(x)
    assert torch.allclose(z[:, 2:], x[:, 2:] * math.exp(LOG_SIGMOID_2))
    assert torch.allclose(log_det, torch.full((2,), 32 * LOG_SIGMOID_2))


def test_new_additive_coupling_is_the_identity_with_a_log_det_for_each_image():
    layer, x = coupling("additive"), torch.randn(5, *SHAPE)
    z, log_det = layer(x)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(5))


def test_last_convolution_has_the_gain_exp_3_logs():
    conv = ZeroConv(2, 3)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(conv(x), torch.zeros(1, 3, 4, 4))
    with torch.no_grad():
        conv.weight.normal_(generator=seeded(0))
        conv.bias.fill_(0.5)
        plain = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
        conv.logs.copy_(torch.tensor([0.0, 0.1, -0.2]))
    assert torch.allclose(conv(x), plain * torch.tensor([1, math.exp(0.3), math.exp(-0.6)]).view(3, 1, 1), atol=1e-6)


def test_positions_let_a_network_know_the_middle_from_the_rim():
    network = CouplingNetwork(2, 2, width=4, size=(6, 6))
    with torch.no_grad():
        network.last.weight.fill_(1)
        network.position[:, :, 3, 3] = 5
    h = network(torch.zeros(1, 2, 6, 6))
    assert h[0, 0, 3, 3] != h[0, 0, 1, 3]


# --- the flow ---------------------------------------------------------------------------------------------------------


def test_squeeze_is_channel_major_and_local():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    z = squeeze(x)
    assert z.shape == (1, 8, 2, 2)
    for c, u, v, i, j in product(range(2), repeat=5):
        assert z[0, 4 * c + 2 * u + v, i, j] == x[0, c, 2 * i + u, 2 * j + v]


def test_entrance_without_a_logit_only_shifts():
    y = torch.rand(2, 1, 2, 2, generator=seeded(0))
    z, log_det = enter(y, 0.0)
    assert torch.equal(z, y - 0.5)
    assert log_det.tolist() == [0, 0]


@torch.no_grad()
@pytest.mark.parametrize(("coupling", "lu"), list(product(["affine", "additive"], [False, True])))
def test_log_det_of_a_prepared_net_is_closed_form(coupling, lu):
    model = prepared(config=GlowConfig(2, 3, 6, coupling=coupling, lu=lu))
    _, log_det = model.flow(torch.rand(4, 1, 8, 8, generator=seeded(3)))
    norms = [m for level in model.flow.levels for m in level if isinstance(m, ActNorm)]
    expected = sum(
        len(m.bias) * m.log_scale.mean().item() * size for m, size in zip(norms, [16] * 3 + [4] * 4, strict=True)
    )
    if coupling == "affine":  # 3 steps at (4, 4, 4), 3 at (8, 2, 2), half of the channels each
        expected += 3 * (2 * 16 + 4 * 4) * LOG_SIGMOID_2
    assert torch.allclose(log_det, torch.full((4,), expected), rtol=1e-4)


@pytest.mark.parametrize("levels", [1, 2])
def test_every_dimension_is_transformed(levels):
    flow = shaken(Flow(SHAPE, GlowConfig(levels=levels, steps=1, width=6)).double())
    x = torch.rand(64, generator=seeded(1), dtype=torch.float64)
    for row in jacobian(lambda v: flow(v.view(1, *SHAPE))[0].flatten(), x):
        assert (row != 0).sum() > 1


def paper_count(channels, steps=32, width=512, levels=3):
    """Parameters of the paper's network: 1x1 convolutions, normalisations, couplings, split priors, top prior."""
    total = 0
    for level in range(levels):
        c = channels * 4 * 2**level
        network = 9 * (c // 2) * width + 2 * width + width**2 + 2 * width + 9 * width * c + 2 * c
        total += steps * (c**2 + 2 * c + network)
        total += 2 * c if level == levels - 1 else 9 * (c // 2) * c + 2 * c
    return total


def test_parameters_of_the_papers_network_for_cifar10():
    model = Glow(DataSpec(3, 32, 32))
    count = sum(p.numel() for p in model.parameters())
    assert count == paper_count(3) == 44_052_816
    assert [len(level) for level in model.flow.levels] == [97, 97, 97]


@pytest.mark.parametrize(
    ("data", "shapes"),
    [
        (DIGITS, [(2, 4, 4), (8, 2, 2)]),
        (DataSpec(1, 28, 28), [(2, 14, 14), (8, 7, 7)]),
        (DataSpec(1, 14, 14), [(4, 7, 7)]),
        (DataSpec(3, 32, 32), [(6, 16, 16), (12, 8, 8), (48, 4, 4)]),
    ],
    ids=str,
)
def test_presets_have_as_many_latents_as_pixels(data, shapes):
    model = Glow(data, replace(Glow.preset(data), steps=1, width=2))
    assert model.flow.shapes == shapes
    assert sum(math.prod(shape) for shape in shapes) == data.dims


# --- densities --------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_density_of_steps_in_two_dimensions_integrates_to_one(coupling):
    config = GlowConfig(steps=1, width=6, coupling=coupling)
    layers = [shaken(layer.double(), i, 0.1) for i in range(3) for layer in step((2, 1, 1), config)]
    centres = -12 + 24 * (torch.arange(241, dtype=torch.float64) + 0.5) / 241
    h = torch.cartesian_prod(centres, centres).view(-1, 2, 1, 1)
    log_det = torch.zeros(len(h), dtype=torch.float64)
    for layer in layers:
        h, change = layer(h)
        log_det += change
    mass = (log_normal(h.flatten(1)) + log_det).exp().sum() * (24 / 241) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_density_of_the_logit_integrates_to_one():
    y = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).view(-1, 1, 1, 1)
    z, log_det = enter(y, 1 - 1e-12)
    assert (log_normal(z.flatten(1)) + log_det).exp().mean().item() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("constraint", [0.0, 0.9])
def test_masses_of_all_images_sum_to_the_share_of_samples_inside_the_cube(constraint):
    data = DataSpec(1, 2, 2, 2)
    model = shaken(prepared(data, GlowConfig(1, 2, 6, constraint=constraint), n=64), size=0.1)
    pixels = torch.tensor(list(product(range(2), repeat=4)), dtype=torch.uint8).view(16, 1, 2, 2)
    sums = model.log_prob(pixels.repeat(2000, 1, 1, 1), seeded(0)).exp().view(2000, 16).sum(1)
    y = model.flow.inverse(model.noise(100_000, seeded(1)))
    inside = ((y >= 0) & (y < 1)).flatten(1).all(1).double()
    error = math.hypot(sums.std().item() / math.sqrt(2000), inside.std().item() / math.sqrt(100_000))
    assert 0.05 < inside.mean().item() < 0.95
    assert sums.mean().item() == pytest.approx(inside.mean().item(), abs=4 * error)


@torch.no_grad()
def test_density_of_an_affine_flow_is_a_gaussians():
    flow = Flow((1, 2, 2), GlowConfig(1, 3, 6, coupling="additive")).double()  # new couplings are the identity
    for seed, norm in enumerate(layer for layer in flow.levels[0] if isinstance(layer, ActNorm)):
        shaken(norm, seed, 0.5)
    origin = torch.zeros(1, 4, dtype=torch.float64)
    matrix = jacobian(lambda z: flow.inverse(z).flatten(), origin)[:, 0]
    gaussian = torch.distributions.MultivariateNormal(flow.inverse(origin).flatten(), matrix @ matrix.T)
    y = torch.rand(50, 1, 2, 2, generator=seeded(1), dtype=torch.float64)
    z, log_det = flow(y)
    assert torch.allclose(log_normal(z) + log_det, gaussian.log_prob(y.flatten(1)), rtol=0, atol=1e-9)
    z, log_det = flow(flow.inverse(torch.randn(20_000, 4, generator=seeded(2), dtype=torch.float64)))
    surprise = -(log_normal(z) + log_det)
    error = surprise.std().item() / math.sqrt(20_000)
    assert surprise.mean().item() == pytest.approx(gaussian.entropy().item(), abs=4 * error)


class UniformFlow(nn.Module):
    """z = Phi^-1(y): the uniform density on the unit cube."""

    def forward(self, y):
        z = torch.special.ndtri(y.double().clamp_min(1e-12)).flatten(1)
        return z, -log_normal(z)


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_uniform_flow_has_log2_levels_bits(levels):
    data = DataSpec(1, 8, 8, levels)
    model = Glow(data, TINY)
    model.flow = UniformFlow()
    bits = bits_per_dim(model.log_prob(random_pixels(5, data), seeded(0)), data.dims)
    assert torch.allclose(bits, torch.full((5,), math.log2(levels), dtype=torch.float64), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 1])
def test_a_factor_of_2_that_the_next_layer_takes_back_leaves_bits_per_dim(level):
    model, pixels = shaken(prepared(), size=0.05), random_pixels(5, DIGITS, seed=9)
    before = bits_per_dim(model.log_prob(pixels, seeded(1)), 64)
    norm, mixing = model.flow.levels[level][:2]
    norm.log_scale.add_(math.log(2))
    mixing.matrix.div_(2)
    assert torch.allclose(bits_per_dim(model.log_prob(pixels, seeded(1)), 64), before, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_narrow_density_is_above_one_and_its_mass_is_smaller_by_the_cells_volume():
    model = prepared(config=GlowConfig(1, 1, 6))
    model.flow.levels[0][-1].log_scale.fill_(5)
    y = model.flow.inverse(torch.zeros(1, 64))
    z, log_det = model.flow(y)
    assert (log_normal(z) + log_det).item() > 0
    wide = prepared(config=GlowConfig(1, 1, 6))
    pixels = random_pixels(2, DIGITS)
    z, log_det = wide.flow((pixels + torch.rand(pixels.shape, generator=seeded(3))) / 17)
    assert torch.allclose(wide.log_prob(pixels, seeded(3)), log_normal(z) + log_det - 64 * math.log(17))


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "config"),
    [
        (DIGITS, {}),
        (DIGITS, {"coupling": "additive", "lu": True, "constraint": 0.0, "width": 8}),
        (DataSpec(3, 32, 32), {"steps": 2, "width": 8}),
        (DataSpec(1, 28, 28, 256, 10), {"steps": 2, "width": 8, "lu": True}),
    ],
    ids=str,
)
def test_conforms(data, config):
    failed = [(result.name, result.message) for result in check_model(Glow, data, config) if not result.passed]
    assert not failed


def test_likelihood_does_not_depend_on_the_batch_and_changes_nothing():
    model = shaken(prepared(), size=0.05).train()
    before = copy.deepcopy(model.state_dict())
    pixels = random_pixels(6, DIGITS, seed=9)
    alone, together = model.log_prob(pixels[:1], seeded(1)), model.log_prob(pixels, seeded(1))
    assert alone.item() == pytest.approx(together[0].item(), rel=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_dequantisation_noise_is_fresh_and_defaults_to_seed_0():
    model, pixels = prepared(), random_pixels(3, DIGITS)
    assert not torch.equal(model.log_prob(pixels, seeded(1)), model.log_prob(pixels, seeded(2)))
    assert torch.equal(model.log_prob(pixels), model.log_prob(pixels, seeded(0)))


def test_loss_is_the_batchs_mean_in_bits():
    model, pixels = prepared(), random_pixels(7, DIGITS)
    loss = model.loss(batch_of(pixels, 17), "all", 0, seeded(1))
    known = bits_per_dim(model.log_prob(pixels, seeded(1)), 64).mean().item()
    assert loss.total.item() == pytest.approx(known, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("constraint", [0.0, 0.97])
def test_decode_gives_every_grey_level_back(constraint):
    model = shaken(prepared(config=GlowConfig(2, 2, 6, constraint=constraint)), size=0.05)
    pixels = random_pixels(20, DIGITS)
    x = to_unit_range(pixels, 17)
    back = model.decode(model.encode(x))
    assert (back - x).abs().max() < 1e-4
    assert torch.equal(to_pixels(back, 17), pixels)


@torch.no_grad()
def test_nearest_grey_level_of_decode_is_the_cell_of_y():
    model = shaken(prepared(), size=0.05)
    y = torch.rand(50, 1, 8, 8, generator=seeded(0)).clamp(1e-4, 1 - 1e-4)
    drawn = to_pixels(model.decode(model.flow(y)[0]), 17).float()
    assert (drawn != (y * 17).floor()).float().mean() < 1e-3  # float32 on a cell's edge


@torch.no_grad()
def test_temperature_scales_every_priors_standard_deviation():
    model = shaken(prepared(), size=0.03)
    model.sampler = GlowSampler(temperature=0.5)
    assert torch.equal(model.sample(3, seeded(1)), model.decode(0.5 * model.noise(3, seeded(1))))
    prior, a, eps = model.flow.levels[0][-1], torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    warm, cold, mean = (prior.inverse(torch.cat([a, t * eps], dim=1))[:, 2:] for t in (1.0, 0.5, 0.0))
    assert torch.allclose(cold - mean, 0.5 * (warm - mean), atol=1e-6)


@torch.no_grad()
def test_the_flow_keeps_float32_when_its_networks_run_in_bfloat16():
    model = shaken(prepared(), size=0.02)
    y = torch.rand(4, 1, 8, 8, generator=seeded(0))
    z, log_det = model.flow(y)
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_log_det = model.flow(y)
        back = model.flow.inverse(rough)
    assert rough.dtype == rough_log_det.dtype == back.dtype == torch.float32
    assert (rough - z).abs().max() < 0.1
    assert (rough_log_det - log_det).abs().max() < 0.5


def test_gain_is_part_of_the_networks_weights_alone():
    """A hidden normalisation changes the network's output and has no log-determinant of its own."""
    layer = shaken(coupling("additive"))
    x = torch.randn(2, *SHAPE, generator=seeded(0))
    before, _ = layer(x)
    with torch.no_grad():
        for conv in layer.modules():
            if isinstance(conv, GainConv):
                conv.logs.add_(0.5)
    after, log_det = layer(x)
    assert not torch.allclose(before, after)
    assert torch.equal(log_det, torch.zeros(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Glow(DataSpec(3, 30, 30), GlowConfig(levels=3)),
            "Glow: config.levels: found 3, allowed: at most 1 for 30x30 images",
        ),
        (lambda: Glow(DataSpec(1, 7, 8)), "Glow: found 7x8 images, allowed: even sides, such as 8x8"),
        (
            lambda: Glow(DataSpec(1, 8, 8), sampler=GlowSampler(temperature=0)),
            "Glow: sampler.temperature: found 0 (int), allowed: a number, above 0",
        ),
    ],
)
def test_bad_options_name_what_is_allowed(make, message):
    with pytest.raises(ModelError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(("side", "levels", "steps"), [(32, 3, 32), (64, 4, 48), (256, 6, 32), (66, 1, 48)])
def test_presets_have_the_papers_levels_and_steps(side, levels, steps):
    config = Glow.preset(DataSpec(3, side, side))
    assert (config.levels, config.steps) == (levels, steps)
