"""Distances between pairs of images by the features of a network, for path lengths and translation.

    lpips-vgg16   sum over five layers of VGG16 of a learned weighting of the squared difference of its channels, each
                  position's channels scaled to length 1 (Zhang et al. 2018, eq. 1), averaged over positions;
                  torch-fidelity's numbers, images resized to 64x64 as its path length does
    classifier    |f(a) / |f(a)| - f(b) / |f(b)||^2, f the features of the classifier shipped for the dataset; needs no
                  further weights; its values compare only with each other

Both are quadratic in a small change, so that their quotient by the square of a step has a limit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genbench.errors import DataError
from genbench.features import weight_files
from genbench.features.base import DEFAULT, FeatureOptions
from genbench.features.classifier import ClassifierExtractor, index
from genbench.features.pretrained import filled
from genbench.features.threads import map_on_threads
from genbench.options import nearest

SIMILARITIES = ("classifier", "lpips-vgg16")
_SIDE = 64  # side length in pixels of the images that LPIPS compares
_READ_AFTER = (3, 8, 15, 22, 29)  # VGG16's layers whose output LPIPS compares: the last ReLU of each block
_BATCH = 32


class Similarity(ABC):
    """A distance (B,) float32 of two batches of images; 0 for equal ones."""

    def __call__(self, pixels_a: Tensor, pixels_b: Tensor, levels: int = 256) -> Tensor:
        """Distances of grey-level indices (B, C, H, W) uint8 in 0 .. levels-1."""
        return self.of_unit(pixels_a.float() / (levels - 1), pixels_b.float() / (levels - 1))

    @abstractmethod
    def of_unit(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of images (B, C, H, W) float in [0, 1], not quantised."""


def load_similarity(
    name: str, dataset: str, device: str | torch.device = "cpu", options: FeatureOptions = DEFAULT
) -> Similarity:
    """The similarity of that name for a dataset; DataError for a pair that does not exist or weights that are missing.

    options.weights must be a folder: LPIPS has two files, VGG16's and its own.
    """
    protocol_fields(name, dataset, options)
    return Lpips(device, options) if name == "lpips-vgg16" else ClassifierSimilarity(f"{dataset}-classifier", device)


def protocol_fields(name: str, dataset: str, options: FeatureOptions = DEFAULT) -> dict[str, Any]:
    """The protocol fields of a similarity; raises as load_similarity."""
    if name not in SIMILARITIES:
        allowed = ", ".join(SIMILARITIES)
        raise DataError(f"unknown similarity '{name}'{nearest(name, SIMILARITIES) or ';'} allowed: {allowed}")
    if name == "lpips-vgg16":
        hashes = [located.sha256 for located in _located(options)]
        return {
            "similarity": name,
            "similarity_weights": hashes,
            "similarity_resize": f"{_SIDE}x{_SIDE}, area or bilinear",
        }
    full = f"{dataset}-classifier"
    if full not in index():
        served = ", ".join(listed["dataset"] for listed in index().values())
        raise DataError(f"similarity 'classifier': found dataset '{dataset}', allowed: {served}; use lpips-vgg16")
    return {"similarity": full, "similarity_weights": index()[full]["sha256"], "similarity_resize": "none"}


def _located(options: FeatureOptions) -> list[weight_files.LocatedFile]:
    named = weight_files.named_path(options)
    files = weight_files.VGG16, weight_files.LPIPS
    if named is not None and named.is_file():
        names = " and ".join(file.name for file in files)
        raise DataError(f"lpips-vgg16: found weights {named}, allowed: a folder with {names}")
    return [weight_files.locate("lpips-vgg16", file, options) for file in files]


class ClassifierSimilarity(Similarity):
    """By the features of a shipped classifier, in float64, which keeps enough digits of a small step."""

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        self.device = torch.device("cpu" if torch.device(device).type == "mps" else device)  # MPS has no float64
        self.net = ClassifierExtractor(name, self.device).net.double()

    @torch.inference_mode()
    def of_unit(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of images (B, C, H, W) float in [0, 1]."""
        with torch.autocast(self.device.type, enabled=False):
            seen_a, seen_b = (F.normalize(self.net.features(x.to(self.device).double()), dim=1) for x in (a, b))
            return (seen_a - seen_b).square().sum(1).float()


class Lpips(Similarity):
    """LPIPS on VGG16 (version 0.1) at _SIDE x _SIDE, in float32."""

    def __init__(self, device: str | torch.device = "cpu", options: FeatureOptions = DEFAULT) -> None:
        """Finds, checks and loads both files of weights. Raises DataError when that fails."""
        self.device = torch.device(device)
        vgg16, own = (_read(file, options) for file in (weight_files.VGG16, weight_files.LPIPS))
        net = filled(_vgg16, vgg16, "vgg16").to(self.device).eval().requires_grad_(False)
        self.layers = list(net.get_submodule("features").children())[: _READ_AFTER[-1] + 1]
        self.weights = [own.tensors[f"lin{i}.model.1.weight"].to(self.device) for i in range(len(_READ_AFTER))]

    def of_unit(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of images (B, C, H, W) float in [0, 1]. Grey images are repeated to three channels."""
        pairs = list(zip(a.to(self.device).split(_BATCH), b.to(self.device).split(_BATCH), strict=True))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat(
                map_on_threads(self._distance, pairs) if self.device.type == "cpu" else [*map(self._distance, pairs)]
            )

    @torch.inference_mode()
    def _distance(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            seen_a, seen_b = (self._see(x) for x in pair)
            terms = [F.conv2d((x - y).square(), w) for x, y, w in zip(seen_a, seen_b, self.weights, strict=True)]
            return torch.stack([term.mean((1, 2, 3)) for term in terms]).sum(0)

    def _see(self, x: Tensor) -> list[Tensor]:
        from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS, normalize_tensor

        x = SampleSimilarityLPIPS.resize(SampleSimilarityLPIPS.normalize(255 * x.float().expand(-1, 3, -1, -1)), _SIDE)
        seen = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in _READ_AFTER:
                seen.append(normalize_tensor(x))
        return seen


def _vgg16() -> nn.Module:
    from torchvision.models import vgg16

    return vgg16(init_weights=False)


def _read(published: weight_files.Published, options: FeatureOptions) -> weight_files.WeightTensors:
    return weight_files.read_tensors(weight_files.fetch("lpips-vgg16", published, options), published)
