"""The two base classes: `Draws`, which draws images, and `Model`, which genbench trains too."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from genbench.contract.images import Batch, Condition, DataSpec
from genbench.contract.training import Loss, Recipe, Stage
from genbench.errors import ModelError
from genbench.options import NoOptions, check_options


@dataclass(frozen=True)
class DiffusersPart:
    """A component of a pipeline of diffusers.

    kind: its class, "module:Class". settings: the arguments. weights: from the component's name of a tensor to the
    tensor; None for a component without weights.
    """

    kind: str
    settings: dict[str, Any]
    weights: Callable[[str], Tensor] | None = None


@dataclass(frozen=True)
class DiffusersParts:
    """A diffusion model as a pipeline of diffusers.

    pipeline: its class, "module:Class". parts: components by name. call: the arguments with which it draws as the model
    does. further: other entries of model_index.json. A class of another package than diffusers or transformers is
    copied with its file and the files beside it that it imports; they must import nothing but those two and torch.
    """

    pipeline: str
    parts: dict[str, DiffusersPart]
    call: dict[str, Any]
    further: dict[str, Any] = field(default_factory=dict)


class Draws(nn.Module, ABC):
    """Anything that draws images: the base of Model, and enough for a network that genbench does not train.

    Config: frozen dataclass of sizes and constants; changing it means training again.
    Sampler: frozen dataclass of the options of drawing (steps, eta, temperature, ...), which need no new weights.
    Both declare bounds and choices in their annotations (genbench.options). A rule between several fields is checked
    in __post_init__, which raises ValueError("field: found ..., allowed: ..."); a rule between an option and the data
    is checked in the model's __init__, which raises ModelError("Model: config.field: found ..., allowed: ...").
    family: "gan", "vae", "flow", "diffusion", "flow matching", "autoregressive" or other words, shown beside the name.
    components: networks of a diffusers pipeline, by the names of their folders, that `adopted` reads together.

        class Exported(Draws):
            @classmethod
            def files(cls, config):
                return ("generator.pt",)

            def __init__(self, data, config=None, sampler=None):
                super().__init__(data, config, sampler)
                self.graph = torch.jit.load(self.beside("generator.pt"))

            def sample(self, n, gen, condition=None):
                return self.graph(torch.randn(n, 64, generator=gen, device=gen.device))
    """

    family: ClassVar[str] = ""
    Config: ClassVar[type] = NoOptions
    Sampler: ClassVar[type] = NoOptions
    components: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Stores the data's shape, the config (default: the preset for this data) and the sampler's options.

        Raises ModelError for an option outside its bounds.
        """
        super().__init__()
        self.data = data
        self.config = self.preset(data) if config is None else config
        self.sampler = self.Sampler() if sampler is None else sampler
        for part, options in (("config", self.config), ("sampler", self.sampler)):
            try:
                check_options(options)
            except ValueError as error:
                raise ModelError(f"{type(self).__name__}: {part}.{error}") from None

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The default Config for images of this size; a suite's `config:` overrides single fields."""
        return cls.Config()

    @classmethod
    def files(cls, config: Any) -> tuple[str | Path, ...]:
        """Files and folders that the class reads when it is built or draws, relative to its own file; default: none.

        Their content is part of the keys of weights and samples: a replaced file is measured again.
        """
        return ()

    def adopted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Weights of another library's network of the same architecture, under the names of this model's state_dict.

        settings: that library's config of the network, empty where it is not known. Of a pipeline whose folder has the
        class's `components`, state has the tensors of all of them, such as "unet.conv_in.weight", and settings the
        contents of the pipeline's other files, such as "unet/config.json". Weights with other names are returned as
        they are, which is the default. Raises ModelError for a network of another architecture.
        """
        return state

    def for_diffusers(self) -> DiffusersParts | None:
        """The model as a pipeline of diffusers; None, the default, for one that diffusers does not have.

        Raises ModelError for options that diffusers does not have.
        """
        return None

    def for_onnx(self, n: int, gen: Generator) -> tuple[nn.Module, tuple[Tensor, ...]] | None:
        """A network from standard normal noise, and classes, to images, and its inputs for n images.

        The noise is what `sample` draws first from gen. None, the default: `decode` is exported, with latents that
        `noise` draws, of a model that Decodes, and nothing of another one.
        """
        return None

    @classmethod
    def beside(cls, name: str | Path) -> Path:
        """The path of a file relative to the file of the class."""
        return Path(inspect.getfile(cls)).absolute().parent / name

    @abstractmethod
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """N images (n, C, H, W), float in [-1, 1]; all randomness from gen, which lives on the model's device."""

    @property
    def caveat(self) -> str:
        """A sentence for the page: what a reader of the numbers must know about the samples, or ""."""
        return ""

    @property
    def evaluations(self) -> int | None:
        """Network evaluations of one image when sampling (NFE); None where they depend on the image (only for Steps).

        Counted as rows: classifier-free guidance is two evaluations a step, whether it calls the network twice or once
        with a doubled batch.
        """
        return 1

    def __repr__(self) -> str:
        """One line; `print(list(model.children()))` shows the layers."""
        shape, count = "x".join(map(str, self.data.shape)), self.parameter_count
        size = "" if count is None else f", {count:,} parameters"
        return f"{type(self).__name__}({shape}, {self.data.levels} levels{size}, {self.config}, {self.sampler})"

    @property
    def parameter_count(self) -> int | None:
        """Number of parameters, all players together; None where it is not known, as of a graph that is wrapped.

        A class with weights that are not torch's parameters overrides it. By default the number is unknown for a class
        that reads files, and for one that has a single number, which often only stands for the device.
        """
        count = sum(p.numel() for p in self.parameters())
        return None if count <= 1 or type(self).files(self.config) else count

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for a model without parameters."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))


class Model(Draws):
    """A deep generative model that genbench trains.

    stages: the training algorithm as data; the trainer differentiates each turn's loss for that player's parameters.

        class MeanImage(Model):
            def __init__(self, data, config=None, sampler=None):
                super().__init__(data, config, sampler)
                self.mean = nn.Parameter(torch.zeros(data.shape))

            def loss(self, batch, player, step, gen):
                return Loss((batch.x - self.mean).square().mean())

            def sample(self, n, gen, condition=None):
                return self.mean.expand(n, -1, -1, -1)
    """

    stages: ClassVar[tuple[Stage, ...]] = (Stage("fit", turns=("all",)),)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The default optimiser settings for images of this size; a suite's `train:` overrides single fields."""
        return Recipe()

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """Config and recipe of `preset: small`, for about 15 minutes of a CPU core; default: `preset` and `recipe`."""
        return cls.preset(data), cls.recipe(data)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each turn updates, by player."""
        return {"all": list(self.parameters())}

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Data-dependent initialisation, called once with the first batch before the first step; default: nothing.

        Always with the whole batch: where several processes train, each of them calls it with the same images.
        """

    def settle(self, gen: Generator) -> None:
        """Called once after training with the averaged weights, e.g. to measure batch statistics; default: nothing."""

    @abstractmethod
    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """What `player` minimises on this batch; step counts from 0 within the stage."""
