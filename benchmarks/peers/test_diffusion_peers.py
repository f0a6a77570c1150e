"""DDPM and DDIM against diffusers' pipelines and U-Net of the same architecture: `make bench-peers`.

Both sides have as many parameters, take the same number of steps and run in the same precision; diffusers' network is
timed as it comes, and tuned: in channels_last. In the training step both networks are in our model and our
trainer: the same loss, optimiser and average. The weights are random.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contest import play
from unets import (
    BATCH,
    BLOCK,
    COLOUR,
    CONFIG,
    LAYOUTS,
    PRECISIONS,
    STEPS,
    Adapter,
    autocast,
    diffusers,
    parameters,
    their_network,
    training,
)

from genbench.draw.blocks import draw_block
from genbench.sources.build import load_model
from genbench.space import seeded


def pipeline(name: str, network: Any) -> Any:
    """Their pipeline, silent."""
    kinds = {
        "ddpm": (diffusers.DDPMPipeline, diffusers.DDPMScheduler),
        "ddim": (diffusers.DDIMPipeline, diffusers.DDIMScheduler),
    }
    make, scheduler = kinds[name]
    found = make(unet=network.eval(), scheduler=scheduler())
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_sampling(benchmark, name: str, precision: str, setting: str):
    options = {"ddpm": ({"steps": STEPS}, {}), "ddim": ({}, {"steps": STEPS})}
    config, sampler = options[name]
    model = load_model(name, data=COLOUR, sampler=sampler, **CONFIG, **config)
    network = their_network(setting)
    assert parameters(model) == parameters(network)
    pipe = pipeline(name, network)

    def theirs() -> None:
        with torch.inference_mode(), autocast(precision):
            pipe(batch_size=BLOCK, generator=seeded(0), num_inference_steps=STEPS, output_type="np")

    what = f"{name}, {STEPS} steps of {BLOCK} images, {precision}, diffusers {setting}"
    play(benchmark, what, BLOCK, 1.0, lambda: draw_block(model, 0, 0, BLOCK, precision), theirs)


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_training(benchmark, precision: str, setting: str):
    ours, theirs = (load_model("ddpm", data=COLOUR, **CONFIG) for _ in range(2))
    theirs.network = Adapter(their_network(setting))
    assert parameters(ours) == parameters(theirs)
    what = f"training ddpm, batch {BATCH}, {precision}, diffusers {setting}"
    play(benchmark, what, BATCH, 0.9, training(ours, precision).step, training(theirs, precision).step)
