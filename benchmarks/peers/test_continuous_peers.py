"""Flow matching, EDM and MeanFlow against diffusers, torchcfm and torchdiffeq: `make bench-peers`.

Both sides have U-Nets of the same architecture and as many parameters, take the same number of steps and run in the
same precision; the weights are random. A training step is our trainer's on either side: with diffusers' network in our
model, and with torchcfm's network and loss. The adaptive solvers have the same method, tolerance and network; each
chooses its own steps, so that its aim is the ratio of the evaluations. No package on PyPI has PixelCNN++: common
implementations draw a pixel by a pass over the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from contest import play
from torch import Tensor
from unets import (
    BATCH,
    BLOCK,
    COLOUR,
    CONFIG,
    LAYOUTS,
    PRECISIONS,
    STEPS,
    WIDTHS,
    Adapter,
    autocast,
    diffusers,
    parameters,
    their_network,
    training,
)

from genbench.contract import Batch, DataSpec, Loss, Model
from genbench.draw.blocks import draw_block
from genbench.sources.build import load_model
from genbench.space import seeded
from zoo.flow_matching import closest_noise
from zoo.pixelcnn import draw_pixels, mixture, open_uniform

SAMPLERS: dict[str, dict[str, Any]] = {
    "flow_matching": {"steps": STEPS, "solver": "euler"},
    "edm": {"steps": STEPS, "solver": "euler"},
}
SHARES = [1 - i / STEPS for i in range(STEPS)]  # of the noise at the steps of flow matching
GREY = DataSpec(1, 8, 8)


# ---- diffusers ------------------------------------------------------------------------------------------------------


def prepared(name: str) -> Any:
    """Their scheduler with the steps of our sampler."""
    if name == "edm":
        scheduler = diffusers.EDMEulerScheduler(0.002, 80.0, sigma_data=0.5)
        scheduler.set_timesteps(STEPS)
        return scheduler
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=SHARES)
    return scheduler


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling(benchmark, name: str, precision: str, setting: str):
    model = load_model(name, data=COLOUR, sampler=SAMPLERS[name], **CONFIG)
    network = their_network(setting).eval()
    assert parameters(model) == parameters(network)

    def theirs() -> Tensor:
        with torch.inference_mode(), autocast(precision):
            scheduler = prepared(name)
            x = torch.randn(BLOCK, *COLOUR.shape, generator=seeded(0)) * (scheduler.sigmas[0])
            for t in scheduler.timesteps:
                scaled = scheduler.scale_model_input(x, t) if name == "edm" else x
                x = scheduler.step(network(scaled, t).sample, t, x).prev_sample
            return (x / 2 + 0.5).clamp(0, 1)

    what = f"{name}, {STEPS} Euler steps of {BLOCK} images, {precision}, diffusers {setting}"
    play(benchmark, what, BLOCK, 1.0, lambda: draw_block(model, 0, 0, BLOCK, precision), theirs)


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["flow_matching", "edm", "mean_flow"])
def test_training(benchmark, name: str, precision: str, setting: str):
    ours, theirs = (load_model(name, data=COLOUR, **CONFIG) for _ in range(2))
    theirs.network = Adapter(their_network(setting))
    assert parameters(ours) == parameters(theirs)
    what = f"training {name}, batch {BATCH}, {precision}, diffusers {setting}"
    play(benchmark, what, BATCH, 0.9, training(ours, precision).step, training(theirs, precision).step)


# ---- torchcfm and torchdiffeq ---------------------------------------------------------------------------------------


def cfm_network(setting: str) -> Any:
    """The same U-Net in torchcfm, whose normalisations always have 32 groups."""
    unet = pytest.importorskip("torchcfm.models.unet.unet", reason="an optional peer")
    torch.manual_seed(0)
    network = unet.UNetModelWrapper(
        COLOUR.shape, WIDTHS[0], 1, channel_mult=(1, 2), num_heads=1, attention_resolutions="64"
    )
    return network.to(memory_format=LAYOUTS[setting])


class ConditionalFlow(Model):
    """torchcfm's network and matcher as a model, so that the same trainer trains it."""

    def __init__(self, pairing: str, setting: str) -> None:
        super().__init__(COLOUR)
        from torchcfm import conditional_flow_matching as cfm

        kinds = {"independent": cfm.ConditionalFlowMatcher, "optimal": cfm.ExactOptimalTransportConditionalFlowMatcher}
        self.matcher, self.network = kinds[pairing](sigma=0.0), cfm_network(setting)

    def loss(self, batch: Batch, player: str, step: int, gen: torch.Generator) -> Loss:
        t, x_t, velocity = self.matcher.sample_location_and_conditional_flow(torch.randn_like(batch.x), batch.x)
        error = (self.network(t, x_t) - velocity).square().mean()
        return Loss(error, {"mse": error})

    def sample(self, n: int, gen: torch.Generator, condition: None = None) -> Tensor:
        raise NotImplementedError


def our_flow(pairing: str = "independent", **sampler: Any) -> Model:
    """Flow matching with torchcfm's groups."""
    return load_model("flow_matching", data=COLOUR, sampler=sampler, **CONFIG | {"groups": 32, "pairing": pairing})


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("pairing", ["independent", "optimal"])
def test_training_against_torchcfm(benchmark, pairing: str, setting: str):
    ours, theirs = our_flow(pairing), ConditionalFlow(pairing, setting)
    assert parameters(ours) == parameters(theirs)
    what = f"training flow_matching, {pairing} pairing, batch {BATCH}, fp32, torchcfm {setting}"
    play(benchmark, what, BATCH, 0.9, training(ours, "fp32").step, training(theirs, "fp32").step)


@pytest.mark.parametrize("setting", LAYOUTS)
def test_sampling_against_torchcfm(benchmark, setting: str):
    torchdiffeq = pytest.importorskip("torchdiffeq", reason="an optional peer")
    model, network = our_flow(steps=STEPS), cfm_network(setting).eval()

    def theirs() -> Tensor:
        with torch.inference_mode():
            x = torch.randn(BLOCK, *COLOUR.shape, generator=seeded(0))
            return torchdiffeq.odeint(network, x, torch.linspace(0, 1, STEPS + 1), method="euler")[-1].clamp(-1, 1)

    what = f"flow_matching, {STEPS} Euler steps of {BLOCK} images, fp32, torchdiffeq, torchcfm's network {setting}"
    play(benchmark, what, BLOCK, 1.0, lambda: draw_block(model, 0, 0, BLOCK), theirs)


def test_adaptive_solver(benchmark):
    """One network on both sides, and the evaluations of an image, which the solvers choose."""
    torchdiffeq = pytest.importorskip("torchdiffeq", reason="an optional peer")
    model, images = our_flow(solver="adaptive", tolerance=1e-3), 4
    torch.nn.init.normal_(model.network.last.weight, std=0.01, generator=seeded(0))  # an untrained velocity is 0
    evaluated: list[int] = []
    model.network.register_forward_hook(lambda network, inputs, output: evaluated.append(len(output)))

    def field(t: Tensor, x: Tensor) -> Tensor:
        return model.network(x, t.expand(len(x)))

    def theirs() -> Tensor:
        with torch.inference_mode():
            x, ends = torch.randn(images, *COLOUR.shape, generator=seeded(0)), torch.tensor([0.0, 1.0])
            return torchdiffeq.odeint(field, x, ends, rtol=1e-3, atol=1e-3)[-1].clamp(-1, 1)

    def ours() -> Tensor:
        return draw_block(model, 0, 0, images)

    counts = []
    for call in (ours, theirs):
        evaluated.clear()
        call()
        counts.append(sum(evaluated) / images)
    what = (
        f"flow_matching, adaptive, {images} images, torchdiffeq's dopri5; evaluations {counts[0]:g} and {counts[1]:g}"
    )
    play(benchmark, what, images, round(counts[1] / counts[0], 3), ours, theirs)


@pytest.mark.parametrize("batch", [16, 128, 512])
def test_pairing(benchmark, batch: int):
    transport = pytest.importorskip("torchcfm.optimal_transport", reason="an optional peer")
    sampler = transport.OTPlanSampler("exact")
    x, noise = torch.randn(2, batch, *COLOUR.shape, generator=seeded(0))
    play(
        benchmark, f"optimal pairing of {batch} images, torchcfm", batch, 0.9,
        lambda: closest_noise(x, noise), lambda: sampler.sample_plan(noise, x, replace=False),
    )  # fmt: skip


# ---- PixelCNN++ -----------------------------------------------------------------------------------------------------


def whole_passes(model: Any, n: int) -> Callable[[], Tensor]:
    """Draws n images with one pass over the whole image for each pixel."""

    @torch.inference_mode()
    def draw() -> Tensor:
        gen, c, data = seeded(0), model.config.components, model.data
        choice = open_uniform((n, c, data.height, data.width), gen)
        uniform, x = open_uniform((n, *data.shape), gen), torch.zeros(n, *data.shape)
        for i, j in product(range(data.height), range(data.width)):
            here = (slice(None), slice(None), slice(i, i + 1), slice(j, j + 1))
            m = mixture(model.network(x)[here], c, data.channels)
            x[here] = draw_pixels(m, choice[here], uniform[here], data.levels)
        return x

    return draw


def test_pixelcnn(benchmark):
    model, images = load_model("pixelcnn", data=GREY), 4
    what = f"pixelcnn, {images} images of 8x8, a whole pass for each pixel"
    play(benchmark, what, images, 1.0, lambda: draw_block(model, 0, 0, images), whole_passes(model, images))
