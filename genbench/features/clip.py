"""CLIP as transformers saves it: one network for images and one for texts, in one folder (Radford et al. 2021).

The folder has config.json, weights as .safetensors, the tokenizer's files and, where images are prepared otherwise than
OpenAI did, preprocessor_config.json; `CLIPModel.save_pretrained` and CLIP's repositories on the Hugging Face hub have
this form. Both embeddings are those after the projection, not scaled to length 1. Images are prepared as transformers'
CLIPImageProcessor prepares them: the shorter side is resized (antialiased bicubic, rounded to 256 levels), the middle
is kept. A text that is longer than the network reads is cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.errors import DataError
from genbench.features import weight_files
from genbench.features.base import Extractor, FeatureOptions, Features, TextFeatures
from genbench.features.resize import CLEAN, resizing_matrix, to_bytes
from genbench.features.threads import map_on_threads
from genbench.keys import digest
from genbench.progress import alive
from genbench.space import to_device

NAME, CONFIG = "clip", "config.json"
SETTINGS = ("preprocessor_config.json", "processor_config.json")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's
BICUBIC = 3  # of Pillow
CPU_BATCH, DEVICE_BATCH = 16, 128


@dataclass(frozen=True)
class Preparation:
    """How images are made ready: side that the shorter side is resized to, crop that is kept, mean and std in 0..1."""

    side: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ClipFolder:
    """The folder, the hash of all files that are read, the preparation, and the tokens of a text that are read."""

    path: Path
    content: str
    preparation: Preparation
    tokens: int


def protocol_fields(dataset: str, options: FeatureOptions) -> dict[str, Any]:
    """The hash of the folder's files, and how images and texts are read. Raises DataError for a folder without CLIP."""
    folder = clip_folder(options)
    how = folder.preparation
    return {
        "extractor": NAME, "extractor_weights": folder.content, "feature_layer": "projected embeddings",
        "resize": f"shorter side to {how.side}, antialiased bicubic, rounded; middle {how.crop}x{how.crop}",
        "pixel_range": "level k of L as round(255 k / (L - 1)) / 255", "grey": "repeated to three channels",
        "mean": list(how.mean), "std": list(how.std), "text_tokens": folder.tokens,
    }  # fmt: skip


def clip_folder(options: FeatureOptions) -> ClipFolder:
    """The folder that `weights` or $GENBENCH_WEIGHTS names, or `clip` in it. Raises DataError as protocol_fields."""
    named = weight_files.named_path(options)
    allowed = (
        f"allowed: a folder that transformers' CLIPModel was saved to, with {CONFIG}, or one that has it as {NAME}/"
    )
    if named is None:
        raise DataError(f"features '{NAME}': found no weights; {allowed}: `weights` or $GENBENCH_WEIGHTS")
    path = next((p for p in (named, named / NAME) if (p / CONFIG).is_file()), None)
    if path is None:
        raise DataError(f"features '{NAME}': found weights {named}, {allowed}")
    config = _json(path / CONFIG)
    if config.get("model_type") != "clip":
        raise DataError(f"{path / CONFIG}: found model_type {config.get('model_type')!r}, allowed: 'clip'")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise DataError(f"{path}: found no .safetensors, allowed: weights as .safetensors, which hold no code")
    files = [*weights, *(path / name for name in (CONFIG, *SETTINGS, *TOKENIZER) if (path / name).is_file())]
    content = digest({file.name: weight_files.sha256(file) for file in files})
    tokens = (config.get("text_config") or {}).get("max_position_embeddings", 77)
    return ClipFolder(path, content, _preparation(path, config), int(tokens))


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: found no JSON ({error}), allowed: a JSON object") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: found {type(data).__name__}, allowed: a JSON object")
    return data


def _preparation(path: Path, config: dict[str, Any]) -> Preparation:
    """From the settings of the image processor, else OpenAI's for the network's size."""
    seen = int((config.get("vision_config") or {}).get("image_size", 224))
    file = next((path / name for name in SETTINGS if (path / name).is_file()), None)
    stated = {} if file is None else _json(file)
    stated = stated.get("image_processor") or stated
    side, crop = (_side(stated.get(key, seen), f"{file}: {key}") for key in ("size", "crop_size"))
    resample = stated.get("resample", BICUBIC)
    if resample != BICUBIC or crop != seen or side < crop:
        found = f"resample {resample}, size {side}, crop_size {crop}"
        raise DataError(f"{file}: found {found}, allowed: resample {BICUBIC}, crop_size {seen}, size at least that")
    mean, std = (tuple(map(float, stated.get(key, own))) for key, own in (("image_mean", MEAN), ("image_std", STD)))
    return Preparation(side, crop, mean, std)


def _side(value: Any, where: str) -> int:
    sides = set(value.values()) if isinstance(value, dict) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side < 1:
        raise DataError(f"{where}: found {value}, allowed: one length in pixels")
    return side


class ClipExtractor(Extractor):
    """The image and the text network of a folder, in float32."""

    name = NAME

    def __init__(self, dataset: str, device: str | torch.device, options: FeatureOptions) -> None:
        """Loads both networks and the tokenizer. Raises DataError when that fails."""
        self.folder, self.device = clip_folder(options), torch.device(device)
        self.weights_hash = self.folder.content
        net, self.tokenizer = _loaded(self.folder.path)
        self.net = net.to(self.device).eval().requires_grad_(False)
        how = self.folder.preparation
        self.mean, self.std = (torch.tensor(x, device=self.device)[:, None, None] for x in (how.mean, how.std))
        self.batch = CPU_BATCH if self.device.type == "cpu" else DEVICE_BATCH

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Embeddings of grey or colour images."""
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise DataError(f"{NAME}: found images of shape {tuple(pixels.shape)}, allowed: (N, 1 or 3, H, W)")
        return Features(self._mapped(lambda part: self._see(part, levels), pixels.split(min(batch, self.batch))))

    def texts(self, texts: Sequence[str]) -> TextFeatures:
        """Embeddings of texts; those longer than the network reads are cut, the end token is kept."""
        longest = self.folder.tokens
        cut = sum(len(ids) > longest for ids in self.tokenizer(list(texts), verbose=False)["input_ids"])
        parts = [self._tokens(list(texts[i : i + self.batch])) for i in range(0, len(texts), self.batch)]
        return TextFeatures(self._mapped(self._read, parts), cut)

    def _tokens(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, padding=True, truncation=True, max_length=self.folder.tokens, return_tensors="pt")

    def _mapped(self, embed: Any, parts: Sequence[Any]) -> np.ndarray:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = map_on_threads(embed, parts) if self.device.type == "cpu" else [embed(part) for part in parts]
        vectors: np.ndarray = torch.cat(found).numpy()
        return vectors

    @torch.inference_mode()
    def _see(self, pixels: Tensor, levels: int) -> Tensor:
        alive()
        with torch.autocast(self.device.type, enabled=False):
            x = prepared(to_bytes(to_device(pixels, self.device), levels), self.folder.preparation)
            x = ((x / 255 - self.mean) / self.std).expand(-1, 3, -1, -1)
            return self.net.visual_projection(self.net.vision_model(pixel_values=x).pooler_output).cpu()

    @torch.inference_mode()
    def _read(self, tokens: Any) -> Tensor:
        alive()
        with torch.autocast(self.device.type, enabled=False):
            ids, mask = (to_device(tokens[key], self.device) for key in ("input_ids", "attention_mask"))
            return self.net.text_projection(self.net.text_model(input_ids=ids, attention_mask=mask).pooler_output).cpu()


def prepared(pixels: Tensor, how: Preparation) -> Tensor:
    """Images (B, C, H, W) uint8 resized, rounded and cropped to (B, C, crop, crop), float in 0..255."""
    short = min(pixels.shape[2:])
    sizes = [how.side if side == short else int(how.side * side / short) for side in pixels.shape[2:]]
    x = pixels.float()
    if tuple(sizes) != tuple(pixels.shape[2:]):
        rows, columns = (
            to_device(resizing_matrix(old, new, CLEAN), x.device) for old, new in zip(x.shape[2:], sizes, strict=True)
        )
        x = levels_of(rows @ levels_of(x @ columns.T))  # rounded after each of the two, as by Pillow and torchvision
    top, left = ((side - how.crop) // 2 for side in sizes)
    return x[..., top : top + how.crop, left : left + how.crop]


def levels_of(x: Tensor) -> Tensor:
    """The nearest of 256 levels, float."""
    return x.round().clamp(0, 255)


def _loaded(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder. Raises DataError for files that do not fit, and without transformers."""
    try:
        from transformers import CLIPModel, CLIPTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise DataError(
            f"features '{NAME}': needs the package transformers ({error}); pip install 'genbench[clip]'"
        ) from None
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would be drawn over that of genbench
    try:
        load: Any = CLIPModel.from_pretrained
        net, found = load(
            path, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
        tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # of transformers, whatever the files hold
        reason, allowed = " ".join(str(error).split())[:200], "those that CLIPModel and CLIPTokenizer saved"
        raise DataError(f"{path}: found files that cannot be loaded as CLIP ({reason}), allowed: {allowed}") from None
    finally:
        if shown:
            logging.enable_progress_bar()
    strange = [name for key in ("missing_keys", "mismatched_keys") for name in map(str, found[key])]
    if strange:
        differing = f"{', '.join(strange[:3])}{' and others' if len(strange) > 3 else ''}"
        raise DataError(
            f"{path}: found no such weights as {CONFIG} describes for {differing}; allowed: those of CLIPModel"
        )
    return net, tokenizer
