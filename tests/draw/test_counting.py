"""Network evaluations are counted as rows, however guidance is implemented."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genbench.check import check_model
from genbench.contract import DataSpec, Loss, Model, Steps
from genbench.draw import draw_block
from genbench.draw.blocks import draw
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.errors import CellFailure

DATA = DataSpec(1, 2, 2)
STEPS = 4


class Net(nn.Module):
    """Predicts x + w whatever the time is."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4))

    def forward(self, x, t):
        return 0.5 * (x + self.w)


class Guided(Model, Steps):
    """STEPS steps with classifier-free guidance, as two calls or as one call with a doubled batch."""

    doubled, declared = False, 2 * STEPS

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.net = Net()

    @property
    def denoiser(self):
        return self.net

    @property
    def evaluations(self):
        return self.declared

    def loss(self, batch, player, step, gen):
        return Loss((batch.x.flatten(1) - self.net.w).square().mean())

    def predictions(self, x, t):
        if self.doubled:
            return self.net(torch.cat([x, x]), t.repeat(2)).chunk(2)
        return self.net(x, t), self.net(x, t)

    def sample(self, n, gen, condition=None):
        x = torch.randn(n, 4, generator=gen)
        for step in range(STEPS):
            with_label, without = self.predictions(x, torch.full((n,), step))
            x = without + 1.5 * (with_label - without)
        return x.clamp(-1, 1).view(n, *self.data.shape)


class Doubled(Guided):
    doubled = True


class CountsCalls(Doubled):
    declared = STEPS


@pytest.mark.parametrize("kind", [Guided, Doubled])
def test_guidance_counts_two_rows_a_step_for_each_image(kind):
    model = kind(DATA).eval()
    _, _, evaluations = draw_block(model, 0, 0, 5)
    assert evaluations == model.evaluations == 2 * STEPS
    assert draw(model, 7, seed=0, block=3).evaluations == 2 * STEPS


def test_both_ways_of_guidance_draw_the_same_images():
    pixels = [draw_block(kind(DATA).eval(), 0, 0, 5)[0] for kind in (Guided, Doubled)]
    assert torch.equal(*pixels)


def test_a_declaration_of_calls_is_refused():
    with pytest.raises(CellFailure, match=r"declares 4 for each image, 8 were counted"):
        verify_evaluations(CountsCalls(DATA), draw_block(CountsCalls(DATA).eval(), 0, 0, 3)[2])
    messages = {r.name: r.message for r in check_model(CountsCalls, DATA)}
    assert messages["evaluations are counted"].startswith("evaluations is 4, but the denoiser evaluated 8 rows")
    assert [r.message for r in check_model(Doubled, DATA) if r.name == "evaluations are counted"] == [""]


@pytest.mark.parametrize(
    ("args", "kwargs", "rows"),
    [
        ((torch.zeros(3, 4), torch.zeros(3)), {}, 3),
        ((torch.zeros(()), torch.zeros(6, 4)), {}, 6),  # a time without an axis before the images
        ((0.5, torch.zeros(6, 4)), {}, 6),
        ((), {"x": torch.zeros(5, 4), "t": torch.zeros(1)}, 5),
    ],
)
def test_the_first_tensor_with_axes_has_the_rows(args, kwargs, rows):
    class Anything(nn.Module):
        def forward(self, *args, **kwargs):
            return 0

    model = Guided(DATA)
    model.net = Anything()
    with EvaluationCount(model) as count:
        model.denoiser(*args, **kwargs)
    assert count.rows == rows


def test_the_hook_is_gone_afterwards_even_where_sampling_fails():
    class Fails(Guided):
        def sample(self, n, gen, condition=None):
            assert self.net._forward_hooks
            raise ZeroDivisionError

    model = Fails(DATA)
    with pytest.raises(ZeroDivisionError):
        draw_block(model, 0, 0, 1)
    assert not model.net._forward_hooks
