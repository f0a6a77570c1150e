"""Generators as ONNX graphs, run by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from genbench.adapters.base import Adapter, bound_class, existing_file, library
from genbench.adapters.graphs import Graph, GraphConfig
from genbench.contract import ClassConditional, Decodes
from genbench.errors import ModelError
from genbench.files import real_path

FLOATS = (
    1,
    10,
    11,
    16,
)  # of onnx.TensorProto: float32, float16, float64, bfloat16; whole numbers are shapes and indices
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class OnnxConfig(GraphConfig):
    """As GraphConfig. provider: what runs the graph."""

    provider: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Session:
    """A session of onnxruntime and its inputs. Copies of a model share it: it has no state, and cannot be copied."""

    run: Callable[..., Any]
    inputs: tuple[Any, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self


class Onnx(Graph):
    """A generator saved as ONNX. Noise and images are on the CPU, whatever runs the graph."""

    Config = OnnxConfig
    count: ClassVar[int | None] = None

    def __init__(self, data: Any, config: Any = None, sampler: Any = None) -> None:
        """Raises ModelError for a file that onnxruntime cannot run."""
        super().__init__(data, config, sampler)
        session = open_session(self.beside(self.named[0]), self.config.provider)
        self.session = Session(session.run, tuple(session.get_inputs()))

    def call(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """As Graph."""
        given = [noise] if labels is None else [noise, labels]
        feed = {i.name: t.cpu().to(torch_type(i.type)).numpy() for i, t in zip(self.session.inputs, given, strict=True)}
        return torch.from_numpy(self.session.run(None, feed)[0]).to(noise.device)

    @property
    def parameter_count(self) -> int | None:
        """The numbers of the graph's initializers, where they are not known None."""
        return self.count or None


def bind_onnx(text: str, folder: Path) -> Any:
    """The class for an ONNX file, whose inputs decide its abilities."""
    path = existing_file(text, folder, "onnx")
    model = read_graph(path)
    outside = external_files(model, path)
    session = open_session(path, "cpu")
    inputs = session.get_inputs()
    if len(inputs) not in (1, 2):
        names = ", ".join(i.name for i in inputs)
        raise ModelError(f"onnx:{text}: a graph with inputs {names}, allowed: noise, or noise and class")
    batch, *shape = inputs[0].shape or [None]
    stated = tuple(shape) if all(isinstance(size, int) for size in shape) else ()
    beside = tuple(str(Path(text).parent / name) for name in outside)
    facts = {
        "named": (text, *beside),
        "stated_noise": stated,
        "fixed_batch": batch if isinstance(batch, int) else 0,
        "stated_labels": "one_hot" if len(inputs) == 2 and "float" in inputs[1].type else "index",
        "count": sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type in FLOATS),
    }
    return bound_class(Onnx, folder, Decodes if len(inputs) == 1 else ClassConditional, **facts)


def read_graph(path: Path) -> Any:
    """The graph without the tensors that are in other files. Raises ModelError for another file."""
    onnx = library("onnx", "onnx", "onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own types
        raise ModelError(f"{path}: cannot be read as ONNX: {str(error).splitlines()[0]}") from None
    domains = {node.domain for node in model.graph.node} - {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "com.microsoft",
        "pkg.onnxscript.torch_lib",
    }
    if domains - {function.domain for function in model.functions}:
        raise ModelError(f"{path}: operators of {', '.join(sorted(domains))}, allowed: those of ONNX and onnxruntime")
    return model


def external_files(model: Any, path: Path) -> list[str]:
    """The names of files beside the graph with its larger tensors. Raises ModelError for one in another folder."""
    names = {entry.value for tensor in tensors_in(model) for entry in tensor.external_data if entry.key == "location"}
    for name in sorted(names):
        target = real_path(path.parent / name)
        if real_path(path.parent) not in target.parents or not target.is_file():
            raise ModelError(f"{path}: reads tensors from '{name}', allowed: a file in its own folder")
    return sorted(names)


def tensors_in(message: Any) -> Iterator[Any]:
    """Every tensor inside a message of ONNX: of graphs, graphs inside nodes, functions and attributes."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part.DESCRIPTOR.name == "TensorProto":
            yield part
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def open_session(path: Path, provider: str) -> Any:
    """An onnxruntime session with as many threads as torch. Raises ModelError for a graph that it refuses."""
    runtime = library("onnxruntime", "onnx", "onnx")
    wanted = PROVIDERS[provider]
    if wanted not in runtime.get_available_providers():
        raise ModelError(
            f"onnx: config.provider: found '{provider}', which this onnxruntime does not have; allowed: cpu"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # onnxruntime's own types
        raise ModelError(f"{path}: cannot be run by onnxruntime: {str(error).splitlines()[0]}") from None


def torch_type(name: str) -> torch.dtype:
    """The type of an input by its name in ONNX, e.g. "tensor(float)"."""
    names = {"float": "float32", "double": "float64"}
    plain = name.removeprefix("tensor(").removesuffix(")")
    dtype: torch.dtype = getattr(torch, names.get(plain, plain))
    return dtype


ONNX = Adapter("a generator as an ONNX graph, run by onnxruntime", bind_onnx)
