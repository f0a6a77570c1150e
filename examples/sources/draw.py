"""A program that writes images, for program.yaml: grey values around the level of a class, as one .npz.

python draw.py --n 10 --seed 0 --out FOLDER [--labels FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=Path)
parser.add_argument("--labels", type=Path)
options = parser.parse_args()

random = np.random.default_rng(options.seed)
labels = np.loadtxt(options.labels, dtype=int) if options.labels else random.integers(10, size=options.n)
levels = np.clip(random.normal(labels.reshape(-1, 1, 1), 3.0, (options.n, 8, 8)), 0, 16)
np.savez(options.out / "images.npz", images=levels.round().astype(np.uint8))
