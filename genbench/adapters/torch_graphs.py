"""Graphs exported by PyTorch: TorchScript (torch.jit.save) and programs of torch.export (.pt2)."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genbench.adapters.base import Adapter, bound_class, existing_file
from genbench.adapters.graphs import Graph
from genbench.contract import ClassConditional, Decodes
from genbench.errors import ModelError
from genbench.files import refuse_inflated

# What a program of torch.export may call: operators with namespace, name and overload, and arithmetic on sizes.
TARGETS = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)+|_operator\.\w+|math\.\w+|torch\.(_sym|sym)_\w+|#\w+|\w+")
# What a size may be computed from: numbers, symbols with assumptions, and sympy's functions, which are capitalised.
SIZE_WORD = re.compile(r"[A-Z]\w*|\d+(\.\d+)?|'\w+'|[a-z]+(?==)|[a-z]+_?\d+")
SIZE_SIGNS = re.compile(r"[\s()+\-*/%,<>=&|~]")


class TorchScript(Graph):
    """A generator saved by torch.jit.save."""

    def __init__(self, data: Any, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        self.graph = load_script(self.beside(self.named[0]))

    def call(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """As Graph."""
        output: Tensor = self.graph(noise) if labels is None else self.graph(noise, labels)
        return output

    @property
    def parameter_count(self) -> int | None:
        """The parameters of the graph; None for one that holds them as constants."""
        return sum(p.numel() for p in self.parameters()) or None


class ExportedProgram(TorchScript):
    """A generator saved by torch.export.save."""

    def __init__(self, data: Any, config: Any = None, sampler: Any = None) -> None:
        Graph.__init__(self, data, config, sampler)
        self.graph = load_program(self.beside(self.named[0])).module()

    def train(self, mode: bool = True) -> ExportedProgram:
        """Sets the flags alone: a program is exported in one mode, and its modules refuse another."""
        for module in self.modules():
            module.training = mode
        return self


def bind_torch(text: str, folder: Path) -> Any:
    """The class for a TorchScript file or a .pt2 file."""
    path = existing_file(text, folder, "torchscript")
    refuse_inflated(path, ModelError)
    return _bind_program(text, folder) if _is_program(path) else _bind_script(text, folder)


def _bind_script(text: str, folder: Path) -> Any:
    graph = load_script(existing_file(text, folder, "torchscript"))
    inputs = graph.forward.schema.arguments[1:]
    return bound_class(TorchScript, folder, _ability(len(inputs), text), named=(text,))


def _bind_program(text: str, folder: Path) -> Any:
    program = load_program(existing_file(text, folder, "torchscript"))
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [values[name] for name in program.graph_signature.user_inputs]
    facts: dict[str, Any] = {"named": (text,)}
    if inputs and isinstance(inputs[0], Tensor):
        batch, *shape = inputs[0].shape
        facts |= {"fixed_batch": batch if isinstance(batch, int) else 0}
        facts |= {"stated_noise": tuple(shape) if all(isinstance(size, int) for size in shape) else ()}
    if len(inputs) == 2:
        facts |= {"stated_labels": "one_hot" if inputs[1].is_floating_point() else "index"}
    return bound_class(ExportedProgram, folder, _ability(len(inputs), text), **facts)


def _ability(inputs: int, text: str) -> type:
    if inputs not in (1, 2):
        raise ModelError(f"torchscript:{text}: a graph of {inputs} inputs, allowed: noise, or noise and class")
    return Decodes if inputs == 1 else ClassConditional


def load_script(path: Path) -> Any:
    """The module of a TorchScript file, on the CPU in eval mode. Raises ModelError for any other file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: cannot be read as TorchScript or as a program of torch.export: {reason}") from None
    return module.eval()


def _is_program(path: Path) -> bool:
    return zipfile.is_zipfile(path) and any(name.endswith("archive_format") for name in _members(path))


def load_program(path: Path) -> Any:
    """The program of a .pt2 file. Raises ModelError for one that holds pickled objects or calls anything but operators.

    torch.export.load would unpickle such objects and call any function that a program names.
    """
    problem = next(program_problems(path), "")
    if problem:
        raise ModelError(f"{path}: {problem}")
    try:
        return torch.export.load(path)
    except Exception as error:  # whatever a damaged archive makes torch raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: cannot be read as a program of torch.export: {reason}") from None


def program_problems(path: Path) -> Iterator[str]:
    """Why a .pt2 file is not loaded."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".json"):
                yield from _unsafe_parts(name, json.loads(content))
            elif name.rpartition("/")[2].startswith("custom_obj") or _is_pickled(content):
                yield f"'{name}' holds Python objects, which are not run; export a program of tensors alone"


def _is_pickled(content: bytes) -> bool:
    """Whether a member needs more than tensors and plain containers to be loaded."""
    if content[:2] not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return False  # raw numbers or text
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return True
    return False


def _unsafe_parts(name: str, value: Any) -> Iterator[str]:
    """What in the JSON of a program could run other code than operators."""
    for key, part in _pairs(value):
        if key == "use_pickle" and part:
            yield f"'{name}' asks for pickled tensors; export them as they are"
        if key == "target" and isinstance(part, str) and not TARGETS.fullmatch(part):
            yield f"'{name}' calls '{part[:60]}', allowed: operators of torch.ops"
        if key == "expr_str" and isinstance(part, str) and not _is_size(part):
            yield f"'{name}' has '{part[:60]}' for a size, allowed: arithmetic"


def _is_size(text: str) -> bool:
    """Whether a text that torch evaluates is arithmetic on symbols: no attribute, no function in lower case."""
    return not SIZE_SIGNS.sub("", SIZE_WORD.sub("", text))


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield str(key), part
        yield from _pairs(part)


def _members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


TORCHSCRIPT = Adapter("a generator as TorchScript or as a program of torch.export (.pt2)", bind_torch)
