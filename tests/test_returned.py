"""What a model may return: plain tensors with numbers in memory, which the model does not change afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from genbench import returned
from genbench.contract import DataSpec, Draws, Steps
from genbench.errors import CellFailure
from genbench.sources.build import build

SPEC = DataSpec(1, 2, 2)


class Noise(Draws):
    """Draws black images."""

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, 1, 2, 2)


class Marked(Tensor):
    """A subclass that only has another name."""


def leaked(transform: Callable, *shape: int) -> Tensor:
    """A tensor (2, 1, 2, 2) that has numbers only inside a transformation of torch.func."""
    kept = []
    transform(lambda x: (kept.append(x), x.sum())[1])(torch.zeros(*shape, 2, 1, 2, 2))
    return kept[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (FakeTensorMode().from_tensor(torch.zeros(2, 1, 2, 2)), "a tensor of the subclass FakeTensor"),
        (torch.zeros(2, 1, 2, 2, device="meta"), "meta float32 tensor"),
        (torch.zeros(2, 1, 2, 2).to_sparse(), "sparse float32 tensor"),
    ],
)
def test_images_without_numbers_are_refused(value, words):
    with pytest.raises(CellFailure, match=rf"Noise.sample\(\): returned {words}.*, required: a floating-point"):
        returned.checked_images(Noise(SPEC), value, 2)
    with pytest.raises(CellFailure, match="required: a real floating-point"):
        returned.log_probs(Noise(SPEC), value[:, 0, 0, 0], 2, "log_prob()")


@pytest.mark.parametrize(
    ("transform", "shape"),
    [(torch.vmap, (3,)), (torch.func.grad, ()), (lambda f: torch.vmap(torch.func.grad(f)), (3,))],
)
def test_images_that_left_a_transformation_of_torch_func_are_refused(transform, shape):
    value = leaked(transform, *shape)
    assert (value.shape, value.dtype, type(value)) == ((2, 1, 2, 2), torch.float32, Tensor)  # as far as one can see
    with pytest.raises(CellFailure, match=r"Noise.sample\(\): returned float32 tensor of shape"):
        returned.checked_images(Noise(SPEC), value, 2)


def test_a_subclass_with_numbers_becomes_plain():
    images = returned.checked_images(Noise(SPEC), torch.ones(2, 1, 2, 2).as_subclass(Marked), 2)
    assert type(images) is Tensor
    assert images.sum() == 8


def test_the_model_may_use_its_memory_again():
    own, model = torch.zeros(2, dtype=torch.float64, requires_grad=True), Noise(SPEC)
    nats, latents = returned.log_probs(model, own, 2, "log_prob()"), returned.latents(model, own.detach(), 2)
    with torch.no_grad():
        own.fill_(1)
    assert nats.numpy().tolist() == latents.tolist() == [0, 0]


@pytest.mark.parametrize("value", ["many", -1, 1.0, True, 2**64])
def test_a_number_of_parameters_is_a_number(value):
    assert returned.parameter_count(type("Right", (Noise,), {"parameter_count": 7})(SPEC)) == 7
    with pytest.raises(CellFailure, match=r"parameter_count: returned .*, required: a whole number, at least 0"):
        returned.parameter_count(type("Wrong", (Noise,), {"parameter_count": value})(SPEC))


@pytest.mark.parametrize("method", ["eval", "to", "state_dict"])
def test_methods_of_a_module_return_what_torch_does(method):
    assert isinstance(build(Noise, SPEC, {}, {}, 0), Noise)
    with pytest.raises(CellFailure, match=rf"Wrong.{method}\(.*: returned None, required: "):
        build(type("Wrong", (Noise,), {method: lambda *_, **__: None}), SPEC, {}, {}, 0)


def test_a_part_that_is_in_eval_mode_stays_in_it():
    model = Noise(SPEC)
    model.frozen = nn.Identity().eval()
    returned.check_module(model)
    assert (model.training, model.frozen.training) == (True, False)


def test_a_denoiser_is_a_module():
    assert isinstance(returned.denoiser(type("Right", (Noise, Steps), {"denoiser": nn.Identity()})(SPEC)), nn.Identity)
    with pytest.raises(CellFailure, match=r"denoiser: returned a value of type method, required: a torch.nn.Module"):
        returned.denoiser(type("Wrong", (Noise, Steps), {"denoiser": lambda self: nn.Identity()})(SPEC))
