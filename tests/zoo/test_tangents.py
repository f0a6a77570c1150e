"""zoo/tangents.py: values, gradients and tangents are those of torch, of fewer operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, grad
from torch.utils.flop_counter import FlopCounterMode

from genbench.contract import Batch, DataSpec
from genbench.space import seeded
from zoo import tangents
from zoo.mean_flow import MeanFlow, MeanFlowConfig
from zoo.tangents import FewerOperations

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # forward_ad imports modules that warn
GEN = seeded(0)
WIDE, NARROW, DEEP = (torch.randn(shape, dtype=torch.float64, generator=GEN) for shape in
                      ((6, 4, 3, 3), (6, 2, 3, 3), (4, 4, 1, 1)))  # fmt: skip
GAIN, SHIFT, LONG = (torch.randn(n, dtype=torch.float64, generator=GEN) for n in (4, 4, 6))
CASES = {
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, padding=1), (WIDE, LONG)),
    "stride, dilation": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (1, 2)), (WIDE, LONG)),
    "groups": (lambda x, w, b: F.conv2d(x, w, b, 1, 1, 1, 2), (NARROW, LONG)),
    "no bias": (lambda x, w: F.conv2d(x, w), (DEEP,)),
    "padding by a word": (lambda x, w, b: F.conv2d(x, w, b, padding="same"), (WIDE, LONG)),
    "normalisation": (lambda x, w, b: F.group_norm(x, 2, w, b, 1e-3), (GAIN, SHIFT)),
    "one group": (lambda x, w, b: F.group_norm(x, 1, w, b), (GAIN, SHIFT)),
    "normalisation without weight": (lambda x: F.group_norm(x, 2), ()),
}


def derivatives(function, x, tangent, weights):
    """The value, its tangent, and the gradients of x and the weights."""
    given = [t.clone().requires_grad_() for t in (x, *weights)]
    with forward_ad.dual_level():
        value, moved = forward_ad.unpack_dual(function(forward_ad.make_dual(given[0], tangent), *given[1:]))
    slope = torch.randn(value.shape, dtype=value.dtype, generator=seeded(3))
    return [value.detach(), moved.detach(), *grad(value, given, slope)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES)
def test_values_tangents_and_gradients_are_those_of_torch(case, layout):
    function, weights = CASES[case]
    x, tangent = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=seeded(1)).unbind()
    x = x.to(memory_format=layout)
    theirs = derivatives(function, x, tangent, weights)
    with FewerOperations():
        ours = derivatives(function, x, tangent, weights)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    ahead, behind = (function(x + sign * 1e-6 * tangent, *weights) for sign in (1, -1))
    assert torch.allclose(ours[1], (ahead - behind) / 2e-6, atol=1e-6)


def test_a_tangent_needs_one_convolution():
    x, tangent = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=seeded(1)).unbind()

    def operations():
        with FlopCounterMode(display=False) as counter, forward_ad.dual_level():
            F.conv2d(forward_ad.make_dual(x, tangent), WIDE, LONG, padding=1)
        return counter.get_total_flops()

    theirs = operations()
    with FewerOperations():
        assert operations() == theirs * 2 // 3 > 0


def test_normalisations_of_images_have_few_operations_and_others_those_of_torch(monkeypatch):
    used, plain = [], tangents.normalisation_grads
    monkeypatch.setattr(tangents, "normalisation_grads", lambda grad, *rest: used.append(1) or plain(grad, *rest))
    for shape in ((2, 4, 5, 6), (2, 4, 5)):
        x, tangent = torch.randn(2, *shape, dtype=torch.float64, generator=seeded(1)).unbind()
        theirs = derivatives(lambda x, w, b: F.group_norm(x, 2, w, b), x, tangent, (GAIN, SHIFT))
        with FewerOperations():
            ours = derivatives(lambda x, w, b: F.group_norm(x, 2, w, b), x, tangent, (GAIN, SHIFT))
        assert all(torch.allclose(*pair, rtol=0, atol=1e-12) for pair in zip(ours, theirs, strict=True))
    assert len(used) == 2  # of the images: the tangent and the gradient


@pytest.mark.parametrize("case", ["convolution", "normalisation"])
@pytest.mark.parametrize("which", [0, 1])
def test_tangents_of_weights_are_refused(case, which):
    function, weights = CASES[case]
    x, tangent = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=seeded(1)).unbind()
    with FewerOperations(), forward_ad.dual_level():
        moving = [forward_ad.make_dual(w, torch.ones_like(w)) if i == which else w for i, w in enumerate(weights)]
        x = forward_ad.make_dual(x, tangent)
        with pytest.raises(NotImplementedError, match="of a weight or bias"):
            function(x, *moving)


def test_under_autocast_the_functions_are_those_of_torch(monkeypatch):
    monkeypatch.setattr(tangents, "FASTER", dict.fromkeys(tangents.FASTER))
    x = torch.randn(2, 4, 5, 6)
    with FewerOperations():
        with torch.autocast("cpu", torch.bfloat16):
            assert F.conv2d(x, WIDE.float()).dtype == torch.bfloat16
        assert F.conv2d(input=x, weight=WIDE.float()).shape == (2, 6, 3, 4)


def losses_and_gradients(model, batch):
    loss = model.loss(batch, "all", 0, seeded(5))
    return [loss.total.detach(), *grad(loss.total, list(model.parameters()))]


def test_meanflows_loss_and_gradients_are_those_with_torchs_functions(monkeypatch):
    data = DataSpec(1, 8, 12, 17)
    config = MeanFlowConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.2)
    torch.manual_seed(0)
    model = MeanFlow(data, config).double().train()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=seeded(p.numel()))
    x = torch.rand(3, 1, 8, 12, dtype=torch.float64, generator=seeded(4)) * 2 - 1
    batch = Batch(x, x)
    ours = losses_and_gradients(model, batch)
    monkeypatch.setattr(tangents, "FASTER", {})
    theirs = losses_and_gradients(model, batch)
    assert len(ours) > 20
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)
