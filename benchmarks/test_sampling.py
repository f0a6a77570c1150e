"""Drawing a block from every zoo model: `make bench`. Random weights; diffusions take few steps."""

from __future__ import annotations

from typing import Any

import pytest
from subjects import MODELS, condition, fresh

from genbench.draw.blocks import draw_block

BLOCK = 64
SAMPLERS: dict[str, dict[str, Any]] = {"ddim": {"steps": 10}, "latent_diffusion": {"steps": 5}}
CONFIGS: dict[str, dict[str, Any]] = {"ddpm": {"steps": 20}}


@pytest.mark.parametrize("name", MODELS)
def test_sampling(benchmark, name: str):
    model = fresh(name, sampler=SAMPLERS.get(name), **CONFIGS.get(name, {}))
    _, _, evaluations = benchmark(draw_block, model, 0, 0, BLOCK, "fp32", condition(name, model, BLOCK))
    benchmark.extra_info.update(images=BLOCK, evaluations=evaluations)
