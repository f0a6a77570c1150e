"""Samples: image i depends on (weights, sampler, seed, i) alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import toys

from genbench.contract import ClassConditional, DataSpec, Model
from genbench.draw.blocks import Conditions, draw, draw_share
from genbench.processes.group import Processes
from genbench.progress import Progress
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


@pytest.fixture
def clock(monkeypatch):
    """Each reading is a second after the one before."""
    seconds = iter(range(1_000))
    monkeypatch.setattr("genbench.draw.blocks.time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))


def test_every_block_is_reported_and_the_seconds_are_those_of_drawing(clock):
    seen: list[Progress] = []
    drawn = draw(toys.Diagonal(SPEC), 30, seed=0, block=20, report=seen.append)
    assert seen == [Progress("draw", 20, 30, "images", 20.0), Progress("draw", 30, 30, "images", 15.0)]
    assert drawn.seconds == 3.0


def test_processes_draw_the_blocks_of_one_process(tmp_path, clock):
    conditions, seen = Conditions(torch.arange(16)), list[list[Progress]]()
    for rank in range(2):
        seen.append([])
        draw_share(
            Obedient(SPEC), 50, 5, Processes(rank, 2), tmp_path,
            block=20, conditions=conditions, report=seen[-1].append,
        )  # fmt: skip
    first, third = Progress("draw", 40, 50, "images", 40.0), Progress("draw", 50, 50, "images", 25.0)
    assert seen == [[first, third], [first]]
    model = Obedient(SPEC)
    model.sample = lambda *_: pytest.fail("drawn again")
    found, alone = (draw(m, 50, seed=5, block=20, conditions=conditions, scratch=s)
                    for m, s in ((model, tmp_path), (Obedient(SPEC), None)))  # fmt: skip
    assert torch.equal(found.pixels, alone.pixels)


def test_sampling_has_the_precision_asked_for(tmp_path):
    model, used = toys.Diagonal(SPEC), []
    plain = model.sample
    model.sample = lambda n, gen, condition=None: used.append(torch.is_autocast_enabled("cpu")) or plain(n, gen)
    for precision in ("fp32", "bf16"):
        draw(model, 4, seed=0, block=4, precision=precision)
        (tmp_path / precision).mkdir()
        draw_share(model, 4, 0, Processes(), tmp_path / precision, block=4, precision=precision)
    assert used == [False, False, True, True]


def test_numbers_that_are_not_finite_are_counted():
    drawn = draw(toys.HalfNaN(SPEC), 40, seed=0, block=20)
    assert drawn.non_finite == 20
    assert (drawn.pixels[::2, 0, 0, 0] == 0).all()


def test_network_evaluations_are_counted_not_declared():
    model = load_model("ddim", data=DataSpec(1, 8, 8, 17), sampler={"steps": 5})
    assert draw(model, 4, seed=0, block=4).evaluations == 5


def test_without_a_denoiser_network_evaluations_are_those_declared():
    model = type("Declares", (toys.Diagonal,), {"evaluations": 7})(SPEC)
    assert draw(model, 4, seed=0, block=4).evaluations == 7


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
    assert drawn.texts == tuple(("a", "abc")[label] for label in drawn.labels.tolist())


@pytest.mark.parametrize("text_labels", [None, torch.tensor([5, 9, 4])])
def test_each_text_is_requested_as_often_as_asked_for_one_after_the_other(text_labels):
    conditions = Conditions(texts=("a", "aaa", "aa"), text_labels=text_labels, each=2)
    drawn = draw(Obedient(SPEC), 15, seed=0, block=4, conditions=conditions)
    numbers = [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 0, 0, 1]
    assert drawn.texts == tuple(conditions.texts[i] for i in numbers)
    assert drawn.pixels[:, 0, 0, 0].tolist() == [len(text) for text in drawn.texts]
    assert drawn.labels is None if text_labels is None else torch.equal(drawn.labels, text_labels[numbers])


def test_image_i_is_made_from_image_i():
    images = torch.linspace(-1, 1, 7)[:, None, None, None].expand(-1, *SPEC.shape)
    drawn = draw(Obedient(SPEC), 18, seed=0, block=5, conditions=Conditions(images=images))
    assert torch.equal(drawn.pixels, to_pixels(images, SPEC.levels)[torch.arange(18) % 7])
    assert drawn.labels is None
