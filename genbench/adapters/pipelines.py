"""Pipelines of diffusers, from a folder: unconditional, for a class, or for a text; drawn by their own code.

What a pipeline can do is read from its files: the arguments of its class state whether it accepts a prompt or a class,
and a U-Net on pixels with a discrete-time scheduler has the likelihoods of zoo.discrete. Every image has a generator of
its own, so that it does not depend on how many are drawn together.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genbench import hub
from genbench.adapters.base import Adapted, Adapter, bound_class, library
from genbench.adapters.pipeline_errors import why_not_drawn
from genbench.adapters.pipeline_files import (
    INDEX,
    NETWORKS,
    call_signature,
    class_count,
    is_discrete,
    is_on_hub,
    load_pipeline,
    pipeline_folder,
    read_json,
)
from genbench.adapters.schedulers import make_scheduler, step_count
from genbench.contract import ClassConditional, Condition, Count, DataSpec, Share, Steps, TextConditional
from genbench.errors import CellFailure, ModelError, Undefined
from genbench.options import choice
from genbench.registry import load_object

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LATENT = ("vae", "vqvae", "vqgan", "movq", "text_encoder")  # with one of these the U-Net is not on pixels
CHAIN = "zoo.discrete:DiscreteChain"
VARIANCES = {
    "fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "fixed_large_log": "large",
    "learned_range": "learned",
}  # fmt: skip
EVERY_SEED = 2**63 - 1
WISHES = ("prompt", "class_labels")  # arguments of a call that genbench has values for
OWN_ARGUMENTS = (  # that other options set
    *WISHES, "batch_size", "height", "width", "guidance_scale", "eta", "negative_prompt", "generator",
    "num_inference_steps", "output_type", "return_dict", "num_images_per_prompt", "latents",
)  # fmt: skip


@dataclass(frozen=True)
class PipelineConfig:
    """Where and how a pipeline is held.

    variant: of its files, as "fp16". size: height and width that are drawn; None: the data's where the pipeline
    accepts a size, else its own. resize: whether images of another size are brought to the data's (bicubic,
    antialiased). classes: the pipeline's number of each class of the data; (): the same numbers. batch: images drawn
    together at most. slicing: attention and decoder work in slices, which needs less memory. offload: weights wait in
    the CPU's memory and visit the device a component ("model") or a layer ("layer") at a time. compile: the network.
    trust_remote_code: run Python files of the pipeline.
    """

    variant: str = ""
    size: tuple[Count, Count] | None = None
    resize: bool = False
    classes: tuple[int, ...] = ()
    batch: Count = 32
    slicing: bool = False
    offload: Literal["none", "model", "layer"] = "none"
    compile: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class PipelineSampler:
    """How a pipeline draws; what is not given is the pipeline's own.

    steps: of the scheduler; the pipeline's own are at most the scheduler's times. scheduler: a class of diffusers.
    scheduler_options: arguments of it, over those of the pipeline's scheduler. guidance, eta, negative_prompt: where
    the pipeline accepts them. call: further arguments of its call, such as max_sequence_length. dtype: of weights and
    arithmetic.
    """

    steps: Count | None = None
    scheduler: str = ""
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    guidance: float | None = None
    eta: Share | None = None
    negative_prompt: str | None = None
    call: dict[str, Any] = field(default_factory=dict)
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"


class Pipeline(Adapted, Steps):
    """A pipeline of diffusers, drawn by its own code.

    root: its folder. index: its model_index.json. accepts: the arguments of its class and their defaults.
    """

    family = "diffusion"
    Config = PipelineConfig
    Sampler = PipelineSampler
    root: ClassVar[Path]
    index: ClassVar[Mapping[str, Any]]
    accepts: ClassVar[Mapping[str, Any]]

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Loads the pipeline. Raises ModelError for options that it does not have, and for images of another shape."""
        super().__init__(data, config, sampler)
        self._refuse_options()
        self.pipeline = load_pipeline(self.root, self.index, self.config, DTYPES[self.sampler.dtype])
        self.pipeline.scheduler = make_scheduler(self.pipeline.scheduler, self.sampler, type(self).__name__)
        self.held = [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)  # where the pipeline is to compute
        if self.config.offload == "none":
            self.parts = nn.ModuleList(self.held)  # moved with the model
        if self.config.slicing:
            use_slices(self.pipeline)
        if self.config.compile:
            self.denoiser.compile()
        self.prepared = False

    def _refuse_options(self) -> None:
        given = {"guidance_scale": self.sampler.guidance, "eta": self.sampler.eta,
                 "negative_prompt": self.sampler.negative_prompt}  # fmt: skip
        for argument, value in given.items():
            name = argument.removesuffix("_scale")
            if value is not None and argument not in self.accepts:
                raise ModelError(f"{type(self).__name__}: sampler.{name}: found {value!r}, which it does not accept")
        allowed = [name for name in self.accepts if name not in OWN_ARGUMENTS]
        for name in self.sampler.call:
            if name not in allowed:
                raise ModelError(f"{type(self).__name__}: sampler.call.{name}: unknown key{choice(name, allowed)}")

    @classmethod
    def beside(cls, name: str | Path) -> Path:
        """The pipeline's folder, or another file relative to the suite."""
        return cls.root if str(name) == cls.named[0] else super().beside(name)

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts noise."""
        networks = (getattr(self.pipeline, name, None) for name in NETWORKS)
        network = next((network for network in networks if isinstance(network, nn.Module)), None)
        if network is None:
            parts = ", ".join(self.pipeline.components)
            raise ModelError(f"{type(self).__name__}: found {parts}, required: one of {', '.join(NETWORKS)}")
        return network

    @property
    def parameter_count(self) -> int | None:
        """Of all components."""
        return sum(p.numel() for part in self.held for p in part.parameters())

    @property
    def steps(self) -> int:
        """Steps asked of the scheduler: where none are given the pipeline's own, but not more than it has times."""
        if self.sampler.steps is not None:
            return self.sampler.steps
        own = int(self.accepts["num_inference_steps"])
        return min(own, self.pipeline.scheduler.config.get("num_train_timesteps") or own)

    @property
    def evaluations(self) -> int:
        """Of the scheduler's steps; twice as many with guidance that needs a second evaluation."""
        return step_count(self.pipeline.scheduler, self.steps) * (2 if self._is_guided else 1)

    @property
    def _is_guided(self) -> bool:
        """Whether each step also evaluates the network for the negative prompt, as far as its arguments tell."""
        if "true_cfg_scale" in self.accepts:  # of distilled pipelines, for which guidance is a number of the network
            scale = self.sampler.call.get("true_cfg_scale", self.accepts["true_cfg_scale"])
            return scale > 1 and self.sampler.negative_prompt is not None
        guidance = self.accepts.get("guidance_scale") if self.sampler.guidance is None else self.sampler.guidance
        settings: Any = self.denoiser.config
        distilled = settings.get("guidance_embeds") or settings.get("time_cond_proj_dim") is not None
        return guidance is not None and guidance > 1 and not distilled

    @property
    def caveat(self) -> str:
        """That the pipeline's code draws."""
        version = library("diffusers", "diffusers", "diffusers").__version__
        return f"drawn and timed as {type(self.pipeline).__name__} of diffusers {version} runs"

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W), of the condition's classes or texts."""
        self._prepare(gen.device)
        seeds = torch.randint(EVERY_SEED, (n,), generator=gen, device=gen.device).tolist()
        wishes = self.wishes(n, condition)
        size, parts = self.config.batch, []
        for i in range(0, n, size):
            chosen = {name: values[i : i + size] for name, values in wishes.items()}
            gens = [Generator(device=gen.device).manual_seed(seed) for seed in seeds[i : i + size]]
            parts.append(self._images(self.call(len(gens), gens, chosen)))
        return torch.cat(parts).to(gen.device)

    def _prepare(self, device: torch.device) -> None:
        if self.prepared or self.config.offload == "none":
            return
        if device.type == "cpu":
            found = f"found '{self.config.offload}' on a CPU, whose memory has the weights anyway"
            raise CellFailure(f"{type(self).__name__}: config.offload: {found}; allowed there: none")
        enable = {"model": "enable_model_cpu_offload", "layer": "enable_sequential_cpu_offload"}[self.config.offload]
        getattr(self.pipeline, enable)(device=device)
        self.prepared = True

    def wishes(self, n: int, condition: Condition | None) -> dict[str, list[Any]]:
        """Arguments of the call that have a value for each image."""
        if condition is not None and condition.labels is not None:
            labels, numbers = condition.labels.tolist(), self.config.classes
            return {"class_labels": [numbers[label] for label in labels] if numbers else labels}
        if condition is not None and condition.texts is not None:
            negative = self.sampler.negative_prompt
            texts = {"prompt": list(condition.texts)}
            return texts | ({} if negative is None else {"negative_prompt": [negative] * n})
        return {}

    def call(self, n: int, gens: list[Generator], wishes: dict[str, list[Any]]) -> Any:
        """The pipeline's images in [0, 1]: a tensor (n, C, H, W), or an array (n, H, W, C) from older pipelines."""
        size = self.config.size or (self.data.height, self.data.width)
        given = {"batch_size": n, "height": size[0], "width": size[1], "guidance_scale": self.sampler.guidance,
                 "eta": self.sampler.eta, "use_resolution_binning": False, "return_dict": True}  # fmt: skip
        wanted = {name: value for name, value in given.items() if name in self.accepts and value is not None}
        call = {**wishes, **wanted, "num_inference_steps": self.steps, "output_type": "pt", **self.sampler.call}
        try:
            drawn = self.pipeline(**call, generator=gens)
        except Exception as error:
            if reason := why_not_drawn(error):
                raise CellFailure(f"{type(self).__name__}: {reason}") from error
            raise
        if not hasattr(drawn, "images"):
            raise CellFailure(f"{type(self).__name__}: draws {', '.join(drawn)}, required: images")
        return drawn.images

    def _images(self, images: Any) -> Tensor:
        x = images if isinstance(images, Tensor) else torch.from_numpy(images).movedim(-1, 1)
        x = x.float() * 2 - 1
        if x.shape[1] != self.data.channels or (x.shape[2:] != self.data.shape[1:] and not self.config.resize):
            found, wanted = "x".join(map(str, x.shape[1:])), "x".join(map(str, self.data.shape))
            remedy = "" if x.shape[1] != self.data.channels else "; config.resize: true resizes them"
            raise ModelError(f"{type(self).__name__}: draws images of {found}, the data has {wanted}{remedy}")
        if x.shape[2:] != self.data.shape[1:]:
            x = F.interpolate(x, self.data.shape[1:], mode="bicubic", antialias=True).clamp(-1, 1)
        return x


class PixelPipeline(Pipeline):
    """A pipeline whose U-Net is on pixels in a discrete-time process; `DiscreteChain` adds the likelihoods."""

    @property
    def chain(self) -> Any:
        """The network, and the process of the pipeline's scheduler."""
        scheduler = self.pipeline.scheduler
        settings, beta = scheduler.config, scheduler.betas.double().cpu()
        kind = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}[settings.prediction_type]
        variance = VARIANCES.get(settings.get("variance_type", ""))
        reason = self._no_bound(len(beta), variance)
        chain = load_object("zoo.discrete:Chain")
        return chain(self._predict, beta, kind, variance or "large", bool(settings.get("clip_sample")), reason)

    def _no_bound(self, total: int, variance: str | None) -> str:
        scheduler = self.pipeline.scheduler
        if type(scheduler).__name__ != "DDPMScheduler" or self.steps != total:
            return f"this row draws with {type(scheduler).__name__} in {self.steps}"
        clips = scheduler.config.get("thresholding") or scheduler.config.get("clip_sample_range", 1.0) != 1.0
        if variance is None or clips:
            return "its scheduler clips or has a variance in a way that genbench does not have"
        return ""

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        network = self.denoiser
        if t.is_floating_point() and self.pipeline.unet.config.get("time_embedding_type") == "learned":
            raise Undefined("the network has a table of its times, hence no prediction between two of them")
        prediction: Tensor = network(x.to(next(network.parameters()).dtype), t, return_dict=False)[0]
        return prediction.float()


def bind_pipeline(text: str, folder: Path) -> Any:
    """The class for a pipeline in a folder or on the hub."""
    return bind_folder(text, pipeline_folder(text, folder), folder)


def pin_pipeline(text: str, folder: Path) -> str:
    """A name of the hub with its revision; a folder as it is."""
    return hub.with_revision(text) if is_on_hub(text, folder) else text


def bind_folder(text: str, root: Path, folder: Path) -> Any:
    """The class for the pipeline in `root`, which the suite in `folder` names `text`."""
    index = read_json(root / INDEX)
    diffusers = library("diffusers", "diffusers", "diffusers")
    name, signature = call_signature(index, root)
    parameters = signature.parameters
    accepts = {name: p.default for name, p in parameters.items() if name != "self"}
    varied = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind not in varied]
    unknown = [name for name in required if name not in ("self", *WISHES)]
    if unknown:
        raise ModelError(f"diffusers:{text}: {name} requires {unknown[0]}, allowed: {', '.join(WISHES)}")
    abilities = [kind for kind, able in (
        (TextConditional, "prompt" in accepts),
        (ClassConditional, "class_labels" in accepts and class_count(root) > 0),
    ) if able]  # fmt: skip
    pixels = "unet" in index and not set(index) & set(LATENT) and is_discrete(root) and not abilities
    kind = PixelPipeline if pixels else Pipeline
    chain = [load_object(CHAIN)] if pixels else []
    facts: dict[str, Any] = {"name": name, "named": (text,), "root": root, "index": index, "accepts": accepts}
    return bound_class(kind, folder, *chain, *abilities, text=f"diffusers {diffusers.__version__}", **facts)


def use_slices(pipeline: Any) -> None:
    """Attention in slices, and decoding of one image at a time."""
    pipeline.enable_attention_slicing()
    vae = getattr(pipeline, "vae", None)
    if vae is not None and hasattr(vae, "enable_slicing"):
        vae.enable_slicing()


DIFFUSERS = Adapter("a pipeline of diffusers, in a folder or on the hub", bind_pipeline, pin_pipeline)
