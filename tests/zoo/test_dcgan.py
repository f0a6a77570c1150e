"""DCGAN's losses against their closed forms, its nets against known counts, and the pitfalls of batch normalisation."""

import copy
import math

import pytest
import torch
from torch import nn

from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded
from zoo.dcgan import DCGAN, DCGANConfig, sizes
from zoo.gan import GENERATOR_LOSSES, cross_entropy

generator_loss = GENERATOR_LOSSES["non-saturating"]

TINY = DCGANConfig(latent=8, width=4, critic_width=4, doublings=2)
SMALL = DataSpec(1, 8, 8, 17, 10)


def make(data=SMALL, config=TINY, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DCGAN(data, config)


def make_batch(data=SMALL, n=16, seed=1):
    pixels = torch.randint(0, data.levels, (n, *data.shape), generator=seeded(seed)).to(torch.uint8)
    return Batch(pixels / (data.levels - 1) * 2 - 1, pixels)


def reached(model, player):
    """Names of the parameters that a plain backward() of the player's loss gives a gradient that is not 0."""
    model.loss(make_batch(), player, 0, seeded(0)).total.backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


# ---- losses -----------------------------------------------------------------------------------------------------


def test_losses_at_logit_0():
    zero = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    real_term, fake_term = cross_entropy(zero, zero)
    assert (real_term + fake_term).item() == pytest.approx(2 * math.log(2), abs=1e-12)
    assert -fake_term.item() == pytest.approx(-0.693147, abs=1e-6)  # what the saturating generator would minimise
    assert generator_loss(zero).item() == pytest.approx(math.log(2), abs=1e-12)
    (slope,) = torch.autograd.grad(generator_loss(zero), zero)
    torch.testing.assert_close(slope.detach(), torch.full((4,), -0.5 / 4, dtype=torch.float64))


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_losses_and_slopes_stay_finite_where_the_sigmoid_saturates(logit):
    real, fake, wanted = (torch.full((3,), logit, requires_grad=True) for _ in range(3))
    total = sum(cross_entropy(real, fake)) + generator_loss(wanted)
    slopes = torch.autograd.grad(total, [real, fake, wanted])
    assert torch.isfinite(total)
    assert total.item() == pytest.approx(200.0 if logit > 0 else 400.0)
    assert all(torch.isfinite(slope).all() for slope in slopes)


def test_generator_keeps_its_slope_where_the_discriminator_is_sure():
    sure = torch.tensor([-200.0], requires_grad=True)
    (slope,) = torch.autograd.grad(generator_loss(sure), sure)
    assert float(slope) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("p", "q"), [([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]), ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]), ([0.9, 0.1], [0.3, 0.7])]
)
def test_value_at_the_best_discriminator_is_the_jensen_shannon_divergence(p, q):
    p, q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    best = (p.clamp_min(1e-300).log() - q.clamp_min(1e-300).log()).double()  # the logit of p / (p + q)
    real_term = sum(w * cross_entropy(x[None], x[None])[0] for w, x in zip(p, best, strict=True))
    fake_term = sum(w * cross_entropy(x[None], x[None])[1] for w, x in zip(q, best, strict=True))
    middle = (p + q) / 2
    jsd = (torch.xlogy(p, p / middle).nansum() + torch.xlogy(q, q / middle).nansum()) / 2
    assert float(-(real_term + fake_term)) == pytest.approx(float(2 * jsd) - 2 * math.log(2), abs=1e-12)


def test_the_best_discriminator_minimises_its_loss():
    p, q = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    logit = (p / q).log().requires_grad_()
    weighted = sum(
        p[i] * cross_entropy(logit[i : i + 1], logit[:0].new_zeros(1))[0]
        + q[i] * cross_entropy(logit.new_zeros(1), logit[i : i + 1])[1]
        for i in range(3)
    )
    (slope,) = torch.autograd.grad(weighted, logit)
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64), atol=1e-15, rtol=0)


def test_the_model_combines_its_logits_by_these_losses():
    model = make()
    with torch.no_grad():
        for p in model.discriminator.parameters():
            p.zero_()
    batch = make_batch()
    assert model.loss(batch, "discriminator", 0, seeded(0)).total.item() == pytest.approx(1.386294, abs=1e-6)
    assert model.loss(batch, "generator", 0, seeded(0)).total.item() == pytest.approx(0.693147, abs=1e-6)


# ---- players ----------------------------------------------------------------------------------------------------


def test_the_discriminators_loss_reaches_all_of_it_and_nothing_of_the_generator():
    model = make()
    assert reached(model, "discriminator") == {f"discriminator.{n}" for n, _ in model.discriminator.named_parameters()}


def test_the_generators_loss_reaches_all_of_it_and_in_the_trainers_turn_nothing_else():
    model = make()
    generator = {f"generator.{n}" for n, _ in model.generator.named_parameters()}
    assert generator <= reached(model, "generator")
    model.zero_grad(set_to_none=True)
    model.loss(make_batch(), "generator", 0, seeded(0)).total.backward(inputs=model.players()["generator"])
    assert {n for n, p in model.named_parameters() if p.grad is not None} == generator


def test_turns_are_discriminator_then_generator():
    (stage,) = DCGAN.stages
    assert stage.turns == ("discriminator", "generator")


def test_the_discriminator_sees_real_and_generated_images_in_two_batches():
    model, seen = make(), []
    model.discriminator.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    batch = make_batch()
    model.loss(batch, "discriminator", 0, seeded(0))
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], batch.x)
    assert not torch.equal(seen[1], batch.x)


# ---- networks ---------------------------------------------------------------------------------------------------


def test_parameter_counts_of_the_64_pixel_net():
    model = DCGAN(DataSpec(3, 64, 64))
    assert sum(p.numel() for p in model.generator.parameters()) == 3_576_704
    assert sum(p.numel() for p in model.discriminator.parameters()) == 2_765_568


@pytest.mark.parametrize("side", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_make_images_of_the_datas_shape(side, channels):
    data = DataSpec(channels, side, side)
    model = make(data, config=None).eval()
    x = model.sample(2, seeded(0))
    assert x.shape == (2, channels, side, side)
    assert model.discriminator(x).shape == (2,)


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 17, 30), (3, 21, 8)])
def test_sizes_that_are_no_power_of_two(shape):
    data = DataSpec(*shape)
    model = make(data).eval()
    x = model.sample(2, seeded(0))
    assert x.shape == (2, *shape)
    assert model.discriminator(x).shape == (2,)


def test_feature_maps_halve_and_round_down():
    assert sizes(28, 9, 2) == [(7, 2), (14, 4), (28, 9)]


def test_a_depth_that_the_image_cannot_have_is_refused():
    with pytest.raises(ModelError, match=r"DCGAN: config.doublings: found 4, allowed: at most 3 for 8x8 images"):
        make(config=DCGANConfig(doublings=4))


def test_norms_everywhere_but_at_the_generators_output_and_the_discriminators_ends():
    kinds = [type(m).__name__ for m in make().generator]
    assert kinds == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 2 + ["ConvTranspose2d", "Tanh"]
    kinds = [type(m).__name__ for m in make().discriminator]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "Conv2d", "Flatten"]


def test_initial_weights_follow_the_paper():
    model = DCGAN(DataSpec(3, 64, 64))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.bias is None
            sigma = 0.02 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(0.02, abs=6 * sigma)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=6 * 0.02 / math.sqrt(len(module.weight)))
            assert module.bias.abs().max() == 0


def test_samples_fill_the_range_of_the_data():
    model = make().eval()
    with torch.no_grad():
        model.generator[-2].weight.mul_(1e4)
        x = model.sample(64, seeded(0))
    assert float(x.min()) == pytest.approx(-1.0, abs=1e-4)
    assert float(x.max()) == pytest.approx(1.0, abs=1e-4)
    assert float(x.abs().max()) <= 1.0


def test_logits_are_unbounded():
    model = make().eval()
    with torch.no_grad():
        model.discriminator[-2].weight.mul_(1e4)
    logits = model.discriminator(make_batch(n=64).x)
    assert logits.min() < 0
    assert logits.max() > 1


def test_latents_are_standard_normal():
    z = make().noise(20_000, seeded(0))
    assert z.shape == (20_000, 8)
    assert float(z.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(z.numel()))
    assert float(z.var()) == pytest.approx(1.0, abs=5 * math.sqrt(2 / z.numel()))


# ---- batch normalisation in eval mode ---------------------------------------------------------------------------


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    model = make()
    model.sample(64, seeded(1))  # moves the running moments off their start
    model.eval()
    z = model.noise(16, seeded(0))
    torch.testing.assert_close(model.decode(z[:1]), model.decode(z)[:1], atol=1e-6, rtol=0)


def moments_seen(model, n=4_000):
    """Mean and variance of what each of the generator's norms is given in eval mode."""
    model = copy.deepcopy(model).eval()
    inputs: list[torch.Tensor] = []
    for norm in (m for m in model.generator if isinstance(m, nn.BatchNorm2d)):
        norm.register_forward_hook(lambda _module, given, _output: inputs.append(given[0]))
    with torch.no_grad():
        model.sample(n, seeded(7))
    return [(x.mean((0, 2, 3)), x.var((0, 2, 3))) for x in inputs]


def test_settling_makes_eval_mode_normalise_what_the_weights_really_give():
    model = make().train()
    model.sample(64, seeded(1))
    with torch.no_grad():
        for p in model.generator.parameters():
            p.mul_(1.5)  # new weights, old moments: what averaging the weights does
    norms = [m for m in model.generator if isinstance(m, nn.BatchNorm2d)]
    stale = [norm.running_var / seen for norm, (_, seen) in zip(norms, moments_seen(model), strict=True)]
    assert max(float((ratio - 1).abs().max()) for ratio in stale) > 0.3
    model.settle(seeded(2))
    for norm, (mean, variance) in zip(norms, moments_seen(model), strict=True):
        torch.testing.assert_close(norm.running_var, variance, rtol=0.1, atol=0)
        assert ((norm.running_mean - mean).abs() < 0.1 * variance.sqrt()).all()


def test_settling_touches_the_generators_moments_alone():
    model = make().eval()
    before = copy.deepcopy(model.state_dict())
    model.settle(seeded(0))
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {
        f"generator.{i}.{name}" for i in (1, 4) for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not any(m.training for m in model.modules())
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_settling_depends_on_its_generator_alone():
    first, second = make(), make()
    second.sample(64, seeded(9))
    first.settle(seeded(0))
    second.settle(seeded(0))
    for k, v in first.state_dict().items():
        assert torch.equal(v, second.state_dict()[k])


def test_recipes_are_the_papers_adam():
    recipe = DCGAN.recipe(DataSpec(3, 64, 64))
    assert (recipe.lr, recipe.betas) == (2e-4, (0.5, 0.999))
    assert DCGAN.preset(DataSpec(3, 64, 64)) == DCGANConfig()
