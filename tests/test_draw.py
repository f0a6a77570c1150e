"""Samples: image i depends on (weights, sampler, seed, i) alone."""

from __future__ import annotations

import torch
import toys

from genbench.contract import ClassConditional, DataSpec, Model
from genbench.draw.blocks import Conditions, draw
from genbench.sources.build import load_model
from genbench.space import to_pixels

SPEC = DataSpec(1, 4, 4, 17)


def test_image_i_does_not_depend_on_how_many_are_drawn():
    model = toys.Diagonal(SPEC)
    few, many = draw(model, 30, seed=5, block=20), draw(model, 75, seed=5, block=20)
    assert few.pixels.shape == (30, 1, 4, 4)
    assert few.pixels.dtype == torch.uint8
    assert torch.equal(few.pixels, many.pixels[:30])
    assert not torch.equal(draw(model, 30, seed=6, block=20).pixels, few.pixels)


def test_blocks_have_noise_of_their_own():
    pixels = draw(toys.Diagonal(SPEC), 40, seed=0, block=20).pixels
    assert not torch.equal(pixels[:20], pixels[20:])


def test_a_killed_draw_continues_with_the_blocks_it_has(tmp_path):
    model = toys.Diagonal(SPEC)
    whole = draw(model, 60, seed=1, block=20)
    draw(model, 40, seed=1, block=20, scratch=tmp_path)
    calls = []
    plain = model.sample
    model.sample = lambda n, gen, condition=None: calls.append(n) or plain(n, gen, condition)
    continued = draw(model, 60, seed=1, block=20, scratch=tmp_path)
    assert calls == [20]
    assert torch.equal(continued.pixels, whole.pixels)


def test_numbers_that_are_not_finite_are_counted():
    drawn = draw(toys.HalfNaN(SPEC), 40, seed=0, block=20)
    assert drawn.non_finite == 20
    assert (drawn.pixels[::2, 0, 0, 0] == 0).all()


def test_network_evaluations_are_counted_not_declared():
    model = load_model("ddim", data=DataSpec(1, 8, 8, 17), sampler={"steps": 5})
    assert draw(model, 4, seed=0, block=4).evaluations == 5


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    draw(load_model("vae", data=DataSpec(1, 8, 8, 17), seed=3), 4, seed=0, block=4)
    assert torch.equal(before, torch.get_rng_state())


class Obedient(Model, ClassConditional):
    """Shows the class it is asked for as a grey level, or what its text or source image says."""

    def __init__(self, data: DataSpec, config: object = None, sampler: object = None) -> None:
        super().__init__(data, config, sampler)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def loss(self, batch, player, step, gen):
        raise NotImplementedError

    def sample(self, n, gen, condition=None):
        if condition.images is not None:
            return condition.images
        labels = condition.labels if condition.texts is None else torch.tensor([len(t) for t in condition.texts])
        levels = labels.float() * 2 / (self.data.levels - 1) - 1
        return levels[:, None, None, None].expand(n, *self.data.shape)


def test_samples_show_the_classes_asked_for():
    conditions = Conditions(torch.tensor([3, 3, 3, 7]))
    drawn = draw(Obedient(SPEC), 45, seed=0, block=20, conditions=conditions)
    assert torch.equal(drawn.pixels.flatten(1).long(), drawn.labels[:, None].expand(-1, SPEC.dims))
    assert set(drawn.labels.tolist()) == {3, 7}
    assert torch.equal(draw(Obedient(SPEC), 30, seed=0, block=20, conditions=conditions).labels, drawn.labels[:30])


def test_classes_are_as_frequent_as_in_the_labels():
    labels = Conditions(torch.tensor([0, 0, 0, 1])).first_labels(4_000, seed=0, size=500)
    assert abs(labels.float().mean().item() - 0.25) < 4 * (0.25 * 0.75 / 4_000) ** 0.5


def test_texts_stand_for_classes():
    drawn = draw(Obedient(SPEC), 20, seed=0, block=20, conditions=Conditions(torch.tensor([0, 1]), ("a", "abc")))
    assert torch.equal(drawn.pixels[:, 0, 0, 0].long(), 1 + 2 * drawn.labels)


def test_image_i_is_made_from_image_i():
    images = torch.linspace(-1, 1, 7)[:, None, None, None].expand(-1, *SPEC.shape)
    drawn = draw(Obedient(SPEC), 18, seed=0, block=5, conditions=Conditions(images=images))
    assert torch.equal(drawn.pixels, to_pixels(images, SPEC.levels)[torch.arange(18) % 7])
    assert drawn.labels is None
