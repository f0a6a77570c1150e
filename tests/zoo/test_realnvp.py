"""RealNVP against what is known: autograd's Jacobians, integrals, closed-form densities, entropies."""

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.space import bits_per_dim, seeded, to_pixels, to_unit_range
from zoo.realnvp import (
    AffineCoupling,
    BatchNorm,
    Flow,
    Logit,
    RealNVP,
    RealNVPConfig,
    RealNVPSampler,
    ResidualNetwork,
    Squeeze,
    Standardise,
    channel_mask,
    checkerboard_mask,
    through,
)

TINY = RealNVPConfig(channels=6, blocks=1)
SHAPE = (2, 4, 4)


@pytest.fixture(autouse=True)
def _same_initial_weights():
    torch.manual_seed(0)


def shaken(module, seed=0, size=0.2):
    """The module in eval mode, its weights moved by noise and its running statistics away from 0 and 1."""
    gen = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=gen, dtype=parameter.dtype))
        for part in module.modules():
            if isinstance(part, BatchNorm):
                part.mean.normal_(0, 0.3, generator=gen)
                part.var.uniform_(0.5, 2, generator=gen)
    return module.eval()


def coupling(mask):
    return AffineCoupling(mask(SHAPE, 0), ResidualNetwork(SHAPE, TINY), SHAPE[0])


def random_pixels(n, data, seed=0):
    return torch.randint(0, data.levels, (n, *data.shape), generator=seeded(seed)).to(torch.uint8)


def batch_of(pixels, levels):
    return Batch(to_unit_range(pixels, levels), pixels)


# --- every layer alone, then the stack --------------------------------------------------------------------------------

LAYERS = {
    "logit": lambda: Logit(0.9),
    "standardise": lambda: Standardise(SHAPE),
    "batch norm": lambda: BatchNorm(SHAPE),
    "checkerboard coupling": lambda: coupling(checkerboard_mask),
    "channel coupling": lambda: coupling(channel_mask),
    "squeeze": Squeeze,
    "flow": lambda: Flow(SHAPE, TINY),
    "flow of three scales": lambda: Flow(SHAPE, RealNVPConfig(scales=3, channels=6, blocks=1, batch_norm=False)),
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
def test_inverse_undoes_forward_and_its_log_det(make):
    x = torch.rand(3, *SHAPE, generator=seeded(1), dtype=torch.float64)
    for dtype, tolerance in [(torch.float64, 1e-10), (torch.float32, 1e-5)]:
        layer = shaken(make().to(dtype), size=0.1)
        z, forward = layer(x.to(dtype))
        back, inverse = layer.inverse(z)
        assert (back - x).abs().max() < tolerance
        assert torch.allclose(inverse, -forward, atol=50 * tolerance)


def test_batch_norm_in_training_scales_by_the_batchs_own_statistics():
    layer = BatchNorm((1, 2, 2)).train()
    x = 3 + 2 * torch.randn(500, 1, 2, 2, generator=seeded(0))
    z, log_det = layer(x)
    assert torch.allclose(z.mean(0), torch.zeros(1, 2, 2), atol=1e-5)
    assert torch.allclose(log_det, -0.5 * (x.var(0, unbiased=False) + 1e-5).log().sum())
    assert torch.allclose(layer.mean, 0.1 * x.mean(0, keepdim=True))


def test_squeeze_is_local_and_takes_diagonals_apart():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    z, _ = Squeeze()(x)
    assert z.shape == (1, 8, 2, 2)
    for i, j in product(range(2), range(2)):
        block = x[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert sorted(z[0, :, i, j].tolist()) == sorted(block.flatten().tolist())
        assert sorted(z[0, :4, i, j].tolist()) == sorted(torch.cat([block[:, 0, 0], block[:, 1, 1]]).tolist())


@pytest.mark.parametrize("mask", [checkerboard_mask, channel_mask])
def test_masks_alternate_halves(mask):
    ones = torch.ones(1, 8, 4, 4)
    even, odd = mask((8, 4, 4), 0) * ones, mask((8, 4, 4), 1) * ones
    assert torch.equal(even + odd, ones)
    assert even.sum() == 64
    assert torch.equal(mask((8, 4, 4), 2) * ones, even)


@pytest.mark.parametrize("mask", [checkerboard_mask, channel_mask])
def test_coupling_keeps_its_half_and_counts_only_the_other(mask):
    layer = coupling(mask)
    with torch.no_grad():
        layer.network.last.bias.fill_(30.0)  # tanh is 1, t is 30
        layer.scale.fill_(0.7)
    x = torch.randn(1, *SHAPE, generator=seeded(0))
    z, log_det = layer(x)
    kept = (layer.mask * torch.ones(1, *SHAPE)).bool()
    assert torch.equal(z[kept], x[kept])
    assert torch.allclose(z[~kept], x[~kept] * math.exp(0.7) + 30)
    assert log_det.item() == pytest.approx(0.7 * 16, rel=1e-6)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_every_dimension_is_transformed(scales):
    flow = shaken(Flow(SHAPE, RealNVPConfig(scales=scales, channels=6, blocks=1, batch_norm=False)).double())
    x = torch.rand(32, generator=seeded(1), dtype=torch.float64)

    def couplings_only(v):
        h, latents = v.view(1, *SHAPE), []
        for scale, shape in zip(flow.scales, flow.shapes, strict=True):
            h, _ = through(scale, h)
            latents.append(h[:, : shape[0]].flatten(1))
            h = h[:, shape[0] :]
        return torch.cat(latents, 1).flatten()

    matrix = jacobian(couplings_only, x)
    for row in matrix:
        assert not ((row == 1).sum() == 1 and (row == 0).sum() == 31)


@pytest.mark.parametrize("data", [DataSpec(1, 8, 8, 17), DataSpec(1, 28, 28), DataSpec(3, 32, 32)], ids=str)
def test_latents_of_all_scales_have_the_images_dimensions(data):
    model = RealNVP(data)
    assert sum(math.prod(shape) for shape in model.flow.shapes) == data.dims
    pixels = random_pixels(2, data)
    model.prepare(batch_of(random_pixels(8, data, seed=1), data.levels), seeded(0))
    loss = model.loss(batch_of(pixels, data.levels), "all", 0, seeded(1)).total
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.sample(2, seeded(2)).shape == (2, *data.shape)


# --- densities --------------------------------------------------------------------------------------------------------


def test_logit_of_a_normal_integrates_to_one():
    y = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).view(-1, 1, 1, 1)
    z, log_det = Logit(1.0)(y)
    log_p = -0.5 * z.flatten() ** 2 - 0.5 * math.log(2 * math.pi) + log_det
    assert log_p.exp().mean().item() == pytest.approx(1, abs=1e-6)


def flow_density(flow, y):
    z, log_det = flow(y)
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(1) + log_det


def grid(low, high, count):
    """Centres of count x count cells of a square, as images of two pixels, and the area of a cell."""
    centres = low + (torch.arange(count, dtype=torch.float64) + 0.5) * ((high - low) / count)
    return torch.cartesian_prod(centres, centres).view(-1, 1, 1, 2), ((high - low) / count) ** 2


def two_pixel_model(levels=3):
    return shaken(RealNVP(DataSpec(1, 1, 2, levels), RealNVPConfig(scales=1, channels=6, blocks=1)), size=0.3)


@torch.no_grad()
def test_density_of_two_pixels_integrates_to_one():
    model = two_pixel_model().double()
    rim = 0.05 / 0.9  # the constraint lets y reach this far beyond [0, 1]
    y, area = grid(-rim, 1 + rim, 201)
    assert (flow_density(model.flow, y).exp().sum() * area).item() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_density_of_couplings_integrates_to_one():
    model = two_pixel_model().double()
    x, area = grid(-10, 10, 201)
    z, log_det = through(model.flow.scales[0], x)
    log_p = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1) + log_det
    assert (log_p.exp().sum() * area).item() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_masses_of_all_images_sum_to_the_mass_inside_the_cube():
    model = two_pixel_model()
    pixels = torch.tensor(list(product(range(3), repeat=2)), dtype=torch.uint8).view(9, 1, 1, 2)
    draws = model.log_prob(pixels.repeat(1000, 1, 1, 1), seeded(0)).exp().view(1000, 9).sum(1)
    y, area = grid(0, 1, 200)
    inside = (flow_density(model.double().flow, y).exp().sum() * area).item()
    assert 0.1 < inside < 1
    assert draws.mean().item() == pytest.approx(inside, abs=4 * draws.std().item() / math.sqrt(1000))


@torch.no_grad()
def test_untrained_flow_is_a_gaussian_in_standardised_logit_space():
    data = DataSpec(1, 8, 8, 17)
    model = RealNVP(data)
    pixels = random_pixels(64, data)
    model.prepare(batch_of(pixels, 17), seeded(0))
    y = (pixels.double() + torch.rand(pixels.shape, generator=seeded(3))) / 17
    logit = torch.special.logit(0.05 + 0.9 * y)
    log_slope = 0.9 / ((0.05 + 0.9 * y) * (0.95 - 0.9 * y))
    normal = torch.distributions.Normal(model.flow.standardise.shift, model.flow.standardise.log_scale.exp())
    expected = (normal.log_prob(logit) + log_slope.log()).flatten(1).sum(1) - 64 * math.log(17)
    assert torch.allclose(model.log_prob(pixels, seeded(3)).double(), expected, atol=1e-3)
    z = model.flow((pixels + 0.5) / 17)[0]
    assert z.mean().abs() < 0.1
    assert z.std().item() == pytest.approx(1, abs=0.1)


class InverseNormal(nn.Module):
    """z = Phi^-1(F(y)) with F the piecewise linear distribution function of i.i.d. pixels with pmf P."""

    def __init__(self, pmf):
        super().__init__()
        self.pmf = torch.tensor(pmf, dtype=torch.float64)

    def forward(self, y):
        cell = (y.double() * len(self.pmf)).floor().long()
        below = torch.cat([torch.zeros(1, dtype=torch.float64), self.pmf.cumsum(0)[:-1]])[cell]
        u = below + self.pmf[cell] * (y.double() * len(self.pmf) - cell)
        z = torch.special.ndtri(u)
        slope = self.pmf[cell].log() + math.log(len(self.pmf)) + 0.5 * z**2 + 0.5 * math.log(2 * math.pi)
        return z.flatten(1), slope.flatten(1).sum(1)


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_uniform_flow_has_log2_levels_bits(levels):
    data = DataSpec(1, 8, 8, levels)
    model = RealNVP(data, TINY)
    model.flow = InverseNormal([1 / levels] * levels)
    bits = bits_per_dim(model.log_prob(random_pixels(5, data), seeded(0)), data.dims)
    assert torch.allclose(bits, torch.full((5,), math.log2(levels), dtype=torch.float64), atol=1e-6)


def test_bits_of_the_true_distribution_are_its_entropy():
    model = RealNVP(DataSpec(1, 4, 4, 4), TINY)
    model.flow = InverseNormal([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    pixels = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 2, dtype=torch.uint8).view(1, 1, 4, 4)
    assert bits_per_dim(model.log_prob(pixels, seeded(0)), 16).item() == pytest.approx(1.75, abs=1e-6)


class NormalPixel(nn.Module):
    """z of y ~ N(0.5, 0.2^2)."""

    def forward(self, y):
        return ((y - 0.5) / 0.2).flatten(1), y.new_full((len(y),), -math.log(0.2))


@pytest.mark.parametrize(("level", "bound", "log_mass"), [(0, -2.518712, -2.308200), (1, -0.956212, -0.930516)])
def test_uniform_dequantisation_averages_the_log_density_which_is_below_the_log_mass(level, bound, log_mass):
    """z = (level + u - 2) / 0.8, u ~ U[0, 1): the mean of z^2 is 7/3 / 0.64 for level 0, 1/3 / 0.64 for level 1."""
    model = RealNVP(DataSpec(1, 1, 1, 4), RealNVPConfig(scales=1, channels=6, blocks=1))
    model.flow = NormalPixel()
    draws = model.log_prob(torch.full((20_000, 1, 1, 1), level, dtype=torch.uint8), seeded(0))
    error = draws.std().item() / math.sqrt(20_000)
    assert draws.mean().item() == pytest.approx(bound, abs=4 * error)
    assert log_mass - draws.mean().item() > 4 * error


# --- the model --------------------------------------------------------------------------------------------------------


def test_likelihood_in_eval_mode_does_not_depend_on_the_batch():
    data = DataSpec(1, 8, 8, 17)
    model = RealNVP(data, RealNVPConfig(channels=6, blocks=1, batch_norm=True)).train()
    for step in range(3):
        model.loss(batch_of(random_pixels(16, data, step), 17), "all", step, seeded(step))
    model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pixels = random_pixels(6, data, seed=9)
    alone, together = model.log_prob(pixels[:1], seeded(1)), model.log_prob(pixels, seeded(1))
    assert alone.item() == pytest.approx(together[0].item(), rel=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_dequantisation_noise_is_fresh_and_defaults_to_seed_0():
    data = DataSpec(1, 8, 8, 17)
    model, pixels = RealNVP(data, TINY).eval(), random_pixels(3, data)
    assert not torch.equal(model.log_prob(pixels, seeded(1)), model.log_prob(pixels, seeded(2)))
    assert torch.equal(model.log_prob(pixels), model.log_prob(pixels, seeded(0)))


def test_loss_is_the_batchs_mean_in_bits():
    data = DataSpec(1, 8, 8, 17)
    model, pixels = RealNVP(data, TINY).eval(), random_pixels(7, data)
    loss = model.loss(batch_of(pixels, 17), "all", 0, seeded(1))
    assert loss.total.item() == pytest.approx(
        bits_per_dim(model.log_prob(pixels, seeded(1)), 64).mean().item(), rel=1e-5
    )


@torch.no_grad()
def test_decode_gives_every_grey_level_back():
    data = DataSpec(1, 8, 8, 17)
    model = shaken(RealNVP(data, TINY), size=0.1)
    pixels = random_pixels(20, data)
    x = to_unit_range(pixels, 17)
    back = model.decode(model.encode(x))
    assert (back - x).abs().max() < 1e-4
    assert torch.equal(to_pixels(back, 17), pixels)


@torch.no_grad()
def test_nearest_grey_level_of_decode_is_the_cell_of_y():
    data = DataSpec(1, 8, 8, 17)
    model = shaken(RealNVP(data, TINY), size=0.1)
    y = torch.rand(50, 1, 8, 8, generator=seeded(0)).clamp(1e-4, 1 - 1e-4)
    z, _ = model.flow(y)
    drawn, inside = to_pixels(model.decode(z), 17).float(), (y * 17).floor()
    assert (drawn != inside).float().mean() < 1e-3  # float32 on a cell's edge


def test_temperature_scales_the_latents():
    model = shaken(RealNVP(DataSpec(1, 8, 8, 17), TINY), size=0.1)
    model.sampler = RealNVPSampler(temperature=0.5)
    with torch.no_grad():
        assert torch.equal(model.sample(3, seeded(1)), model.decode(0.5 * model.noise(3, seeded(1))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RealNVP(DataSpec(1, 30, 28), RealNVPConfig(scales=3)),
            "RealNVP: config.scales: found 3, allowed: at most 2 for 30x28 images",
        ),
        (
            lambda: RealNVP(DataSpec(1, 8, 8), RealNVPConfig(constraint=1.0)),
            "RealNVP: config.constraint: found 1.0 (float), allowed: a number, above 0, below 1",
        ),
    ],
)
def test_bad_options_name_what_is_allowed(make, message):
    with pytest.raises(ModelError) as error:
        make()
    assert str(error.value) == message
