"""CycleGAN's terms against generators that are known maps, the pool of old images, and the published sizes."""

import pytest
import torch
from torch import nn

from genbench.contract import Batch, Condition, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded
from zoo.cyclegan import CycleGAN, CycleGANConfig, InstanceNorm, LastConv, Pool, fooling, telling

SMALL = DataSpec(1, 8, 8, 17)
TINY = CycleGANConfig(width=4, halvings=1, blocks=1, critic_halvings=1, pool=5)


class Shift(nn.Module):
    """Adds a constant."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


class Constant(nn.Module):
    """Judges every patch alike."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return x.new_full((len(x), 1, 2, 2), self.value)


def make(config=TINY, data=SMALL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CycleGAN(data, config)


def make_batch(n=4):
    a, b = torch.rand(2, n, 1, 8, 8, generator=seeded(1)) - 0.5
    return Batch(b, torch.zeros(n, 1, 8, 8, dtype=torch.uint8), source=a)


def test_published_parameters_and_patches():
    colour = DataSpec(3, 256, 256)
    model = CycleGAN(colour, CycleGAN.preset(colour))
    assert sum(p.numel() for p in model.a_to_b.parameters()) == 11_378_179
    assert sum(p.numel() for p in model.critic_a.parameters()) == 2_764_737
    x = torch.zeros(1, 3, 256, 256, requires_grad=True)
    patches = model.critic_a(x)
    assert patches.shape == (1, 1, 30, 30)


def slopes(layer, x):
    """A layer's output, and the gradients of one function of it with respect to x and the parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    weighted = (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    return [y, *torch.autograd.grad(weighted, [x, *layer.parameters()])]


@pytest.mark.parametrize(("size", "outputs"), [((8, 12), 1), ((8, 12), 2), ((6, 5), 1)])
def test_layers_that_are_faster_on_a_cpu_are_torchs(size, outputs):
    x = torch.randn(3, 6, *size, generator=seeded(0)).contiguous(memory_format=torch.channels_last)
    last, plain = LastConv(6, outputs), nn.Conv2d(6, outputs, 7, padding=3, padding_mode="reflect")
    plain.load_state_dict(last.state_dict())
    for ours, torchs in ((InstanceNorm(6), nn.InstanceNorm2d(6)), (last, plain)):
        for a, b in zip(slopes(ours, x), slopes(torchs, x), strict=True):
            assert torch.allclose(a, b, atol=2e-5)
    assert InstanceNorm(6)(x).is_contiguous(memory_format=torch.channels_last)


def test_a_patch_sees_70_pixels():
    critic = nn.Sequential(*(m for m in make_critic() if not isinstance(m, nn.InstanceNorm2d)))
    x = torch.zeros(1, 3, 256, 256, requires_grad=True)
    critic(x)[0, 0, 15, 15].backward()
    seen = x.grad[0].abs().sum(0)
    assert int((seen.sum(0) > 0).sum()) == 70
    assert int((seen.sum(1) > 0).sum()) == 70


def test_initial_weights_follow_the_paper():
    model = make(CycleGANConfig(width=16), DataSpec(3, 64, 64))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            sigma = 0.02 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(0.02, abs=6 * sigma)
            assert module.weight.mean().item() == pytest.approx(0.0, abs=6 * 2**0.5 * sigma)
            assert module.bias.abs().max() == 0


def make_critic():
    colour = DataSpec(3, 256, 256)
    return make(CycleGANConfig(width=8, blocks=0), colour).critic_a


@pytest.mark.parametrize(("by", "cycle", "identity"), [(0.0, 0.0, 0.0), (1.0, 20.0, 5.0)])
def test_terms_of_generators_that_shift(by, cycle, identity):
    model = make()
    model.a_to_b, model.b_to_a = Shift(by), Shift(0.0)
    model.critic_a, model.critic_b = Constant(0.5), Constant(0.5)
    terms = model.loss(make_batch(), "generators", 0, seeded(0)).terms
    assert terms["cycle"].item() == pytest.approx(cycle, abs=1e-5)
    assert terms["identity"].item() == pytest.approx(identity, abs=1e-5)
    assert terms["generators"].item() == pytest.approx(0.5)


def test_identity_feeds_a_generator_its_own_target_domain():
    model, given = make(), []
    model.a_to_b.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    batch = make_batch()
    model.loss(batch, "generators", 0, seeded(0))
    assert torch.equal(given[0], batch.source)
    assert torch.equal(given[-1], batch.x)


def test_least_squares_at_one_half():
    half = torch.full((3, 1, 2, 2), 0.5)
    assert telling(half, half).item() == 0.25
    assert fooling(half).item() == 0.25
    model = make()
    model.critic_a, model.critic_b = Constant(0.5), Constant(0.5)
    assert model.loss(make_batch(), "discriminators", 0, seeded(0)).total.item() == 0.5


def test_the_discriminators_turn_leaves_the_generators_alone():
    model = make()
    model.loss(make_batch(), "discriminators", 0, seeded(0)).total.backward()
    assert all(p.grad is None for p in model.players()["generators"])


def test_the_pool_keeps_returns_and_replaces():
    one = DataSpec(1, 1, 1)
    pool, gen, held, old = Pool(50, one), seeded(0), set(), 0
    for number in range(5_050):
        given = torch.full((1, 1, 1, 1), float(number))
        returned = int(pool.query(given, gen))
        if number < 50:
            assert returned == number
            held.add(number)
            continue
        if returned != number:
            assert returned in held
            held = held - {returned} | {number}
            old += 1
    assert held == set(pool.images.flatten().int().tolist())
    assert abs(old - 2_500) < 4 * (5_000 / 4) ** 0.5


def test_the_pool_tosses_a_coin_for_each_image_of_a_batch():
    pool, gen = Pool(4, DataSpec(1, 1, 1)), seeded(0)
    numbers = torch.arange(68.0).view(-1, 1, 1, 1)
    pool.query(numbers[:4], gen)
    given = numbers[4:]
    assert 16 <= int((pool.query(given, gen) == given).sum()) <= 48  # 4 standard deviations around 32


def test_the_pool_holds_copies_and_may_be_off():
    given = torch.zeros(3, 1, 8, 8)
    pool = Pool(5, SMALL)
    pool.query(given, seeded(0))
    given += 1
    assert pool.images.eq(0).all()
    assert torch.equal(Pool(0, SMALL).query(given, seeded(0)), given)


def test_the_discriminators_turn_fills_the_pools_and_the_generators_turn_leaves_them_alone():
    model, batch = make(), make_batch()
    pools = {"a": model.pool_a, "b": model.pool_b}
    model.loss(batch, "generators", 0, seeded(0))
    assert all(pool.filled == 0 and pool.images.eq(0).all() for pool in pools.values())
    model.loss(batch, "discriminators", 0, seeded(0))
    made = {"a": model.translate(batch.x, "b_to_a"), "b": model.translate(batch.source, "a_to_b")}
    for side, pool in pools.items():
        assert pool.filled == 4
        assert torch.equal(pool.images[:4], made[side])
    model.loss(batch, "generators", 1, seeded(1))
    assert all(torch.equal(pool.images[:4], made[side]) and pool.filled == 4 for side, pool in pools.items())


def test_a_pool_that_is_full_travels_with_the_weights():
    model, other = make(), make()
    for seed in range(3):
        model.loss(make_batch(), "discriminators", 0, seeded(seed))
    other.load_state_dict(model.state_dict())
    losses = [m.loss(make_batch(), "discriminators", 0, seeded(9)).total.item() for m in (model, other)]
    assert losses[0] == losses[1]


def test_translation_has_two_directions_and_no_noise():
    model, x = make().eval(), make_batch().source
    there, back = model.translate(x, "a_to_b"), model.translate(x, "b_to_a")
    assert not torch.equal(there, back)
    assert torch.equal(model.sample(4, seeded(5), Condition(images=x)), there)
    with pytest.raises(ValueError, match="allowed: a_to_b, b_to_a"):
        model.translate(x, "sideways")
    with pytest.raises(ValueError, match="condition: found no images"):
        model.sample(4, seeded(0))


def test_translations_fill_the_range_of_the_data():
    model = make().eval()
    with torch.no_grad():
        model.a_to_b[-2].weight.mul_(1e4)
        x = model.translate(make_batch(64).source, "a_to_b")
    assert float(x.min()) == pytest.approx(-1.0, abs=1e-4)
    assert float(x.max()) == pytest.approx(1.0, abs=1e-4)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ModelError, match=r"CycleGAN: config.halvings: found 2, allowed: at most 1 for 6x6 images"):
        CycleGAN(DataSpec(1, 6, 6), CycleGANConfig(halvings=2))
