"""An extractor in a TorchScript file: a network of your own, with the size and the scaling of its input.

The file's code runs when it is loaded, so only `features: torchscript` or `--features torchscript` opens one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genbench.builtin import TorchScriptOptions
from genbench.errors import DataError
from genbench.features import weight_files
from genbench.features.base import Extractor, FeatureOptions, Features
from genbench.features.resize import ABOUT, CLEAN, POLICIES, resize, to_bytes
from genbench.options import nearest
from genbench.space import to_device

NAME = "torchscript"
BATCH = 64  # images at once, at most
# Mean and standard deviation that pixels in [0, 1] are normalised with.
SCALINGS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0,), (1.0,)), "symmetric": ((0.5,), (0.5,)), "bytes": ((0.0,), (1 / 255,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}  # fmt: skip


def protocol_fields(dataset: str, options: FeatureOptions) -> dict[str, Any]:
    """The hash of the file, and how its input is made. Raises DataError for a file or options that do not exist."""
    own = TorchScriptOptions(**options.own)
    policy = _policy(options)
    mean, deviation = scaling(own)
    size = "none" if own.size is None else f"{ABOUT[policy]}, to {own.size}x{own.size}"
    return {
        "extractor": NAME, "extractor_weights": weight_files.sha256(file_of(options)), "resize": size,
        "pixel_range": "level k of L as round(255 k / (L - 1)) / 255", "mean": list(mean), "std": list(deviation),
        "input_channels": own.channels,
    }  # fmt: skip


def file_of(options: FeatureOptions) -> Path:
    """The TorchScript file. Raises DataError where none is named, or it is another kind of file."""
    path = options.weights
    if path is None or not path.is_file():
        raise DataError(f"features 'torchscript': found weights {path or 'nothing'}, allowed: a TorchScript file")
    if not weight_files.is_torchscript(path):
        raise DataError(f"{path}: no TorchScript file, allowed: what torch.jit.save or ScriptModule.save wrote")
    return path


def scaling(own: TorchScriptOptions) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, for one or for each channel. Raises DataError for lists that do not fit."""
    if own.scaling != "given":
        if own.mean or own.std:
            raise DataError(f"extraction: found mean or std beside scaling '{own.scaling}', allowed: with 'given'")
        chosen = SCALINGS[own.scaling]
        return chosen if own.channels == 3 else (chosen[0][:1], chosen[1][:1])
    if {len(own.mean), len(own.std)} - {1, own.channels} or 0 in own.std:
        raise DataError(
            f"extraction: found mean {list(own.mean)} and std {list(own.std)}, allowed: 1 or {own.channels} numbers "
            "each, for pixels in [0, 1], std not 0"
        )
    return own.mean, own.std


def _policy(options: FeatureOptions) -> str:
    value = options.resize or CLEAN
    if value not in POLICIES:
        raise DataError(f"resize: found '{value}'{nearest(value, POLICIES) or ';'} allowed: {', '.join(POLICIES)}")
    return value


class TorchScriptExtractor(Extractor):
    """The network of a TorchScript file, in float32 and eval mode: (B, C, size, size) to vectors (B, D)."""

    name = NAME

    def __init__(self, dataset: str, device: str | torch.device, options: FeatureOptions) -> None:
        """Loads the file. Raises DataError when that fails."""
        own, self.path = TorchScriptOptions(**options.own), file_of(options)
        self.size, self.channels, self.policy = own.size, own.channels, _policy(options)
        self.device = torch.device(device)
        self.weights_hash = weight_files.sha256(self.path)
        self.mean, self.deviation = (torch.tensor(x, device=self.device)[:, None, None] for x in scaling(own))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch deprecates TorchScript; it is what the user has
                net = torch.jit.load(self.path, map_location=self.device)
        except RuntimeError as error:
            raise DataError(f"{self.path}: cannot be loaded: {' '.join(str(error).split())[:200]}") from None
        self.net = net.eval()

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey or colour images; grey ones are repeated to three channels where the network has three.

        Raises DataError for images that do not fit, and for an output that is not one finite vector an image.
        """
        found = pixels.shape[1]
        if found not in (1, self.channels):
            raise DataError(f"{self.path}: images of {found} channels, allowed: 1 or {self.channels}")
        parts = [self._vectors(part, levels) for part in pixels.split(min(batch, BATCH))]
        return Features(torch.cat(parts).numpy())

    @torch.inference_mode()
    def _vectors(self, pixels: Tensor, levels: int) -> Tensor:
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # as on the CPU
        with exact, torch.autocast(self.device.type, enabled=False):
            x = to_bytes(to_device(pixels, self.device), levels).float()
            x = x if self.size is None else resize(x, self.size, self.policy)
            x = ((x / 255 - self.mean) / self.deviation).expand(-1, self.channels, -1, -1).contiguous()
            try:
                out = self.net(x)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1][:200]
                raise DataError(f"{self.path}: fails on images of {tuple(x.shape[1:])}: {reason}") from None
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(x) or not out.is_floating_point():
            shape = f"shape {tuple(out.shape)}, {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
            raise DataError(f"{self.path}: returned {shape} for {len(x)} images, allowed: floats ({len(x)}, D)")
        if not bool(torch.isfinite(out).all()):
            raise DataError(f"{self.path}: returned NaN or infinity")
        return out.float().cpu()
