"""The losses of GANs against their closed forms, the gradient penalty, and turns on fresh batches."""

import math

import pytest
import torch

from genbench.contract import Batch, DataSpec, Recipe
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training
from zoo.gan import DISCRIMINATOR_LOSSES, GAN, GENERATOR_LOSSES, Discriminator, GANConfig, gradient_penalty

SMALL = DataSpec(1, 4, 4, 17)
TINY = {"latent": 4, "widths": (8, 8)}


def make(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GAN(SMALL, GANConfig(**{**TINY, **changes}))


def make_batch(n=16):
    pixels = torch.randint(0, 17, (n, 1, 4, 4), generator=seeded(1)).to(torch.uint8)
    return Batch(pixels / 8 - 1, pixels)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator", "slope"),
    [
        ("minimax", 2 * math.log(2), -math.log(2), -0.5),
        ("non-saturating", 2 * math.log(2), math.log(2), -0.5),
        ("least-squares", 0.5, 0.5, -1.0),
        ("hinge", 2.0, 0.0, -1.0),
        ("wasserstein-gp", 0.0, 0.0, -1.0),
    ],
)
def test_losses_and_the_generators_slope_at_output_0(name, discriminator, generator, slope):
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert sum(DISCRIMINATOR_LOSSES[name](zero, zero)).item() == pytest.approx(discriminator, abs=1e-12)
    loss = GENERATOR_LOSSES[name](zero)
    assert loss.item() == pytest.approx(generator, abs=1e-12)
    assert torch.autograd.grad(loss, zero)[0].item() == pytest.approx(slope)


def test_the_minimax_generator_loses_its_slope_where_the_discriminator_is_sure():
    sure = torch.tensor([-50.0], requires_grad=True)
    saturated, kept = (torch.autograd.grad(GENERATOR_LOSSES[n](sure), sure)[0] for n in ("minimax", "non-saturating"))
    assert abs(saturated.item()) < 1e-20
    assert kept.item() == pytest.approx(-1.0)


@pytest.mark.parametrize("name", GENERATOR_LOSSES)
@pytest.mark.parametrize("output", [-200.0, 200.0])
def test_losses_and_slopes_stay_finite(name, output):
    outputs = [torch.full((3,), output, requires_grad=True) for _ in range(3)]
    total = sum(DISCRIMINATOR_LOSSES[name](*outputs[:2])) + GENERATOR_LOSSES[name](outputs[2])
    assert torch.isfinite(total)
    assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(total, outputs))


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_penalty_of_a_linear_critic(scale, expected):
    direction = torch.randn(16, dtype=torch.float64, generator=seeded(0))
    direction = scale * direction / direction.norm()
    x = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=seeded(1))
    penalty = gradient_penalty(lambda images: images.flatten(1) @ direction, x[0], x[1], seeded(2))
    assert penalty.item() == pytest.approx(expected, abs=1e-12)


def test_the_penalty_is_taken_between_real_and_generated_images():
    seen = []

    def critic(images):
        seen.append(images.detach())
        return images.flatten(1).sum(1)

    real, fake = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
    gradient_penalty(critic, real, fake, seeded(0))
    assert seen[0].min() >= 0
    assert seen[0].max() <= 1
    assert seen[0].flatten(1).std(1).max() == 0  # one place on the line for a whole image
    assert len(seen[0][:, 0, 0, 0].unique()) == 50


def test_the_slope_of_the_penalty_of_a_linear_critic():
    """(|w| - 1)^2 has the slope 2 (|w| - 1) w / |w| in w."""
    direction = torch.randn(16, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    x = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=seeded(1))
    penalty = gradient_penalty(lambda images: images.flatten(1) @ direction, x[0], x[1], seeded(2))
    (slope,) = torch.autograd.grad(penalty, direction)
    size = direction.detach().norm()
    torch.testing.assert_close(slope, 2 * (size - 1) * direction.detach() / size, rtol=1e-12, atol=0)


def test_the_penalty_reaches_the_critics_weights():
    """Losses that differ in the penalty's weight alone have slopes that differ by the penalty's own."""
    slopes = []
    for penalty in (0.0, 10.0):
        model = make(loss="wasserstein-gp", penalty=penalty)
        weights = [p for p in model.discriminator.parameters() if p.ndim > 1]
        total = model.loss(make_batch(), "discriminator", 0, seeded(0)).total
        slopes.append(torch.autograd.grad(total, weights))
    assert all((with_it - without).abs().max() > 0.01 for without, with_it in zip(*slopes, strict=True))


def test_each_players_loss_leaves_the_other_alone():
    model = make()
    model.loss(make_batch(), "discriminator", 0, seeded(0)).total.backward()
    assert all(p.grad is None for p in model.generator.parameters())


def counting_discriminator(units, rate):
    """One hidden layer whose units are all 1, summed: l(x) counts the units that are kept."""
    net = Discriminator((16, units), rate)
    with torch.no_grad():
        net.hidden[0].weight.zero_()
        net.hidden[0].bias.fill_(1.0)
        net.out.weight.fill_(1.0)
        net.out.bias.zero_()
    return net


def test_the_discriminator_drops_hidden_units_in_training_and_keeps_their_mean():
    net, x = counting_discriminator(1000, 0.3), torch.zeros(200, 1, 4, 4)
    dropped = net(x, seeded(0)).detach()
    assert dropped.mean().item() == pytest.approx(1000, rel=0.01)
    assert dropped.var().item() == pytest.approx(1000 * 0.3 / 0.7, rel=0.3)  # of kept / (1 - rate), kept binomial
    assert torch.equal(net(x), torch.full((200,), 1000.0))


def test_two_batches_are_judged_in_one_pass_as_in_two():
    net = Discriminator((16, 32, 24), 0.3)
    real, fake = torch.randn(2, 5, 1, 4, 4, generator=seeded(1))
    one, two = seeded(0), seeded(0)
    together, separate = net.both(real, fake, one), (net(real, two), net(fake, two))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(together, separate, strict=True))
    assert torch.equal(one.get_state(), two.get_state())


@pytest.mark.parametrize("loss", GENERATOR_LOSSES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_both_players_see_the_discriminator_with_units_dropped(player, loss):
    totals = []
    for rate in (0.0, 0.3):
        model = make(loss=loss, dropout=rate, widths=(64, 64))
        totals += [model.loss(make_batch(), player, 0, seeded(seed)).total.item() for seed in (2, 2)]
    assert totals[0] == totals[1]
    assert totals[2] == totals[3]
    assert totals[0] != totals[2]


def test_the_critic_moves_several_times_each_on_a_fresh_batch():
    model = make(loss="wasserstein-gp", critic_steps=5)
    (stage,) = model.stages
    assert stage.turns == ("discriminator",) * 5 + ("generator",)
    assert stage.batches == 5
    pixels = torch.randint(0, 17, (1000, 1, 4, 4), generator=seeded(0)).to(torch.uint8)
    batches, seen = Batches(pixels, None, 17, 0), []
    training = Training(model, batches, Recipe(batch=10), FitOptions(400, 0, "fp32", False))
    plain = model.loss
    model.loss = lambda batch, player, step, gen: seen.append((player, batch)) or plain(batch, player, step, gen)
    training.step()
    assert [player for player, _ in seen] == list(stage.turns)
    assert len({b.pixels.numpy().tobytes() for _, b in seen[:5]}) == 5
    assert torch.equal(seen[4][1].pixels, seen[5][1].pixels)
    assert training.fitted.images == 50
    assert training.total_steps * 50 == 400
    assert training.total_images == 400


def test_samples_are_within_the_data_range():
    x = make().sample(100, seeded(0))
    assert x.shape == (100, 1, 4, 4)
    assert x.abs().max() <= 1


def test_samples_fill_the_range_of_the_data():
    model = make()
    with torch.no_grad():
        model.generator[-3].weight.mul_(1e4)
        x = model.sample(64, seeded(0))
    assert float(x.min()) == pytest.approx(-1.0, abs=1e-4)
    assert float(x.max()) == pytest.approx(1.0, abs=1e-4)


def test_the_discriminators_hidden_units_have_slope_a_fifth_below_0():
    judge = Discriminator((2, 2), rate=0.0).eval()
    with torch.no_grad():
        judge.hidden[0].weight.copy_(torch.eye(2))
        judge.hidden[0].bias.zero_()
        judge.out.weight.copy_(torch.tensor([[1.0, 10.0]]))
        judge.out.bias.fill_(0.5)
    x = torch.tensor([[2.0, -3.0]])
    assert judge(x.view(1, 1, 1, 2)).item() == pytest.approx(2.0 + 10 * 0.2 * -3.0 + 0.5)
