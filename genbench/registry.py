"""Names to objects: the zoo by short name, anybody's class by `module:Class` or `path/to/file.py:Class`.

genbench never imports the zoo by statement; a user's class stands on equal terms with it. Installed packages can add
names through the entry-point group "genbench.models".
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from genbench.errors import ModelError
from genbench.options import nearest

ZOO = {
    "gan": "zoo.gan:GAN",
    "dcgan": "zoo.dcgan:DCGAN",
    "cgan": "zoo.cgan:CGAN",
    "cyclegan": "zoo.cyclegan:CycleGAN",
    "vae": "zoo.vae:VAE",
    "realnvp": "zoo.realnvp:RealNVP",
    "glow": "zoo.glow:Glow",
    "stylegan": "zoo.stylegan:StyleGAN",
    "latent_diffusion": "zoo.latent_diffusion:LatentDiffusion",
    "ddpm": "zoo.ddpm:DDPM",
    "ddim": "zoo.ddim:DDIM",
}


def model_names() -> dict[str, str]:
    """Every short model name and the `module:Class` it stands for; entry points may add, not replace."""
    added = {point.name: point.value for point in entry_points(group="genbench.models")}
    return {**added, **ZOO}


def resolve_model(name: str, source: str | None = None, folder: Path | None = None) -> type:
    """The class behind a short name, or behind `source` when one is given.

    folder: where a relative file path starts. Raises ModelError when it cannot be found or is not a Model.
    """
    from genbench.contract import Draws

    names = model_names()
    if source is None and name not in names:
        raise ModelError(
            f"unknown model '{name}'{nearest(name, names) or ';'} allowed: {', '.join(sorted(names))}, or source"
        )
    target = source or names[name]
    found = load_object(target, folder)
    if not (isinstance(found, type) and issubclass(found, Draws)):
        what = "a class that is not a" if isinstance(found, type) else f"{type(found).__name__}, not a"
        raise ModelError(f"'{target}' is {what} genbench.contract.Model or Draws")
    return found


def load_object(target: str, folder: Path | None = None) -> Any:
    """The object named by `module:Object` or `path/to/file.py:Object`."""
    place, _, attribute = target.rpartition(":")
    if not place or not attribute:
        raise ModelError(f"'{target}': found no object name, allowed: module:Class or path/to/file.py:Class")
    module = _load_file((folder or Path()) / Path(place).expanduser()) if place.endswith(".py") else _load_module(place)
    if not hasattr(module, attribute):
        names = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise ModelError(f"'{place}' has no '{attribute}'{nearest(attribute, names) or ';'} it has: {', '.join(names)}")
    return getattr(module, attribute)


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"module '{name}' cannot be imported: {error}") from error


def _load_file(path: Path) -> Any:
    path = path.resolve()
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    name = f"genbench_source_{path.stem}_{abs(hash(str(path)))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ModelError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module
