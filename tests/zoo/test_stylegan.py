"""StyleGAN's layers, regularisers and averages against closed forms, its nets against published counts."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genbench.check import check_model
from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training
from zoo.gan import GENERATOR_LOSSES, cross_entropy
from zoo.stylegan import (
    Discriminator,
    Mapping,
    ModulatedConv,
    StyleGAN,
    StyleGANConfig,
    StyleGANSampler,
    Synthesis,
    maps,
    minibatch_deviation,
    path_lengths,
    r1_penalty,
)
from zoo.stylegan_layers import EqualConv, EqualLinear, activate, adain, blur, conv, modulated_conv, upsample

generator_loss = GENERATOR_LOSSES["non-saturating"]

SMALL = DataSpec(1, 8, 8, 17, 10)
TINY = {"latent": 8, "mapping_layers": 2, "most": 6, "group": 4}
GENERATORS = ("modulated", "adain")


def make(data=SMALL, seed=0, sampler=None, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StyleGAN(data, StyleGANConfig(**{**TINY, **config}), sampler)


def make_batch(data=SMALL, n=8, seed=1):
    pixels = torch.randint(0, data.levels, (n, *data.shape), generator=seeded(seed)).to(torch.uint8)
    return Batch(pixels / (data.levels - 1) * 2 - 1, pixels)


@pytest.fixture(autouse=True)
def fresh_weights():
    """Layers are initialised from the global generator: seeded for each test, and restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


# ---- published sizes --------------------------------------------------------------------------------------------


def test_parameter_count_of_the_first_papers_generator_at_1024():
    data, config = DataSpec(3, 1024, 1024), StyleGANConfig(generator="adain", channels=16_384)
    synthesis = Synthesis(data, config)
    assert count(Mapping(config), synthesis) == 26_219_627
    assert synthesis.styles == len(synthesis.layers) == 18


def test_parameter_counts_of_configuration_f_at_1024():
    data, config = DataSpec(3, 1024, 1024), StyleGAN.preset(DataSpec(3, 1024, 1024))
    synthesis = Synthesis(data, config)
    assert count(Mapping(config), synthesis) == 30_370_060
    assert count(Discriminator(data, config)) == 29_012_513
    assert synthesis.styles == 18
    assert tuple(synthesis.constant.shape) == (1, 512, 4, 4)


@pytest.mark.parametrize(
    ("side", "expected"), [(8, [4, 8]), (28, [7, 14, 28]), (32, [4, 8, 16, 32]), (9, [9]), (6, [6]), (4, [4])]
)
def test_maps_halve_down_to_four_to_seven_pixels(side, expected):
    assert [size for _, *size in maps(DataSpec(1, side, side), StyleGANConfig())] == [[n, n] for n in expected]


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 9, 6), (2, 12, 16)])
def test_images_of_any_size(shape, generator):
    data = DataSpec(*shape)
    model = make(data, generator=generator).eval()
    x = model.sample(2, seeded(0))
    assert x.shape == (2, *shape)
    assert model.discriminator(x).shape == (2,)


@pytest.mark.parametrize("side", [8, 28])
def test_presets_make_images_of_the_datas_shape(side):
    data = DataSpec(1, side, side)
    assert StyleGAN(data).eval().sample(2, seeded(0)).shape == (2, 1, side, side)


def test_at_32_pixels_the_authors_settings_for_cifar_10():
    data = DataSpec(3, 32, 32)
    config, recipe = StyleGAN.preset(data), StyleGAN.recipe(data)
    assert [features for features, *_ in maps(data, config)] == [512] * 4
    assert (config.mapping_layers, config.gamma, config.group) == (2, 0.01, 32)
    assert (config.mixing, config.path_weight, config.shortcuts) == (0.0, 0.0, False)
    assert (recipe.lr, recipe.betas, recipe.batch) == (2.5e-3, (0.0, 0.99), 64)
    assert recipe.ema == pytest.approx(0.99991128, abs=1e-8)  # half of it forgotten in 500,000 images


@torch.no_grad()
def test_a_discriminator_without_shortcuts_is_its_convolutions_alone():
    """And as many parameters less as its shortcuts have: 3 of 512 x 512 at 32 pixels."""
    data = DataSpec(3, 32, 32)
    plain, residual = (Discriminator(data, replace(StyleGAN.preset(data), shortcuts=s)) for s in (False, True))
    assert count(residual) - count(plain) == 3 * 512 * 512
    small = Discriminator(DataSpec(1, 8, 8), replace(StyleGAN.preset(DataSpec(1, 8, 8)), shortcuts=False))
    block = small.blocks[0]
    x = torch.randn(2, block.first.weight.shape[1], 8, 8)
    assert torch.equal(block(x), activate(block.second(activate(block.first(x)))))


def test_configuration_f_and_its_recipe():
    data = DataSpec(3, 1024, 1024)
    config, recipe = StyleGAN.preset(data), StyleGAN.recipe(data)
    assert (config.gamma, config.r1_interval, config.path_weight, config.path_interval) == (10.0, 16, 2.0, 4)
    assert (config.mixing, config.mapping_layers, config.mapping_rate, config.group) == (0.9, 8, 0.01, 4)
    assert (recipe.lr, recipe.betas, recipe.batch, recipe.images) == (2e-3, (0.0, 0.99), 32, 25_000_000)
    assert recipe.ema == pytest.approx(0.99778439, abs=1e-8)  # half of it forgotten in 10,000 images


def test_another_generator_is_refused():
    with pytest.raises(ModelError, match=r"StyleGAN: config.generator: found 'alias-free' .*allowed: modulated, adain"):
        make(generator="alias-free")


@pytest.mark.parametrize("changes", [{}, {"generator": "adain"}, {"mixing": 0.0, "path_weight": 0.0}])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 6)])
def test_conformance(shape, changes):
    results = check_model(StyleGAN, DataSpec(*shape, 17, 10), {**TINY, "mixing": 0.9, "path_weight": 2.0, **changes})
    assert [r for r in results if not r.passed] == []


# ---- modulated convolution --------------------------------------------------------------------------------------


def reference_conv(x, weight, style, *, demodulate, way):
    """B's eq. 1-3 word for word: kernels made for each image, each image convolved with its own."""
    outputs = []
    for image, scales in zip(x, style, strict=True):
        kernel = weight * scales[None, :, None, None]  # eq. 1
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # eq. 3
        outputs.append(conv(image[None], kernel, way))
    return torch.cat(outputs)


@pytest.mark.parametrize("way", ["same", "up", "down"])
@pytest.mark.parametrize("demodulate", [True, False])
def test_scaling_inputs_and_outputs_is_scaling_kernels(way, demodulate):
    x, weight, style = normal(3, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(3, 4, seed=2)
    found = modulated_conv(x, weight, style, way, demodulate=demodulate)
    torch.testing.assert_close(found, reference_conv(x, weight, style, demodulate=demodulate, way=way))


def test_one_grouped_convolution_gives_the_same():
    x, weight, style = normal(3, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(3, 4, seed=2)
    kernels = weight * style[:, None, :, None, None]
    kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    grouped = F.conv2d(x.reshape(1, 12, 6, 6), kernels.reshape(15, 4, 3, 3), padding=1, groups=3)
    torch.testing.assert_close(modulated_conv(x, weight, style), grouped.reshape(3, 5, 6, 6))


def test_demodulation_forgets_the_size_of_a_style():
    x, weight, style = normal(2, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(2, 4, seed=2)
    once = modulated_conv(x, weight, style)
    torch.testing.assert_close(modulated_conv(x, weight, 7 * style), once, rtol=1e-6, atol=1e-8)
    plain = modulated_conv(x, weight, style, demodulate=False)
    torch.testing.assert_close(modulated_conv(x, weight, 7 * style, demodulate=False), 7 * plain)


def test_demodulated_features_have_unit_size():
    x, weight, style = normal(64, 32, 8, 8), normal(48, 32, 3, 3, seed=1), normal(64, 32, seed=2)
    inner = modulated_conv(x, weight, style)[:, :, 1:-1, 1:-1]
    assert float(inner.std()) == pytest.approx(1.0, abs=0.02)


def test_only_images_are_not_demodulated():
    model = make()
    assert all(layer.conv.demodulate for layer in model.synthesis.layers)
    assert not any(image.demodulate for image in model.synthesis.images)
    image, x, w = model.synthesis.images[0], normal(2, 6, 4, 4, dtype=torch.float32), torch.zeros(2, 8)
    once = image(x, w)
    with torch.no_grad():
        image.style.bias.mul_(3)
    torch.testing.assert_close(image(x, w), 3 * once)


def test_styles_start_around_1():
    layer = ModulatedConv(4, 5, 3, latent=8)
    torch.testing.assert_close(layer.style(torch.zeros(1, 8)), torch.ones(1, 4))


# ---- AdaIN ------------------------------------------------------------------------------------------------------


def test_adain_sets_the_moments_of_every_map():
    x, scale, shift = 5 + 3 * normal(2, 4, 6, 6), normal(2, 4, seed=1), normal(2, 4, seed=2)
    y = adain(x, scale, shift)
    torch.testing.assert_close(y.mean((2, 3)), shift)
    torch.testing.assert_close(y.std((2, 3), unbiased=False), scale.abs())


def test_adain_is_instance_norm_with_the_styles_scale_and_shift():
    x, scale, shift = normal(1, 4, 6, 6), normal(1, 4, seed=1), normal(1, 4, seed=2)
    reference = F.instance_norm(x, weight=scale[0], bias=shift[0], eps=1e-8)
    torch.testing.assert_close(adain(x, scale, shift), reference)


# ---- equalised learning rate, mapping ---------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_weights_are_stored_large_and_used_small(rate):
    layer = EqualLinear(400, 300, rate)
    assert float(layer.weight.detach().std()) * rate == pytest.approx(1.0, abs=0.02)
    x = normal(500, 400, seed=3, dtype=torch.float32)
    assert float(layer(x).detach().std()) == pytest.approx(1.0, abs=0.02)


def test_a_step_of_adam_moves_the_mapping_a_hundredth_as_far():
    moved = []
    for rate in (1.0, 0.01):
        layer = EqualLinear(16, 16, rate, start=1.0)
        before = layer(torch.zeros(1, 16)).detach()
        torch.testing.assert_close(before, torch.ones(1, 16))
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
        layer(torch.zeros(1, 16)).sum().backward()
        optimiser.step()
        moved.append(float((layer(torch.zeros(1, 16)) - before).abs().mean().detach()))
    assert moved[1] / moved[0] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_keep_the_size_of_features(kernel):
    layer, x = EqualConv(64, 96, kernel), normal(8, 64, 12, 12, seed=3, dtype=torch.float32)
    assert float(layer.weight.detach().std()) == pytest.approx(1.0, abs=0.03)
    assert float(layer(x).detach()[:, :, 1:-1, 1:-1].std()) == pytest.approx(1.0, abs=0.03)


def test_the_mapping_sees_the_direction_of_z_alone():
    mapping, z = Mapping(StyleGANConfig(**TINY)), normal(4, 8, dtype=torch.float32)
    torch.testing.assert_close(mapping(3.7 * z), mapping(z), rtol=1e-5, atol=1e-6)


# ---- sizes of maps ----------------------------------------------------------------------------------------------


def test_filters_keep_a_constant_where_they_see_no_border():
    x = torch.full((1, 2, 8, 8), 3.0, dtype=torch.float64)
    torch.testing.assert_close(upsample(x)[:, :, 1:-1, 1:-1], torch.full((1, 2, 14, 14), 3.0, dtype=torch.float64))
    half = blur(x, stride=2)
    assert half.shape == (1, 2, 4, 4)
    torch.testing.assert_close(half[:, :, 1:-1, 1:-1], x[:, :, :2, :2])


def test_filters_are_bilinear_resampling():
    x = normal(2, 3, 8, 8)
    doubled = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(upsample(x)[:, :, 1:-1, 1:-1], doubled[:, :, 1:-1, 1:-1])
    halved = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(blur(x, stride=2)[:, :, 1:-1, 1:-1], halved[:, :, 1:-1, 1:-1])


def test_doubling_convolutions_spread_zeros_convolve_and_blur():
    x, weight = normal(2, 3, 5, 5), normal(4, 3, 3, 3, seed=1)
    spread = torch.zeros(2, 3, 9, 9, dtype=torch.float64)
    spread[:, :, ::2, ::2] = x
    mirrored = F.conv2d(spread, weight.flip(2, 3), padding=2)
    torch.testing.assert_close(conv(x, weight, "up"), blur(mirrored, gain=4.0))


def test_halving_convolutions_blur_convolve_and_keep_every_other_pixel():
    x, weight = normal(2, 3, 8, 8), normal(4, 3, 3, 3, seed=1)
    torch.testing.assert_close(conv(x, weight, "down"), F.conv2d(blur(x, padding=2), weight)[:, :, ::2, ::2])


# ---- noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", GENERATORS)
def test_noise_has_no_effect_before_training_and_one_of_its_own_after(generator):
    model = make(generator=generator).eval()
    w = model.mixed_styles(3, seeded(0))
    torch.testing.assert_close(model.synthesis(w, seeded(1)), model.synthesis(w, seeded(2)), atol=0, rtol=0)
    with torch.no_grad():
        for layer in model.synthesis.layers:
            layer.strength.fill_(0.3)
    same = w[:1].expand(3, -1, -1)
    first, second = model.synthesis(same, seeded(1)), model.synthesis(same, seeded(2))
    assert (first - second).abs().max() > 0.01
    assert (first[0] - first[1]).abs().max() > 0.01
    fixed = model.synthesis(same, None)
    torch.testing.assert_close(fixed[0], fixed[1])


@pytest.mark.parametrize(("generator", "strengths"), [("modulated", 1), ("adain", 6)])
def test_noise_is_added_as_one_image_for_all_channels(generator, strengths):
    layer = make(generator=generator).synthesis.layers[0]
    assert layer.strength.shape == (strengths, 1, 1)
    assert layer.fixed.shape == (1, 1, 4, 4)


# ---- styles: mixing, average, truncation ------------------------------------------------------------------------


def constant_mapping(model, value):
    with torch.no_grad():
        for layer in model.mapping:
            layer.weight.zero_()
            layer.bias.fill_(value / layer.rate / math.sqrt(2))


def test_running_mean_of_a_constant_style():
    model = make(mixing=0.0, path_weight=0.0).train()
    constant_mapping(model, 2.0)
    for step in range(10):
        model.loss(make_batch(), "generator", step, seeded(step))
    torch.testing.assert_close(model.style_mean, torch.full((8,), 2.0 * (1 - 0.995**10)))


def test_the_running_mean_takes_the_first_styles_alone_and_only_in_training():
    model, seen = make(mixing=1.0), []
    model.mapping.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    model.eval().loss(make_batch(), "generator", 1, seeded(0))
    assert model.style_mean.abs().max() == 0
    model.train().loss(make_batch(), "discriminator", 1, seeded(0))
    assert model.style_mean.abs().max() == 0
    seen.clear()
    model.loss(make_batch(), "generator", 1, seeded(0))
    assert len(seen) == 2
    torch.testing.assert_close(model.style_mean, 0.005 * seen[0].mean(0))


def test_mixed_images_change_styles_once():
    model = make(DataSpec(1, 32, 32), mixing=0.9)
    w = model.mixed_styles(2_000, seeded(0))
    assert w.shape == (2_000, 8, 8)
    changes = (w[:, 1:] != w[:, :-1]).any(2)
    assert changes.sum(1).max() == 1
    assert float(changes.any(1).float().mean()) == pytest.approx(0.9, abs=5 * math.sqrt(0.09 / 2_000))
    assert changes.any(0).all()  # at every layer
    assert (make(mixing=0.0).mixed_styles(50, seeded(0)).std(1) == 0).all()


def spied_styles(model, n=4):
    seen = []
    model.synthesis.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    model.eval().sample(n, seeded(0))
    return seen[0], model.mapping(model.noise(n, seeded(0)))


@pytest.mark.parametrize(
    ("psi", "cutoff", "near"), [(1.0, None, 4), (0.7, None, 4), (0.7, 1, 1), (0.0, 9, 4), (0.5, 0, 0)]
)
def test_truncation_draws_the_first_styles_in_to_the_mean(psi, cutoff, near):
    model = make(sampler=StyleGANSampler(psi, cutoff))
    model.style_mean.copy_(normal(8, seed=5))
    found, w = spied_styles(model)
    inner = model.style_mean + psi * (w - model.style_mean)
    expected = torch.stack([inner] * near + [w] * (4 - near), dim=1)
    torch.testing.assert_close(found, expected)


def test_psi_0_shows_the_mean_image_for_every_z():
    model = make(sampler=StyleGANSampler(psi=0.0)).eval()
    model.style_mean.copy_(normal(8, seed=5))
    x = model.decode(model.noise(5, seeded(0)))
    torch.testing.assert_close(x, x[:1].expand_as(x))


def test_truncation_is_off_unless_asked_for_and_then_said():
    assert make().sampler == StyleGANSampler(psi=1.0, cutoff=None)
    assert make().caveat == ""
    assert make(sampler=StyleGANSampler(psi=0.7)).caveat == "styles truncated with psi 0.7: less varied than the model"


# ---- discriminator ----------------------------------------------------------------------------------------------


def test_identical_images_do_not_deviate():
    x = normal(1, 3, 4, 4).expand(8, -1, -1, -1)
    y = minibatch_deviation(x, 4)
    assert y.shape == (8, 4, 4, 4)
    torch.testing.assert_close(y[:, :3], x)
    assert float(y[:, 3].max()) == pytest.approx(1e-4)  # the root of the 1e-8 inside


def test_deviation_is_of_a_group_and_the_same_for_its_images():
    x = torch.tensor([1.0, 5.0, -1.0, 9.0], dtype=torch.float64)[:, None, None, None].expand(-1, 2, 3, 3)
    y = minibatch_deviation(x, 2)[:, 2, 0, 0]
    torch.testing.assert_close(y, torch.tensor([1.0, 2.0, 1.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(("batch", "group", "used"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (3, 4, 3)])
def test_groups_are_of_the_largest_size_that_divides_the_batch(batch, group, used):
    x = normal(batch, 2, 3, 3)
    found = minibatch_deviation(x, group)[:, 2, 0, 0]
    stride = batch // used
    for i in range(stride):
        members = x[i::stride]
        expected = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[i::stride], expected.expand(used))


def test_real_and_generated_images_are_two_batches_to_the_discriminator():
    model, seen, batch = make(), [], make_batch()
    judged = model.discriminator.register_forward_hook(lambda _module, x, logits: seen.append((x[0], logits)))
    model.loss(batch, "discriminator", 1, seeded(0))
    judged.remove()
    ((both, logits),) = seen
    torch.testing.assert_close(both[: len(batch)], batch.x)
    torch.testing.assert_close(logits, torch.cat([model.discriminator(x) for x in both.chunk(2)]))


# ---- regularisers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
def test_r1_of_a_linear_discriminator(batch):
    weight = normal(2 * 3 * 3).requires_grad_()
    x = normal(batch, 2, 3, 3, seed=1).requires_grad_()
    penalty = r1_penalty(x.flatten(1) @ weight + 4.0, x, gamma=10.0)
    torch.testing.assert_close(penalty, 5.0 * weight.square().sum())
    (slope,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(slope, 10.0 * weight.detach())


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0, 2.5])
def test_players_circle_without_r1_and_settle_with_it(gamma):
    """Dirac-GAN (M, section 2 and 4): D(x) = psi x, all real images are 0, all generated ones theta."""

    def field(position):
        theta, psi = position
        real = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        of_real, of_fake = cross_entropy(psi * real[0], psi * theta[None])
        critic = of_real + of_fake + r1_penalty(psi * real[0], real, gamma)
        (d_psi,) = torch.autograd.grad(critic, psi, create_graph=True)
        (d_theta,) = torch.autograd.grad(generator_loss(psi * theta[None]), theta, create_graph=True)
        return torch.stack([-d_theta, -d_psi])

    start = torch.zeros(2, dtype=torch.float64)
    found = torch.linalg.eigvals(torch.autograd.functional.jacobian(field, start))
    spread = complex(gamma**2 / 4 - 0.25) ** 0.5
    known = torch.tensor([-gamma / 2 - spread, -gamma / 2 + spread])
    for value in known:
        assert (found - value).abs().min() < 1e-6
    assert (found.real < 0).all() == (gamma > 0)


@pytest.mark.parametrize("styles", [1, 3])
def test_path_length_of_a_linear_generator(styles):
    matrix = normal(2 * 4 * 6, 5)
    w = normal(20_000, styles, 5, seed=1).requires_grad_()
    images = (w.sum(1) @ matrix.T).unflatten(1, (2, 4, 6))
    lengths = path_lengths(images, w, seeded(2))
    expected = matrix.square().sum() / 24
    spread = 2 * (matrix.T @ matrix / 24).square().sum()  # variance of y' A A' y
    assert float(lengths.square().mean()) == pytest.approx(float(expected), abs=5 * math.sqrt(spread / 20_000))


def test_path_penalty_is_0_at_the_mean_and_the_mean_is_kept():
    model = make(path_decay=1.0, path_shrink=8, mixing=0.0).train()  # one image, whose length becomes the mean
    loss = model.loss(make_batch(), "generator", 0, seeded(0))
    assert float(loss.terms["path"]) == pytest.approx(0.0, abs=1e-12)
    assert model.path_mean > 0


def test_path_mean_moves_by_a_hundredth():
    model, found = make().train(), []
    for start in (0.0, 1.0):
        model.path_mean.fill_(start)
        model.loss(make_batch(), "generator", 0, seeded(0))
        found.append(float(model.path_mean))
    assert found[1] - found[0] == pytest.approx(0.99, abs=1e-6)
    model.eval().loss(make_batch(), "generator", 0, seeded(3))
    assert float(model.path_mean) == pytest.approx(found[1])


@pytest.mark.parametrize(
    ("player", "term", "every", "factor"), [("discriminator", "r1", 16, 16), ("generator", "path", 4, 8)]
)
def test_regularisers_act_every_so_many_steps_and_that_many_times(player, term, every, factor):
    model, batch = make(gamma=10.0).eval(), make_batch()
    plain = model.loss(batch, player, 1, seeded(0))
    for step in range(2 * every):
        loss = model.loss(batch, player, step, seeded(0))
        assert (term in loss.terms) == (step % every == 0)
        added = factor * loss.terms[term] if term in loss.terms else torch.zeros(())
        torch.testing.assert_close(loss.total - plain.total, added, rtol=1e-4, atol=1e-5)


def test_r1_is_of_the_real_images_and_reaches_the_discriminator():
    model, batch = make(gamma=10.0), make_batch()
    x = batch.x.clone().requires_grad_()
    expected = r1_penalty(model.discriminator(x), x, 10.0)
    loss = model.loss(batch, "discriminator", 0, seeded(0))
    torch.testing.assert_close(loss.terms["r1"], expected.detach())
    assert not batch.x.requires_grad
    (with_r1,) = torch.autograd.grad(loss.total, [model.discriminator.first.weight])
    plain = model.loss(batch, "discriminator", 1, seeded(0)).total
    (without,) = torch.autograd.grad(plain, [model.discriminator.first.weight])
    (of_r1,) = torch.autograd.grad(16 * expected, [model.discriminator.first.weight])
    torch.testing.assert_close(with_r1 - without, of_r1, rtol=1e-3, atol=1e-4)


# ---- players and training ---------------------------------------------------------------------------------------


def test_losses_at_logit_0():
    model = make(gamma=0.0, path_weight=0.0)
    nn.init.zeros_(model.discriminator.logit.weight)
    batch = make_batch()
    assert model.loss(batch, "discriminator", 0, seeded(0)).total.item() == pytest.approx(2 * math.log(2), abs=1e-6)
    assert model.loss(batch, "generator", 0, seeded(0)).total.item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_discriminators_loss_reaches_nothing_of_the_generator():
    model = make()
    model.loss(make_batch(), "discriminator", 0, seeded(0)).total.backward()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == {"discriminator"}


def test_a_run_cut_in_two_ends_in_the_same_weights_and_averages(tmp_path):
    batch = make_batch(n=32)
    recipe = StyleGAN.recipe(SMALL)

    def training():
        model = make(mixing=0.9, path_weight=2.0)
        return Training(model, Batches(batch.pixels, None, 17, 0), recipe, FitOptions(64 * 6, 0))

    whole, first, second = training(), training(), training()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    first.checkpoint(tmp_path / "checkpoint.pt")
    second.resume(tmp_path / "checkpoint.pt")
    for _ in range(3):
        second.step()
    ended = second.model.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in whole.model.state_dict().items())
    assert whole.model.style_mean.abs().max() > 0
    assert whole.model.path_mean > 0


def test_averaged_weights_keep_the_running_means_as_they_are():
    batch = make_batch(n=32)
    run = Training(make(), Batches(batch.pixels, None, 17, 0), StyleGAN.recipe(SMALL), FitOptions(64 * 2, 0))
    run.step()
    mean = run.model.style_mean.clone()
    run.average.copy_to(run.model)
    assert torch.equal(run.model.style_mean, mean)


@pytest.mark.parametrize("generator", GENERATORS)
def test_half_precision_on_the_way_leaves_losses_and_images_in_single(generator):
    model = make(generator=generator, gamma=10.0, sampler=StyleGANSampler(psi=0.7)).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = [model.loss(make_batch(), player, 0, seeded(0)).total for player in model.players()]
        images = model.eval().sample(2, seeded(0))
    assert all(torch.isfinite(loss) for loss in losses)
    assert torch.isfinite(images).all()
    assert model.style_mean.dtype == model.path_mean.dtype == torch.float32


@pytest.mark.parametrize("way", ["same", "up", "down"])
def test_an_equalised_convolution_adds_its_bias(way):
    layer = EqualConv(1, 2, 3, way=way) if way != "same" else EqualConv(1, 2, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([0.5, -2.0]).view_as(layer.bias))
    y = layer(torch.randn(1, 1, 4, 4, generator=seeded(0)))
    assert y.amax((0, 2, 3)).tolist() == [0.5, -2.0]
    assert y.amin((0, 2, 3)).tolist() == [0.5, -2.0]
