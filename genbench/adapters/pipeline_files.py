"""The files of a diffusers pipeline: which class it names, what its network is, and how it is loaded."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from genbench.adapters.base import library, located_in
from genbench.errors import ModelError
from genbench.files import read_json_object
from genbench.hub import hub_folder, is_hub_name

INDEX = "model_index.json"
NETWORKS = ("unet", "transformer", "prior")  # components that predict noise, by name
CHECKERS = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")  # components that are not needed
PLAIN_LIBRARIES = ("diffusers", "transformers")


def pipeline_folder(text: str, folder: Path) -> Path:
    """The folder of a pipeline. Raises ModelError when there is none."""
    root = hub_folder(text) if is_on_hub(text, folder) else located_in(folder, text)
    if not (root / INDEX).is_file():
        found = f"a folder without {INDEX}" if root.is_dir() else "nothing"
        raise ModelError(f"diffusers:{text}: found {found} at {root}, allowed: the folder of a pipeline")
    return root


def is_on_hub(text: str, folder: Path) -> bool:
    """Whether a text is a name of the hub, and not a folder of this machine."""
    return is_hub_name(text) and not located_in(folder, text).exists()


def call_signature(index: Mapping[str, Any], root: Path) -> tuple[str, inspect.Signature]:
    """The name of a pipeline's class, and the arguments of its call; a Python file of the pipeline is not executed.

    Raises ModelError for a class that neither diffusers nor the folder has.
    """
    name = index.get("_class_name")
    if (
        isinstance(name, list)
        and len(name) == 2
        and all(isinstance(part, str) and part.isidentifier() for part in name)
    ):
        return name[1], written_signature(root / f"{name[0]}.py", name[1])
    kind = pipeline_class(index, root)
    return kind.__name__, inspect.signature(kind.__call__)


def written_signature(file: Path, name: str) -> inspect.Signature:
    """The arguments of `__call__` of a class in a file, read without executing it."""
    if not file.is_file():
        raise ModelError(f"{file}: not found, required: the file of the pipeline's class {name}")
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"{file}: no Python: {error}") from None
    kinds = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name]
    calls = [node for kind in kinds for node in kind.body if isinstance(node, ast.FunctionDef)]
    call = next((node for node in calls if node.name == "__call__"), None)
    if call is None:
        raise ModelError(f"{file}: found no class {name} with __call__, required: both in this file")
    return inspect.Signature([*_parameters(call.args)])


def _parameters(args: ast.arguments) -> Iterator[inspect.Parameter]:
    """Parameters with their defaults; one that is no constant is None."""
    positional = [*args.posonlyargs, *args.args]
    without = [inspect.Parameter.empty] * (len(positional) - len(args.defaults))
    for arg, default in zip(positional, [*without, *args.defaults], strict=True):
        yield inspect.Parameter(arg.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=_constant(default))
    for arg, written in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        default = inspect.Parameter.empty if written is None else written
        yield inspect.Parameter(arg.arg, inspect.Parameter.KEYWORD_ONLY, default=_constant(default))


def _constant(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return default
    try:
        return ast.literal_eval(default)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def pipeline_class(index: Mapping[str, Any], root: Path) -> Any:
    """The class of diffusers that a pipeline names. Raises ModelError for one that diffusers does not have."""
    diffusers, name = library("diffusers", "diffusers", "diffusers"), index.get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        allowed = "a pipeline of the installed diffusers"
        raise ModelError(f"{root / INDEX}: _class_name: found {name!r}, allowed: {allowed}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError for anything else."""
    return read_json_object(path, ModelError)


def component_settings(root: Path, *names: str) -> dict[str, Any]:
    """The config.json of the first component that is there; of the folder itself in the oldest layout."""
    files = [root / name / "config.json" for name in names] + [root / "config.json"]
    return next((read_json(path) for path in files if path.is_file()), {})


def class_count(root: Path) -> int:
    """Classes of the network, 0 for none."""
    settings = component_settings(root, *NETWORKS)
    return int(settings.get("num_class_embeds") or settings.get("num_embeds_ada_norm") or 0)


def is_discrete(root: Path) -> bool:
    """Whether the scheduler is of a discrete-time process whose network predicts eps, x_0 or v."""
    paths = (root / "scheduler" / "scheduler_config.json", root / "scheduler_config.json")
    settings = next((read_json(path) for path in paths if path.is_file()), {})
    known = settings.get("prediction_type", "epsilon") in ("epsilon", "sample", "v_prediction")
    return known and "beta_start" in settings


def load_pipeline(root: Path, index: Mapping[str, Any], config: Any, dtype: torch.dtype) -> Any:
    """The pipeline, without a network connection. Raises ModelError where it cannot be loaded as it is configured."""
    if not config.trust_remote_code:
        refuse_remote_code(index, root)
    diffusers = library("diffusers", "diffusers", "diffusers")
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()  # it would be drawn over that of genbench
    # By default the lock of a bar, even of a disabled one, is a semaphore, which a worker that ends at once leaves.
    import_module("tqdm").tqdm.set_lock(RLock())
    unused = {name: None for name in CHECKERS if name in index}
    options: dict[str, Any] = {"variant": config.variant} if config.variant else {}
    options |= {"trust_remote_code": True} if config.trust_remote_code else {}
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(root), local_files_only=True, dtype=dtype, low_cpu_mem_usage=True, **unused, **options
        )
    except Exception as error:  # of diffusers, transformers, safetensors or pickle
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{root}: cannot be loaded by diffusers: {reason}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def refuse_remote_code(index: Mapping[str, Any], root: Path) -> None:
    """Raises ModelError for a pipeline with Python files of its own."""
    own = index.get("_class_name")
    parts = {"_class_name": own[0]} if isinstance(own, list) else {}
    parts |= {name: value[0] for name, value in index.items() if isinstance(value, list) and name[0] != "_" and value}
    for name, package in parts.items():
        if package is not None and package not in PLAIN_LIBRARIES and not hasattr(pipelines_module(), str(package)):
            allowed = f"{', '.join(PLAIN_LIBRARIES)}, unless config.trust_remote_code is true"
            raise ModelError(f"{root / INDEX}: {name}: found code of '{package}', allowed: {allowed}")


def pipelines_module() -> Any:
    """The package whose modules a pipeline may name for components of its own kind."""
    return library("diffusers.pipelines", "diffusers", "diffusers")
