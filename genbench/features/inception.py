"""The Inception network of published FIDs: TensorFlow's graph of 2015-12-05, from torch-fidelity's blocks and weights.

    images (B, 3, 299, 299)  ->  Mixed_6d (B, 768, 17, 17)  ->  Mixed_7c (B, 2048, 8, 8)  ->  mean (B, 2048)  ->  logits

The modules have torch-fidelity's names, so that its weights fit; batch normalisation is then folded into the
convolutions (features change by 3e-7 of their norm).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

from genbench.features.seen import Seen

SPATIAL_CHANNELS = 7  # of TensorFlow's mixed_6/conv, the first branch of Mixed_6d: 7 * 17 * 17 = 2023 numbers


class Inception(nn.Module):
    """Pixels (B, 3, 299, 299) in -1..1 to pool3 features, logits without the bias, and spatial features.

    logits: their softmax gives the class probabilities of the inception score (torch-fidelity's "logits_unbiased",
    1008 classes).
    spatial: the first seven channels of TensorFlow's mixed_6/conv (Nash et al. 2021): (B, 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b = fidelity.InceptionA(192, pool_features=32)
        self.Mixed_5c = fidelity.InceptionA(256, pool_features=64)
        self.Mixed_5d = fidelity.InceptionA(288, pool_features=64)
        self.Mixed_6a = fidelity.InceptionB(288)
        self.Mixed_6b = fidelity.InceptionC(768, channels_7x7=128)
        self.Mixed_6c = fidelity.InceptionC(768, channels_7x7=160)
        self.Mixed_6d = fidelity.InceptionC(768, channels_7x7=160)
        self.Mixed_6e = fidelity.InceptionC(768, channels_7x7=192)
        self.Mixed_7a = fidelity.InceptionD(768)
        self.Mixed_7b = fidelity.InceptionE_1(1280)
        self.Mixed_7c = fidelity.InceptionE_2(2048)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Seen:
        """Features of images x; the mean over positions and the logits are float32 at any precision."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x))))
        spatial = x[:, :SPATIAL_CHANNELS].flatten(1).float()
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(x))))
        vectors = x.float().mean((2, 3))
        return Seen(vectors, vectors @ self.fc.weight.T, spatial)


class ConvReLU(nn.Module):
    """A convolution with its batch normalisation folded in, then ReLU."""

    def __init__(self, block: BasicConv2d) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(block.conv.double(), block.bn.double()).float()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output in eval mode."""
        return F.relu(self.conv(x), inplace=True)


def folded(module: nn.Module, precision: torch.dtype) -> nn.Module:
    """The same network, in eval mode, with every BasicConv2d a ConvReLU in that precision; changed in place."""
    for name, child in module.eval().named_children():
        new = ConvReLU(child).to(precision) if isinstance(child, BasicConv2d) else folded(child, precision)
        setattr(module, name, new)
    return module
