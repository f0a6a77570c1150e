"""Trains the shipped classifier of one dataset, whose features metrics use, and lists it in index.json.

    python tools/train_classifier.py digits

Only the train split is used for training. Each image is shifted by up to a pixel or two (and mirrored, for clothes);
every batch contains some images that show nothing (uniform noise, shuffled pixels, smooth noise), whose target is the
uniform distribution, so that a sample of no class does not get a confident class. One thread and seeded generators:
the same machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Generator, Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from genbench import data
from genbench.features.classifier import WEIGHTS, ConvNet


@dataclass(frozen=True)
class Training:
    """Sizes of one network and of its training.

    shift: pixels. epochs: over the train split. nothing: real images to each one that shows nothing. bf16: mixed
    precision and channels-last memory, twice as fast on larger datasets.
    """

    blocks: tuple[tuple[int, ...], ...]
    shift: int
    mirror: bool
    epochs: int
    nothing: int
    bf16: bool
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.02


TRAININGS = {
    "digits": Training(blocks=((32, 32), (64, 64)), shift=1, mirror=False, epochs=120, nothing=3, bf16=False),
    "fashion-mnist": Training(
        blocks=((16,), (32, 64), (64, 128)), shift=2, mirror=True, epochs=10, nothing=8, bf16=True
    ),
}


def shifted(x: Tensor, reach: int, gen: Generator) -> Tensor:
    """Each image (B, C, H, W) moved by a whole number of pixels up to reach in each direction, zeros moving in."""
    b, _, h, w = x.shape
    padded = F.pad(x, [reach] * 4)
    rows = torch.arange(h) + torch.randint(2 * reach + 1, (b, 1), generator=gen)  # (B, H)
    columns = torch.arange(w) + torch.randint(2 * reach + 1, (b, 1), generator=gen)
    return padded[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirrored(x: Tensor, gen: Generator) -> Tensor:
    """Each image left-right reversed with probability one half."""
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=gen) < 0.5, x.flip(3), x)


def nothing(x: Tensor, gen: Generator) -> Tensor:
    """As many images that show no class: uniform noise, x with its pixels shuffled, and noise smoothed over 3x3."""
    third = len(x) // 3
    noise = torch.rand(x[:third].shape, generator=gen)
    smooth = F.avg_pool2d(torch.randn(x[:third].shape, generator=gen), 3, stride=1, padding=1).abs()
    rest = x[2 * third :].flatten(1)
    order = torch.rand(rest.shape, generator=gen).argsort(1)
    return torch.cat([noise, smooth.clamp(0, 1), rest.gather(1, order).view(x[2 * third :].shape)])


def train(dataset: data.Dataset, training: Training, seed: int) -> ConvNet:
    """The network after its training, batch normalisation folded in."""
    torch.manual_seed(seed)
    gen = Generator().manual_seed(seed)
    net = ConvNet(dataset.spec.channels, training.blocks, dataset.spec.classes)
    plain = net.convs
    net.convs = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)) for conv in plain)
    net.to(memory_format=memory_format(training))
    images, labels = dataset.train.pixels.float() / (dataset.spec.levels - 1), dataset.train.labels
    steps = len(images) // training.batch
    optimiser = torch.optim.AdamW(net.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.lr, total_steps=training.epochs * steps)
    for epoch in range(training.epochs):
        begun, total = time.monotonic(), 0.0
        for numbers in torch.randperm(len(images), generator=gen)[: steps * training.batch].split(training.batch):
            loss = batch_loss(net, images[numbers], labels[numbers], training, gen)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
    net.eval()
    net.convs = nn.ModuleList(fuse_conv_bn_eval(conv, norm) for conv, norm in net.convs)
    return net


def memory_format(training: Training) -> torch.memory_format:
    """How images and weights lie in memory."""
    return torch.channels_last if training.bf16 else torch.contiguous_format


def batch_loss(net: ConvNet, x: Tensor, labels: Tensor, training: Training, gen: Generator) -> Tensor:
    """Cross-entropy of images and labels, plus that of images of nothing against the uniform distribution."""
    x = shifted(x, training.shift, gen)
    x = mirrored(x, gen) if training.mirror else x
    shown = torch.cat([x, nothing(x[: len(x) // training.nothing], gen)])
    with torch.autocast("cpu", torch.bfloat16, enabled=training.bf16):
        logits = net(shown.contiguous(memory_format=memory_format(training)))[1].float()
    return F.cross_entropy(logits[: len(x)], labels) - 0.3 * logits[len(x) :].log_softmax(1).mean()


@torch.inference_mode()
def accuracy(net: ConvNet, split: data.Split, levels: int) -> float:
    """Share of the split's images whose most probable class is their label."""
    guesses = torch.cat([net(part.float() / (levels - 1))[1].argmax(1) for part in split.pixels.split(500)])
    return float((guesses == split.labels).float().mean())


def main() -> None:
    """Trains, measures once on the test split, writes the weights and their line in index.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=TRAININGS)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the weights and index.json")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dataset, training = data.load({"name": options.dataset}), TRAININGS[options.dataset]
    net = train(dataset, training, options.seed)
    name = f"{options.dataset}-classifier"
    content = save({key: value.detach().contiguous() for key, value in net.state_dict().items()})
    listed = {
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "dataset": options.dataset,
        "dataset_fingerprint": dataset.fingerprint,
        "shape": dataset.spec.shape,
        "blocks": training.blocks,
        "classes": dataset.spec.classes,
        "dims": net.head.in_features,
        "parameters": sum(p.numel() for p in net.parameters()),
        "train_accuracy": round(accuracy(net, dataset.train, dataset.spec.levels), 4),
        "test_accuracy": round(accuracy(net, dataset.test, dataset.spec.levels), 4),
        "command": f"python tools/train_classifier.py {options.dataset} --seed {options.seed}",
        "torch": torch.__version__,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / listed["file"]).write_bytes(content)
    index = options.out / "index.json"
    known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    index.write_text(json.dumps({**known, name: listed}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main()
