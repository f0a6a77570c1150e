"""The pretrained extractors: torch-fidelity's networks, with weights that genbench reads and checks.

    inception-v3-compat   pool3, 2048 numbers; class probabilities; spatial features
    vgg16                 the second fully connected layer after ReLU, 4096 numbers
    clip-*                the image embedding
    dinov2-vit-*          the normalised class token

An image is converted to 256 levels, resized, repeated to three channels when grey, and normalised as in the training of
the network. On the CPU small batches in channels-last layout are processed, one thread for each core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genbench.errors import DataError
from genbench.features import weight_files
from genbench.features.base import DEFAULT, Extractor, FeatureOptions, Features
from genbench.features.resize import ABOUT as POLICY_ABOUT
from genbench.features.resize import POLICIES, TF1, resize, to_bytes
from genbench.features.seen import Seen
from genbench.features.threads import map_on_threads
from genbench.features.weight_files import PUBLISHED_FILES, WeightTensors
from genbench.options import nearest
from genbench.progress import alive
from genbench.space import to_device

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_CPU_BATCH, _DEVICE_BATCH = 16, 128
Build = Callable[[str, WeightTensors, torch.dtype], nn.Module]
Scaling = tuple[tuple[float, ...], tuple[float, ...]]
_HALF: Scaling = (128.0,) * 3, (128.0,) * 3  # mean and standard deviation of the input, in 0..255
_IMAGENET: Scaling = (255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)
_OPENAI: Scaling = (
    (255 * 0.48145466, 255 * 0.4578275, 255 * 0.40821073),
    (255 * 0.26862954, 255 * 0.26130258, 255 * 0.27577711),
)
_CLIP_SIZES = {"clip-rn50x4": 288, "clip-rn50x16": 384, "clip-rn50x64": 448, "clip-vit-l-14-336px": 336}


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network: side length of its input in pixels, how it is scaled, which layer is read, how it is built."""

    size: int
    scaling: Scaling
    layer: str
    build: Build


class Vectors(nn.Module):
    """A network whose output is the vectors."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Seen:
        """The network's output for images x."""
        return Seen(self.net(x))


def filled(make: Callable[[], nn.Module], weights: WeightTensors, name: str) -> nn.Module:
    """The network that make() describes, with these weights in float32; DataError for weights of another network."""
    with torch.device("meta"):
        net = make()
    try:
        net.load_state_dict(weights.tensors, assign=True)
    except RuntimeError as error:
        raise not_of(name, weights, error) from error
    return net.float()


def not_of(name: str, weights: WeightTensors, error: Exception) -> DataError:
    """The error of weights that do not fit."""
    return DataError(f"{weights.path}: found other weights than those of {name}: {' '.join(str(error).split())[:200]}")


def _inception(name: str, weights: WeightTensors, precision: torch.dtype) -> nn.Module:
    from genbench.features.inception import Inception, folded

    return folded(filled(Inception, weights, name), precision)


def _vgg16(name: str, weights: WeightTensors, precision: torch.dtype) -> nn.Module:
    from torchvision.models import vgg16

    net = filled(lambda: vgg16(init_weights=False), weights, name)
    net.classifier = net.classifier[:5]  # type: ignore[index]
    return Vectors(net.to(precision))


def _clip(name: str, weights: WeightTensors, precision: torch.dtype) -> nn.Module:
    from torch_fidelity.feature_extractor_clip import build_model

    try:
        return Vectors(build_model(weights.tensors, torch.float32).visual.to(precision))
    except (KeyError, RuntimeError) as error:
        raise not_of(name, weights, error) from error


def _dinov2(name: str, weights: WeightTensors, precision: torch.dtype) -> nn.Module:
    from genbench.features.dinov2 import SIZES, DinoV2

    size = SIZES[name.split("-")[2]]
    return Vectors(filled(lambda: DinoV2(*size), weights, name).to(precision))


def _clip_network(name: str) -> PretrainedNetwork:
    return PretrainedNetwork(_CLIP_SIZES.get(name, 224), _OPENAI, "image embedding", _clip)


def _dinov2_network() -> PretrainedNetwork:
    return PretrainedNetwork(224, _IMAGENET, "normalised class token", _dinov2)


_INCEPTION = PretrainedNetwork(
    299, _HALF,
    "pool3; probabilities: softmax of logits_unbiased; spatial: 7 channels of mixed_6/conv", _inception,
)  # fmt: skip
PRETRAINED_NETWORKS = {
    "inception-v3-compat": _INCEPTION,
    "vgg16": PretrainedNetwork(224, _IMAGENET, "fc2 after ReLU", _vgg16),
    **{name: _clip_network(name) for name in PUBLISHED_FILES if name.startswith("clip")},
    **{name: _dinov2_network() for name in PUBLISHED_FILES if name.startswith("dinov2")},
}


def protocol_fields(name: str, options: FeatureOptions) -> dict[str, Any]:
    """The protocol fields of a pretrained extractor. Raises DataError for weights or options that do not exist."""
    policy = resizing_policy(options)
    size = PRETRAINED_NETWORKS[name].size
    return {
        "extractor": name,
        "extractor_weights": weight_files.locate(name, PUBLISHED_FILES[name], options).sha256,
        "feature_layer": PRETRAINED_NETWORKS[name].layer,
        "resize": f"{POLICY_ABOUT[policy]}, to {size}x{size}",
        "pixel_range": "level k of L as round(255 k / (L - 1)), uint8",
        "grey": "repeated to three channels",
        "feature_precision": options.precision,
    }


def resizing_policy(options: FeatureOptions) -> str:
    """The resizing policy of the options; DataError for a policy or precision that does not exist."""
    for key, value, allowed in (
        ("resize", options.resize or TF1, POLICIES),
        ("precision", options.precision, _PRECISIONS),
    ):
        if value not in allowed:
            raise DataError(f"{key}: found '{value}'{nearest(value, allowed) or ';'} allowed: {', '.join(allowed)}")
    return options.resize or TF1


class Pretrained(Extractor):
    """A pretrained network as an extractor; float32 unless options.precision is "bf16", inside autocast too."""

    def __init__(self, name: str, device: str | torch.device = "cpu", options: FeatureOptions = DEFAULT) -> None:
        """Finds, checks and loads the weights. Raises DataError when that fails."""
        self.name = name
        self.kind = PRETRAINED_NETWORKS[name]
        self.policy = resizing_policy(options)
        self.device = torch.device(device)
        self.dtype = _PRECISIONS[options.precision]
        path = weight_files.fetch(name, PUBLISHED_FILES[name], options)
        self.weights_hash = weight_files.sha256(path)
        net = self.kind.build(name, weight_files.read_tensors(path, PUBLISHED_FILES[name]), self.dtype)
        self.net = net.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.mean, self.deviation = (torch.tensor(x, device=self.device)[:, None, None] for x in self.kind.scaling)

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey or colour images. Raises DataError for images that have neither one channel nor three."""
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise DataError(f"{self.name}: images of shape {tuple(pixels.shape)}, allowed: (N, 1 or 3, H, W)")
        on_cpu = self.device.type == "cpu"
        parts, see = (
            pixels.split(min(batch, _CPU_BATCH if on_cpu else _DEVICE_BATCH)),
            partial(self._see, levels=levels),
        )
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as on the CPU
            seen = map_on_threads(lambda part: _fetched(see(part)), parts) if on_cpu else _pipelined(see, parts)
        vectors, probabilities, spatial = (_joined(column) for column in zip(*seen, strict=True))
        assert vectors is not None
        return Features(vectors, probabilities, spatial)

    @torch.inference_mode()
    def _see(self, pixels: Tensor, levels: int) -> Seen:
        with torch.autocast(self.device.type, enabled=False):
            x = resize(to_bytes(to_device(pixels, self.device), levels).float(), self.kind.size, self.policy)
            x = ((x - self.mean) / self.deviation).to(self.dtype, memory_format=torch.channels_last)
            return self.net(x)


def _pipelined(see: Callable[[Tensor], Seen], parts: Sequence[Tensor]) -> list[tuple[Tensor | None, ...]]:
    """The fetched features of all parts; a part is fetched after the next one was sent, so the device never idles."""
    fetched, sent = [], see(parts[0])
    for part in parts[1:]:
        alive()
        earlier, sent = sent, see(part)
        fetched.append(_fetched(earlier))
    return [*fetched, _fetched(sent)]


@torch.inference_mode()
def _fetched(seen: Seen) -> tuple[Tensor | None, ...]:
    """Vectors, probabilities and spatial features, float32 on the CPU."""
    probabilities = None if seen.logits is None else seen.logits.cpu().double().softmax(1)
    return tuple(None if t is None else t.float().cpu() for t in (seen.vectors, probabilities, seen.spatial))


def _joined(column: tuple[Tensor | None, ...]) -> np.ndarray | None:
    tensors = [part for part in column if part is not None]
    return torch.cat(tensors).numpy() if tensors else None
