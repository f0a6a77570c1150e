"""Classification accuracy score: what a classifier learns from generated images alone (Ravuri and Vinyals 2019).

A small network is trained on the generated images with the requested labels and tested on real held-out images. The
score falls when samples are poor, when they show another class than requested, and when a class lacks variety. Real
training images in place of generated ones show what the network can learn at best.

The classifier of every model sees the same number of images (steps x batch), whatever the number of samples. The images
are not augmented: neither shifted nor mirrored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError, TooFewSamples
from genbench.metrics.base import Metric, Value
from genbench.metrics.conditional import class_numbers
from genbench.metrics.degenerate import refuse_one_class
from genbench.metrics.manifold import share
from genbench.metrics.readings import LABELLED
from genbench.progress import alive

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from genbench.features.classifier import ConvNet

_STEPS, _BATCH, _WIDTH, _LR, _SEED = 400, 128, 32, 2e-3, 0
_SMALLEST_SIDE = 4  # pixels of the last layer's smaller side, at least


def blocks(height: int, width: int) -> tuple[tuple[int, ...], ...]:
    """The network's convolutions for images of this size: 2x2 maxima until the next would leave less than 4 pixels."""
    halvings = max(0, (min(height, width) // _SMALLEST_SIDE).bit_length() - 1)
    early = tuple((_WIDTH,) for _ in range(halvings))
    return (*early, (2 * _WIDTH, 2 * _WIDTH))


def network(shape: tuple[int, int, int], classes: int, gen: Generator) -> ConvNet:
    """A network for images (C, H, W), its weights from N(0, 2 / fan-in) and its biases 0, drawn with gen alone."""
    import torch

    from genbench.features.classifier import ConvNet

    with torch.device("meta"):  # ConvNet's own initialisation would draw global random numbers
        net = ConvNet(shape[0], blocks(*shape[1:]), classes)
    net.to_empty(device="cpu")
    for weights in net.parameters():
        if weights.ndim == 1:
            torch.nn.init.zeros_(weights)
            continue
        torch.nn.init.kaiming_normal_(weights, nonlinearity="relu", generator=gen)
    return net


def trained(x: Tensor, labels: Tensor, classes: int, steps: int, seed: int) -> ConvNet:
    """The network after `steps` of Adam on batches of x (N, C, H, W) in [0, 1], each a fresh draw with replacement."""
    import torch
    from torch.nn.functional import cross_entropy

    from genbench.space import seeded

    gen = seeded(seed)
    net = network((x.shape[1], x.shape[2], x.shape[3]), classes, gen)
    optimiser = torch.optim.Adam(net.parameters(), lr=_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        alive()
        rows = torch.randint(len(x), (_BATCH,), generator=gen)
        loss = cross_entropy(net(x[rows])[1], labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def _unit_images(name: str, pixels: Any, levels: int) -> Tensor:
    """Grey levels (N, C, H, W) uint8 as float32 in [0, 1]; raises GenbenchError for anything else or an empty set."""
    import torch

    array = torch.as_tensor(pixels).cpu()
    if array.ndim != 4 or array.dtype != torch.uint8 or not len(array):
        raise GenbenchError(
            f"{name}: found {array.dtype} of shape {tuple(array.shape)}, allowed: uint8 of shape (N, C, H, W)"
        )
    return array.float() / (levels - 1)


def right_answers(
    fake: Any, fake_labels: Any, real: Any, real_labels: Any, levels: int, steps: int, seed: int
) -> NDArray[np.bool_]:
    """Whether the trained classifier names the class of each real image: (M,)."""
    import torch

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        x, y = _unit_images("fake", fake, levels), _unit_images("real", real, levels)
        requested = class_numbers("fake_labels", fake_labels, len(x))
        true = class_numbers("real_labels", real_labels, len(y))
        if x.shape[1:] != y.shape[1:]:
            raise GenbenchError(f"fake has images of shape {tuple(x.shape[1:])}, real {tuple(y.shape[1:])}; must agree")
        classes = int(max(requested.max(), true.max())) + 1
        net = trained(x, torch.from_numpy(requested), classes, steps, seed)
        with torch.no_grad():
            answers = torch.cat([net(part)[1].argmax(1) for part in y.split(500)])
    return answers.numpy() == true


def classification_accuracy_score(
    *, fake: Any, fake_labels: Any, real: Any, real_labels: Any, levels: int, steps: int = _STEPS, seed: int = _SEED
) -> float:
    """Accuracy 0..1 on real (M, C, H, W) of a classifier trained on fake (N, C, H, W), both uint8 grey levels.

    fake_labels (N,), real_labels (M,): classes from 0. Runs on the CPU; touches no global random state; the same seed,
    machine and number of threads give the same value. Raises GenbenchError for arrays that do not fit.

        labels = np.arange(100) % 2
        images = 255 * labels.astype(np.uint8).reshape(-1, 1, 1, 1).repeat(8, 2).repeat(8, 3)  # black or white
        sets = {"fake": images, "fake_labels": labels, "real": images, "real_labels": labels}
        metrics.classification_accuracy_score(**sets, levels=256, steps=20)  # 1.00
    """
    return float(right_answers(fake, fake_labels, real, real_labels, levels, steps, seed).mean())


def refuse_classes(asked: NDArray[Any], true: NDArray[Any]) -> None:
    """Raises Degenerate for a single class, TooFewSamples for a real class of which no sample was asked for."""
    refuse_one_class("cas", "reference", true)
    missing = np.setdiff1d(true, asked)
    if len(missing):
        shown = ", ".join(map(str, missing[:5].tolist()))
        raise TooFewSamples(f"cas: no generated sample of class {shown}; needs samples of every class of the reference")


def cas(*, fake: Any, fake_labels: Any, real: Any, real_labels: Any, levels: int) -> Value:
    """classification_accuracy_score with Wilson's interval over the real images."""
    refuse_classes(np.asarray(fake_labels), np.asarray(real_labels))
    right = right_answers(fake, fake_labels, real, real_labels, levels, _STEPS, _SEED)
    return share(right, "held-out images, the one trained classifier fixed: the spread of its seeds is not included")


CAS = Metric(
    name="cas",
    title="Classification accuracy score",
    version=1,
    better="higher",
    unit="share",
    reads=LABELLED,
    compute=cas,
    least={"classes": 2},
    abilities=("ClassConditional",),
    protocol={
        "classifier": f"3x3 convolutions of width {_WIDTH} before each 2x2 maximum, two of width {2 * _WIDTH} after",
        "steps": _STEPS,
        "batch": _BATCH,
        "optimiser": "Adam, cosine decay to 0",
        "lr": _LR,
        "seed": _SEED,
        "augmentation": "none",
    },
    cannot_detect="Does not detect copies of training images, nor artefacts that do not mislead a classifier.",
)
