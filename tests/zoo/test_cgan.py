"""The conditional GAN is told the class: labels of real and generated images match, and decide what is shown."""

from dataclasses import replace

import pytest
import torch

from genbench.contract import Batch, Condition, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded
from zoo.cgan import CGAN, CGANConfig

SMALL = DataSpec(1, 8, 8, 17, 10)


def make(conditioning="projection", **changes):
    config = CGANConfig(**{"latent": 8, "label": 4, "width": 4, "critic_width": 4, "doublings": 2, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CGAN(SMALL, CGANConfig(**{**vars(config), "conditioning": conditioning}))
        for p in model.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        return model


def make_batch(n=16):
    pixels = torch.randint(0, 17, (n, 1, 8, 8), generator=seeded(1)).to(torch.uint8)
    return Batch(pixels / 8 - 1, pixels, torch.arange(n) % 10)


def test_labels_move_the_projection_by_their_embeddings_along_the_features():
    d = make().discriminator.eval()
    x, a, b = torch.randn(5, 1, 8, 8, generator=seeded(0)), torch.full((5,), 3), torch.full((5,), 7)
    expected = d.features(x) @ (d.label.weight[3] - d.label.weight[7])
    torch.testing.assert_close(d(x, a) - d(x, b), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_the_discriminator_weighs_parts_of_the_image_against_each_other(conditioning):
    """A sum of what positions that see a part each say would make the second difference nothing."""
    large = DataSpec(1, 28, 28, 256, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        d = CGAN(large, replace(CGAN.preset(large), conditioning=conditioning)).discriminator.eval()
        for p in d.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    plain, labels = torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.long)
    above, below = plain.clone(), plain.clone()
    above[..., 4:10, 4:10], below[..., 16:22, 16:22] = 1, 1
    second = d(above + below, labels) - d(above, labels) - d(below, labels) + d(plain, labels)
    assert abs(float(second)) > 0.05 * abs(float(d(above, labels) - d(plain, labels)))


@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_labels_reach_both_players_through_their_embeddings_alone(conditioning):
    model = make(conditioning).eval()
    x, z = torch.randn(4, 1, 8, 8, generator=seeded(0)), torch.randn(4, 8, generator=seeded(1))
    a, b = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    assert not torch.allclose(model.generator(z, a), model.generator(z, b))
    assert not torch.allclose(model.discriminator(x, a), model.discriminator(x, b))
    embeddings = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    assert len(embeddings) == 2
    for embedding in embeddings:
        embedding.weight.data.zero_()
    assert torch.equal(model.generator(z, a), model.generator(z, b))
    assert torch.equal(model.discriminator(x, a), model.discriminator(x, b))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_generated_images_are_judged_under_the_class_they_were_made_for(player):
    model, batch, made, judged = make(), make_batch(), [], []
    model.generator.register_forward_hook(lambda _, given, out: made.append((given[1], out)))
    model.discriminator.register_forward_hook(lambda _, given, out: judged.append(given))
    model.loss(batch, player, 0, seeded(0))
    ((labels, fake),) = made
    assert torch.equal(labels, batch.labels)
    images, classes = judged[-1]
    assert torch.equal(images, fake)
    assert torch.equal(classes, labels)


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    model, labels = make(), torch.arange(16) % 10
    z = model.noise(16, seeded(0))
    model.generator(model.noise(64, seeded(1)), torch.arange(64) % 10)  # moves the running moments off their start
    assert not torch.allclose(model.generator(z[:8], labels[:8]), model.generator(z, labels)[:8], atol=1e-3)
    model.eval()
    alone, together = model.generator(z[:1], labels[:1]), model.generator(z, labels)[:1]
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)


def test_samples_are_of_the_class_asked_for_and_of_every_class_otherwise():
    model, asked = make().eval(), []
    model.generator.register_forward_hook(lambda _, given, out: asked.append(given[1]))
    model.sample(5, seeded(0), Condition(labels=torch.tensor([1, 2, 3, 4, 5])))
    assert asked[-1].tolist() == [1, 2, 3, 4, 5]
    model.sample(500, seeded(0))
    assert set(asked[-1].tolist()) == set(range(10))


def test_data_without_classes_is_refused():
    with pytest.raises(ModelError, match="CGAN: data: found no classes, allowed: labelled images"):
        CGAN(DataSpec(1, 8, 8, 17))
