"""Weights of the pretrained networks: their addresses, the folders that are searched, and how they are read.

A file found by its published name must have its published SHA-256. A file that the user names directly is accepted with
any hash, and the hash is in the protocol. Nothing is unpickled: torch.load runs with weights_only, and a
TorchScript archive (OpenAI's form of _CLIP_URL) is opened only when its hash is the published one.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
import warnings
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genbench.errors import DataError
from genbench.features.base import FeatureOptions
from genbench.files import real_path, refuse_absent

_FIDELITY_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
_CLIP_URL = "https://openaipublic.azureedge.net/clip/models"
_DINO_URL = "https://dl.fbaipublicfiles.com/dinov2"


@dataclass(frozen=True)
class Published:
    """A published file of weights: the address and the SHA-256 (hex) of its content."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class LocatedFile:
    """A file of weights on this machine and its SHA-256; path is None for a file that is not downloaded yet."""

    path: Path | None
    sha256: str


@dataclass(frozen=True, eq=False)
class WeightTensors:
    """The tensors of a file by name, on the CPU."""

    path: Path
    tensors: dict[str, Tensor]


def _clip(name: str, sha256: str) -> Published:
    return Published(f"{_CLIP_URL}/{sha256}/{name}.pt", sha256)  # the address carries the hash


VGG16 = Published(
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
PUBLISHED_FILES = {
    "inception-v3-compat": Published(
        f"{_FIDELITY_URL}/weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "vgg16": VGG16,
    "clip-rn50": _clip("RN50", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "clip-rn101": _clip("RN101", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "clip-rn50x4": _clip("RN50x4", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "clip-rn50x16": _clip("RN50x16", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "clip-rn50x64": _clip("RN50x64", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "clip-vit-b-32": _clip("ViT-B-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "clip-vit-b-16": _clip("ViT-B-16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "clip-vit-l-14": _clip("ViT-L-14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "clip-vit-l-14-336px": _clip("ViT-L-14-336px", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
    "dinov2-vit-s-14": Published(
        f"{_DINO_URL}/dinov2_vits14/dinov2_vits14_pretrain.pth",
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2-vit-b-14": Published(
        f"{_DINO_URL}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2-vit-l-14": Published(
        f"{_DINO_URL}/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
}
LPIPS = Published(
    f"{_FIDELITY_URL}/weights-vgg16-lpips.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
)


def locate(what: str, published: Published, options: FeatureOptions) -> LocatedFile:
    """The weights of `what`, checked but not read. Raises DataError when they are missing or have another hash."""
    named = named_path(options)
    if named is not None and (named.is_file() or named.suffix in (".pth", ".pt", ".safetensors")):
        return LocatedFile(named, sha256(named))
    searched = folders_to_search(named)
    for folder in searched:
        if (folder / published.name).is_file():
            return _checked(folder / published.name, published)
    if options.download or os.environ.get("GENBENCH_DOWNLOAD") == "1":
        return LocatedFile(None, published.sha256)
    raise DataError(
        f"{what}: {published.name} (SHA-256 {published.sha256}, from {published.url}) not found in any of "
        f"{', '.join(map(str, searched))}; name its folder or the file with `weights` or $GENBENCH_WEIGHTS, or allow a "
        "download with `download` or GENBENCH_DOWNLOAD=1"
    )


def fetch(what: str, published: Published, options: FeatureOptions) -> Path:
    """The path of the weights of `what`, downloaded first if that is needed and allowed; raises as `locate`."""
    located = locate(what, published, options)
    if located.path is not None:
        return located.path
    folder = folders_to_search(named_path(options))[0]
    path = folder / published.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(published.url, str(path), published.sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise DataError(f"{what}: download of {published.url} to {folder} failed: {error}") from error
    return path


def named_path(options: FeatureOptions) -> Path | None:
    """The file or folder that the user names: the option, else $GENBENCH_WEIGHTS."""
    named = options.weights or os.environ.get("GENBENCH_WEIGHTS")
    return Path(named).expanduser() if named else None


def folders_to_search(named: Path | None) -> list[Path]:
    """The folders to search, in order; the last is the download folder of torch-fidelity and torchvision."""
    own = [named] if named is not None else []
    return [*own, user_cache_path("genbench") / "weights", Path(torch.hub.get_dir()) / "checkpoints"]


def _checked(path: Path, published: Published) -> LocatedFile:
    actual = sha256(path)
    if actual != published.sha256:
        raise DataError(
            f"{path}: found weights of SHA-256 {actual}, allowed: {published.sha256} (from {published.url}); "
            "other weights must be named by their file, not by its folder"
        )
    return LocatedFile(path, actual)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, computed once in a process unless the file changes; DataError when it is missing."""
    refuse_absent(path, DataError)
    state = path.stat()
    return _sha256(real_path(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _sha256(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path, published: Published) -> WeightTensors:
    """A state dict: .safetensors, torch.save's, or TorchScript with the published hash; DataError for anything else."""
    if is_torchscript(path):
        return WeightTensors(path, _read_torchscript(path, published))
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as a state dict of tensors: {_first_sentence(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: found {type(state).__name__}, allowed: a state dict, names to tensors")
    return WeightTensors(path, dict(state))


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, published: Published) -> dict[str, Tensor]:
    if sha256(path) != published.sha256:
        raise DataError(
            f"{path}: a TorchScript archive whose SHA-256 is not {published.sha256} is not opened; "
            "allowed: a state dict saved by torch.save, or .safetensors"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the file is published only in this form
        return dict(torch.jit.load(path, map_location="cpu").state_dict())


def _first_sentence(error: Exception) -> str:
    return re.split(r"\.\s", " ".join(str(error).split()))[0][:200]
