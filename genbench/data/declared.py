"""The datasets that genbench ships, as the registry loads them; genbench.builtin has their names and options."""

from __future__ import annotations

from genbench import builtin
from genbench.data import cifar10, digits, edges, fashion_mnist, files, folder
from genbench.data.base import DatasetSource
from genbench.data.captions import CAPTIONS

LINES = {name: entry.about for name, entry in builtin.DATASET_TABLE.items()}

DIGITS = DatasetSource(
    LINES["digits"], digits.load, digits.describe, captions=CAPTIONS["digits"], imports=("sklearn.datasets",)
)  # fmt: skip
FASHION_MNIST = DatasetSource(
    LINES["fashion-mnist"], fashion_mnist.load, fashion_mnist.describe, builtin.DownloadOptions,
    captions=CAPTIONS["fashion-mnist"],
)  # fmt: skip
CIFAR10 = DatasetSource(
    LINES["cifar10"], cifar10.load, cifar10.describe, builtin.ArchiveOptions, captions=CAPTIONS["cifar10"]
)  # fmt: skip
EDGES = DatasetSource(
    LINES["edges"], edges.load, edges.describe, builtin.EdgesOptions, translation=True, imports=("sklearn.datasets",)
)  # fmt: skip
FOLDER = DatasetSource(
    LINES["folder"], folder.load_folder, folder.describe_folder, builtin.FolderOptions, sizes=folder.sizes,
    captioned=folder.has_captions,
)  # fmt: skip
NPZ = DatasetSource(LINES["npz"], files.load_npz, files.describe_npz, builtin.ArrayOptions, sizes=files.sizes)
