"""Samples: image i depends on (weights, sampler, seed, i) alone."""

from __future__ import annotations

import torch
import toys

from genbench.build import load_model
from genbench.contract import DataSpec
from genbench.draw import draw

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
