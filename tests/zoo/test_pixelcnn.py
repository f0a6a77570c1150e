"""PixelCNN++: its mixture against scipy, causality by gradients, an exact mass, sampling with cached activations."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import logistic

from genbench.contract import Batch, DataSpec
from genbench.space import seeded, to_pixels, to_unit_range
from zoo import pixelcnn
from zoo.pixelcnn import (
    Doubling,
    Mixture,
    PixelCNN,
    PixelCNNConfig,
    Place,
    Region,
    ShiftedConv,
    dependent_means,
    draw_pixels,
    log_logistic,
    log_pixels,
    mixture,
    open_uniform,
)

TINY = PixelCNNConfig(width=6, scales=2, blocks=1, components=3, dropout=0.0)
COLOUR = DataSpec(3, 4, 5, 17)


def model(data=COLOUR, config=TINY, size=0.3):
    """A small model with random weights throughout."""
    made, gen = PixelCNN(data, config).eval(), seeded(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=gen))
    return made


def random_mixture(n, channels, components=3, seed=0):
    outputs = components * (1 + channels) ** 2
    parameters = torch.randn(n, outputs, 1, 1, generator=seeded(seed), dtype=torch.float64)
    return mixture(parameters, components, channels)


# ---- the mixture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "log_scale"), [(0.1, -2.0), (-1.3, -0.5), (0.999, -7.0)])
def test_masses_of_the_levels_are_scipys_and_sum_to_one(levels, mean, log_scale):
    x = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    arguments = (torch.tensor(v, dtype=torch.float64) for v in (mean, log_scale))
    found = log_logistic(x, *arguments, levels).exp()
    edges = [-math.inf, *((x[:-1] + x[1:]) / 2).tolist(), math.inf]
    law = logistic(mean, math.exp(log_scale))
    expected = torch.tensor([law.cdf(b) - law.cdf(a) for a, b in itertools.pairwise(edges)])
    assert torch.allclose(found, expected, atol=1e-12)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)


def test_masses_keep_their_digits_in_both_tails():
    """Half a unit away at a scale of e^-7, more than 500 scales: the mass is that of the nearer edge."""
    for side in (-1.0, 1.0):
        x, mean, log_scale = torch.tensor([-side * 0.125, side * 0.4, -7.0], dtype=torch.float64)
        found = log_logistic(x, mean, log_scale, 17)
        assert float(found) == pytest.approx(-(0.525 - 1 / 16) * math.exp(7), rel=1e-9)


def test_gradients_are_finite_at_both_ends_of_the_levels():
    for x, scale in itertools.product((-1.0, 1.0, 0.0), (-7.0, 0.0, 5.0)):
        mean, log_scale = torch.tensor([0.3], requires_grad=True), torch.tensor([scale], requires_grad=True)
        log_logistic(torch.tensor([x]), mean, log_scale, 17).sum().backward()
        assert torch.isfinite(mean.grad).all()
        assert torch.isfinite(log_scale.grad).all()


def test_mean_of_a_channel_depends_on_the_channels_before_it_alone():
    """Eq. 3 by hand: mu_g + alpha r, mu_b + beta r + gamma g."""
    m, x = random_mixture(2, 3), torch.randn(2, 3, 1, 1, generator=seeded(1), dtype=torch.float64)
    found = dependent_means(m, x)
    for n, k in itertools.product(range(2), range(3)):
        c = m.coefficients[n, k, :, :, 0, 0]
        red, green, _ = x[n, :, 0, 0]
        expected = m.means[n, k, :, 0, 0] + torch.stack([0 * red, c[1, 0] * red, c[2, 0] * red + c[2, 1] * green])
        assert torch.allclose(found[n, k, :, 0, 0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_masses_of_all_colours_sum_to_one(channels):
    values = to_unit_range(torch.arange(4), 4).double()
    every = torch.cartesian_prod(*[values] * channels).view(-1, channels, 1, 1)
    one = random_mixture(1, channels)
    m = Mixture(*(v.expand(len(every), *v.shape[1:]) for v in one))
    assert float(log_pixels(m, every, 4).exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("channels", [1, 2])
def test_drawn_colours_are_as_frequent_as_their_masses(channels):
    n, values = 200_000, to_unit_range(torch.arange(3), 3).double()
    one = random_mixture(1, channels)
    m = Mixture(*(v.expand(n, *v.shape[1:]) for v in one))
    gen = seeded(3)
    drawn = draw_pixels(m, open_uniform((n, 3, 1, 1), gen).double(), open_uniform((n, channels, 1, 1), gen).double(), 3)
    every = torch.cartesian_prod(*[values] * channels).view(-1, channels, 1, 1)
    masses = log_pixels(Mixture(*(v.expand(len(every), *v.shape[1:]) for v in one)), every, 3).exp().flatten()
    shares = torch.stack([(drawn == colour).flatten(1).all(1).double().mean() for colour in every])
    assert float(shares.sum()) == 1
    assert ((shares - masses).abs() < 4.5 * (masses * (1 - masses) / n).sqrt()).all()


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scales", "blocks"), [(1, 2), (2, 1), (3, 2)])
def test_each_pixel_sees_all_pixels_before_it_and_no_others(scales, blocks):
    """The gradient of every pixel's parameters, on an image that is not square."""
    made = model(config=replace(TINY, scales=scales, blocks=blocks), size=0.5)
    x = torch.randn(1, *COLOUR.shape, generator=seeded(1), requires_grad=True)
    outputs = made.network(x)
    seen = torch.zeros(20, 20)
    for k in range(20):
        (gradient,) = torch.autograd.grad(outputs.flatten(2)[0, :, k].square().sum(), x, retain_graph=True)
        seen[k] = gradient[0].abs().sum(0).flatten()
    assert torch.equal(seen > 0, torch.ones(20, 20).tril(-1) > 0)  # the network is deeper than the image is wide


def test_lower_resolutions_see_farther():
    """The last pixel of 20x20: with one block in each half it sees 7 rows up at one resolution, and all at three."""
    data, farthest = DataSpec(1, 20, 20), {}
    for scales in (1, 3):
        x = torch.zeros(1, *data.shape, requires_grad=True)
        made = model(data, replace(TINY, scales=scales))
        made.network(x)[0, :, -1, -1].square().sum().backward()
        farthest[scales] = 19 - int(x.grad[0, 0].abs().sum(1).nonzero()[0])
    assert farthest == {1: 7, 3: 19}


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3)])
@pytest.mark.parametrize("kernel", [(2, 3), (2, 2)])
def test_halving_sees_the_row_above_and_the_column_to_the_left_of_every_second_position(height, width, kernel):
    conv = ShiftedConv(2, 3, kernel, stride=2).double()
    place = Place(Region(0, height, 0, width), (height, width)).halved
    x = torch.randn(1, 2, height, width, generator=seeded(0), dtype=torch.float64)
    found = conv.at(place.region, conv.with_margins(x, place))[0]
    assert found.shape == (3, *place.sides) == (3, (height + 1) // 2, (width + 1) // 2)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))[0]  # position (i, j) is at (i + 1, j + 1)
    for i, j in itertools.product(*map(range, place.sides)):
        patch = padded[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + kernel[1]]
        expected = (conv.conv.weight * patch).sum((1, 2, 3)) + conv.conv.bias
        assert torch.allclose(found[:, i, j], expected)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3)])
@pytest.mark.parametrize("kernel", [(2, 3), (2, 2)])
def test_doubling_takes_rows_from_half_their_number(height, width, kernel):
    """Columns too; with three columns, column 2 j + 1 also comes from j + 1."""
    double = Doubling(2, kernel).double()
    x = torch.randn(1, 2, (height + 1) // 2, (width + 1) // 2, generator=seeded(0), dtype=torch.float64)
    found = double(x, Place(Region(0, height, 0, width), (height, width)))[0]
    weight, cut = double.conv.weight, kernel[1] - 2
    for i, j in itertools.product(range(height), range(width)):
        expected = double.conv.bias.clone()
        for k in range(x.shape[3]):
            column = j + cut - 2 * k
            if 0 <= column < kernel[1]:
                expected = expected + x[0, :, i // 2, k] @ weight[:, :, i % 2, column]
        assert torch.allclose(found[:, i, j], expected)


def test_first_pixel_knows_nothing_and_margins_differ_from_black():
    made = model()
    x = torch.zeros(2, *COLOUR.shape)
    x[1] = torch.randn(COLOUR.shape, generator=seeded(0))
    outputs = made.network(x)
    assert torch.equal(outputs[0, :, 0, 0], outputs[1, :, 0, 0])
    assert not torch.allclose(outputs[0, :, 0, 0], outputs[0, :, 3, 4])


@pytest.mark.parametrize("data", [DataSpec(1, 2, 2, 3), DataSpec(2, 1, 3, 2), DataSpec(3, 1, 2, 3)])
def test_masses_of_all_images_sum_to_one(data):
    every = torch.cartesian_prod(*[torch.arange(data.levels)] * data.dims).view(-1, *data.shape).to(torch.uint8)
    found = model(data).log_prob(every)
    assert (found.dtype, found.shape) == (torch.float64, (data.levels**data.dims,))
    assert float(found.detach().exp().sum()) == pytest.approx(1, abs=1e-5)  # the network's float32


def test_masses_of_a_sharp_pixel_sum_to_one_in_float64():
    made, every = model(DataSpec(1, 1, 1, 256)), torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    sharp = Mixture(torch.zeros(1, 1, 1, 1), *(torch.full([1] * n, v) for n, v in ((5, 0.3), (5, -6.0), (6, 0.0))))
    made.mixture = lambda x, gen=None: sharp
    assert float(made.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-10)


def test_loss_is_bits_per_dim_of_the_same_mass():
    made = model()
    pixels = torch.randint(0, 17, (5, *COLOUR.shape), generator=seeded(2)).to(torch.uint8)
    loss = made.loss(Batch(to_unit_range(pixels, 17), pixels), "all", 0, seeded(0))
    expected = -made.log_prob(pixels).mean() / (60 * math.log(2))
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


# ---- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("data", [COLOUR, DataSpec(1, 8, 12, 17), DataSpec(2, 7, 3, 5)])
@torch.no_grad()
def test_cached_sampling_is_sampling_with_a_whole_pass_for_each_pixel(data, scales):
    made = model(data, replace(TINY, scales=scales))
    gen = seeded(5)
    choice = open_uniform((3, 3, data.height, data.width), gen)
    uniform = open_uniform((3, *data.shape), gen)
    x = torch.zeros(3, *data.shape)
    for i, j in itertools.product(range(data.height), range(data.width)):
        m = Mixture(*(v[..., i : i + 1, j : j + 1] for v in made.mixture(x)))
        x[:, :, i, j] = draw_pixels(
            m, choice[:, :, i : i + 1, j : j + 1], uniform[:, :, i : i + 1, j : j + 1], data.levels
        )[:, :, 0, 0]
    assert torch.equal(made.sample(3, seeded(5)), x)


@pytest.mark.parametrize("scales", [1, 3])
@torch.no_grad()
def test_a_sample_costs_as_many_multiplications_as_one_pass(monkeypatch, scales):
    """Outputs of all convolutions, weighted by the size of their kernels."""
    made, work = model(DataSpec(1, 8, 8, 17), replace(TINY, scales=scales)), []
    plain, transposed = pixelcnn.convolved, torch.nn.ConvTranspose2d.forward

    def counted(conv, x):
        y = plain(conv, x)
        work.append(y[0, 0].numel() * conv.weight.numel())
        return y

    def counted_transposed(conv, x):
        work.append(x[0, 0].numel() * conv.weight.numel())
        return transposed(conv, x)

    monkeypatch.setattr(pixelcnn, "convolved", counted)
    monkeypatch.setattr(torch.nn.ConvTranspose2d, "forward", counted_transposed)
    made.network(torch.zeros(1, 1, 8, 8))
    one_pass, _ = sum(work), work.clear()
    made.sample(1, seeded(0))
    assert sum(work) == one_pass


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3)])
def test_a_convolution_at_one_place_is_a_product(kernel):
    conv = torch.nn.Conv2d(3, 4, kernel).double()
    x = torch.randn(5, 3, *kernel, generator=seeded(0), dtype=torch.float64)
    assert torch.allclose(pixelcnn.convolved(conv, x), conv(x), rtol=0, atol=1e-13)


@torch.no_grad()
def test_samples_are_as_frequent_as_their_masses():
    data, n = DataSpec(1, 1, 2, 3), 100_000
    made = model(data)
    pixels = to_pixels(made.sample(n, seeded(0)), 3).flatten(1)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(torch.uint8)
    masses = made.log_prob(every.view(-1, 1, 1, 2)).exp()
    shares = torch.stack([(pixels == image).all(1).double().mean() for image in every])
    assert ((shares - masses).abs() < 4.5 * (masses * (1 - masses) / n).sqrt()).all()


# ---- the model ------------------------------------------------------------------------------------------------------


def test_dropout_only_in_training_mode():
    made = PixelCNN(COLOUR, replace(TINY, dropout=0.5))
    x = torch.zeros(4, *COLOUR.shape)
    resting = [float(made.eval().loss(Batch(x, x), "all", 0, seeded(s)).total.detach()) for s in (0, 1)]
    assert resting[0] == resting[1]
    assert resting[0] != float(made.train().loss(Batch(x, x), "all", 0, seeded(0)).total.detach())


def test_at_32_pixels_sizes_are_the_released_codes():
    config, recipe = PixelCNN.preset(DataSpec(3, 32, 32)), PixelCNN.recipe(DataSpec(3, 32, 32))
    assert config == PixelCNNConfig(width=160, scales=3, blocks=5, components=10, dropout=0.5)
    assert (recipe.lr, recipe.batch, recipe.ema) == (1e-3, 128, 0.9995)
