"""Writes the folder clip/ of prompts.yaml: a CLIP of transformers with small networks and random weights.

    python examples/sources/make_clip.py

A published CLIP, such as a download of openai/clip-vit-base-patch32, is a folder of the same kind. captioned/ gets
images made elsewhere, with the prompt of each in metadata.jsonl.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

SIDE, TOKENS, COUNT = 32, 40, 24
PROMPTS = Path(__file__).parent / "prompts.txt"


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer of single characters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)


def write_clip(folder: Path) -> None:
    """Both networks, the tokenizer and the image processor."""
    tokenizer = write_tokenizer(folder)
    end = tokenizer.eos_token_id
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text = {**sizes, **special, "vocab_size": len(tokenizer), "max_position_embeddings": TOKENS}
    vision = {**sizes, "image_size": SIDE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(folder)


def write_captioned(folder: Path) -> None:
    """Noise as 8x8 pictures, and the prompt of each in metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts, rng = PROMPTS.read_text(encoding="utf-8").splitlines(), np.random.default_rng(0)
    rows = []
    for i in range(COUNT):
        pixels = rng.integers(0, 17, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
        rows.append(json.dumps({"file_name": f"{i:03}.png", "text": prompts[i % len(prompts)]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    torch.manual_seed(0)
    write_clip(place / "clip")
    write_captioned(place / "captioned")
