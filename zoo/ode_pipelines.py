"""Flow matching and EDM as pipelines of diffusers, with the solvers of zoo.solvers, which diffusers' schedulers lack.

`genbench export` copies this file and solvers.py into the folder of the pipeline. They need torch and diffusers alone:

    pipeline = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)
    images = pipeline(batch_size=4).images

Every option of drawing is an argument of the call. Its default is that of this file, not that of the exported model's
sampler: README.md beside the folder has the call with the model's options.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .solvers import SOLVERS, adaptive, euler

TIME_SCALE = 1000.0  # from the time in flow matching, 0 to 1, to what its network receives


class _Pixels(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """A network on pixels."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def noise(self, batch_size: int, generator: Any) -> Tensor:
        """Standard normal numbers in the shape of images (B, C, H, W)."""
        settings = self.unet.config
        shape = (batch_size, settings.in_channels, *settings.sample_size)
        return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)

    def predict(self, x: Tensor, time: float | Tensor) -> Tensor:
        """The network's output (B, C, H, W) for images x at a time, or at a time for each (B,)."""
        times = time if isinstance(time, Tensor) else torch.full((len(x),), time, dtype=x.dtype, device=x.device)
        return self.unet(x, times, return_dict=False)[0]

    def finished(self, x: Tensor, output_type: str, return_dict: bool) -> Any:
        """Images of x in [-1, 1]."""
        images = VaeImageProcessor().postprocess(x.clamp(-1, 1), output_type=output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)


class FlowPipeline(_Pixels):
    """A flow from noise at time 0 to images at time 1, along the network's velocity."""

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = 50,
        solver: str = "euler",
        tolerance: float = 1e-3,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draws images. solver: "euler", "midpoint", "heun", or "adaptive" with this tolerance and no fixed steps."""
        x = self.noise(batch_size, generator)
        if solver == "adaptive":
            x = adaptive(lambda x, t: self.predict(x, TIME_SCALE * t), x, 0.0, 1.0, tolerance)
        else:
            times = [i / num_inference_steps for i in range(num_inference_steps + 1)]
            for t, to in pairwise(times):
                x = SOLVERS[solver][0](lambda x, t: self.predict(x, TIME_SCALE * t), x, t, to)
        return self.finished(x, output_type, return_dict)


class EDMPipeline(_Pixels):
    """Karras et al. 2022: dx / dsigma = (x - D(x; sigma)) / sigma along the levels of eq. 5, by Algorithms 1 and 2.

    The scheduler's config has sigma_min, sigma_max, rho and sigma_data.
    """

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = 18,
        solver: str = "heun",
        churn: float = 0.0,
        churn_from: float = 0.0,
        churn_to: float = 1000.0,
        churn_noise: float = 1.0,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draws images. solver: "heun" or "euler". churn and its three numbers: S_churn, S_tmin, S_tmax, S_noise."""
        levels, noise = self.levels(num_inference_steps), self.noise(batch_size, generator)
        x = levels[0] * noise
        for sigma, to in pairwise(levels):
            within = churn_from <= sigma <= churn_to
            gamma = min(churn / num_inference_steps, math.sqrt(2) - 1) if within else 0.0
            if gamma > 0:
                raised = sigma * (1 + gamma)
                x = x + math.sqrt(raised**2 - sigma**2) * churn_noise * self.noise(batch_size, generator)
                sigma = raised
            step = SOLVERS[solver][0] if to > 0 else euler
            x = step(self.slope, x, sigma, to)
        return self.finished(x, output_type, return_dict)

    def levels(self, steps: int) -> list[float]:
        """Eq. 5, and 0."""
        settings, last = self.scheduler.config, max(steps - 1, 1)
        start, end = (sigma ** (1 / settings.rho) for sigma in (settings.sigma_max, settings.sigma_min))
        return [*((start + i / last * (end - start)) ** settings.rho for i in range(steps)), 0.0]

    def slope(self, x: Tensor, sigma: float) -> Tensor:
        """(x - D(x; sigma)) / sigma with the factors of table 1."""
        data = self.scheduler.config.sigma_data
        variance = sigma**2 + data**2
        prediction = self.predict(x / math.sqrt(variance), math.log(sigma) / 4)
        return x * (sigma / variance) - prediction * (data / math.sqrt(variance))
