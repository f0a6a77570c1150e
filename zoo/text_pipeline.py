"""Latent diffusion with a text encoder of bytes as a pipeline of diffusers, whose own pipelines need CLIP's.

`genbench export` copies this file into the folder of the pipeline; it needs torch and diffusers alone:

    pipeline = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)
    images = pipeline(["a three", "a four"]).images

U-Net, autoencoder and scheduler are UNet2DConditionModel, AutoencoderKL and DDIMScheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.attention import BasicTransformerBlock
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

PADDING, TOKENS = 256, 257  # the token after the last byte, and the number of tokens


class ByteTextModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """Texts to contextual features (B, length, width): embeddings of UTF-8 byte and position, then a transformer."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(TOKENS, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([BasicTransformerBlock(width, heads, width // heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Features of texts, which are cut or filled up to the length."""
        length = self.config.length
        rows = [list(text.encode()[:length]) for text in texts]
        tokens = torch.tensor([row + [PADDING] * (length - len(row)) for row in rows], device=self.device)
        h = self.token(tokens) + self.position.weight
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


class TextPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """Draws latents with classifier-free guidance by the steps of the scheduler, and decodes them."""

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(self, unet: Any, vae: Any, text_encoder: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, text_encoder=text_encoder, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        num_inference_steps: int = 20,
        guidance_scale: float = 1.5,
        eta: float = 0.0,
        negative_prompt: str | Sequence[str] | None = None,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draws an image for each prompt; guidance 0 ignores it, 1 draws from the conditional model."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        other = negative_prompt or ""
        without = [other] * len(prompts) if isinstance(other, str) else list(other)
        if len(without) != len(prompts):
            raise ValueError(f"negative_prompt: found {len(without)} texts, allowed: one, or {len(prompts)}")
        text, empty = self.text_encoder(prompts), self.text_encoder(without)
        settings = self.unet.config
        shape = (len(prompts), settings.in_channels, *settings.sample_size)
        z = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=z.device)
        for t in self.progress_bar(self.scheduler.timesteps):
            if guidance_scale in (0, 1):  # a term of weight 0 is not evaluated
                eps = self.unet(z, t, text if guidance_scale else empty).sample
            else:
                base = self.unet(z, t, empty).sample
                eps = base + guidance_scale * (self.unet(z, t, text).sample - base)
            z = self.scheduler.step(eps, t, z, eta=eta, generator=generator).prev_sample
        x = self.vae.decode(z / self.vae.config.scaling_factor).sample
        images = VaeImageProcessor().postprocess(x.clamp(-1, 1), output_type=output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)
