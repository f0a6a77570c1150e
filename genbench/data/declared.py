"""The datasets that genbench ships, as the registry loads them; genbench.builtin has their names and options."""

from __future__ import annotations

from genbench import builtin
from genbench.data import (
    celeba,
    cifar10,
    cifar100,
    digits,
    domains,
    edges,
    fashion_mnist,
    files,
    folder,
    hf,
    imagenet,
    mnist,
    stl10,
    svhn,
)
from genbench.data.base import DatasetSource
from genbench.data.captions import CAPTIONS

LINES = {name: entry.about for name, entry in builtin.DATASET_TABLE.items()}
IMPORTS = {name: entry.imports for name, entry in builtin.DATASET_TABLE.items()}

DIGITS = DatasetSource(
    LINES["digits"], digits.load, digits.describe, captions=CAPTIONS["digits"], imports=IMPORTS["digits"],
    sizes=digits.sizes,
)  # fmt: skip
FASHION_MNIST = DatasetSource(
    LINES["fashion-mnist"], fashion_mnist.load, fashion_mnist.describe, builtin.DownloadOptions,
    captions=CAPTIONS["fashion-mnist"], sizes=fashion_mnist.PUBLISHED.sizes,
)  # fmt: skip
CIFAR10 = DatasetSource(
    LINES["cifar10"], cifar10.load, cifar10.describe, builtin.ArchiveOptions, captions=CAPTIONS["cifar10"],
    sizes=cifar10.sizes,
)  # fmt: skip
MNIST = DatasetSource(
    LINES["mnist"], mnist.load, mnist.describe, builtin.DownloadOptions, captions=CAPTIONS["mnist"],
    sizes=mnist.PUBLISHED.sizes,
)  # fmt: skip
CIFAR100 = DatasetSource(
    LINES["cifar100"], cifar100.load, cifar100.describe, builtin.DownloadOptions, captions=CAPTIONS["cifar100"],
    sizes=cifar100.PUBLISHED.sizes,
)  # fmt: skip
SVHN = DatasetSource(
    LINES["svhn"], svhn.load, svhn.describe, builtin.DownloadOptions, captions=CAPTIONS["svhn"],
    imports=IMPORTS["svhn"], sizes=svhn.PUBLISHED.sizes,
)  # fmt: skip
STL10 = DatasetSource(
    LINES["stl10"], stl10.load, stl10.describe, builtin.DownloadOptions, captions=CAPTIONS["stl10"],
    sizes=stl10.PUBLISHED.sizes,
)  # fmt: skip
CELEBA = DatasetSource(LINES["celeba"], celeba.load, celeba.describe, builtin.FacesOptions, sizes=celeba.sizes)
IMAGENET = DatasetSource(
    LINES["imagenet"],
    imagenet.load,
    imagenet.describe,
    builtin.PhotosOptions,
    sizes=imagenet.sizes,
    classes=imagenet.class_names,
)
EDGES = DatasetSource(
    LINES["edges"], edges.load, edges.describe, builtin.EdgesOptions, translation=True,
    imports=IMPORTS["edges"], sizes=edges.sizes,
)  # fmt: skip
FOLDER = DatasetSource(
    LINES["folder"], folder.load_folder, folder.describe_folder, builtin.FolderOptions, sizes=folder.sizes,
    captioned=folder.has_captions, classes=folder.class_names,
)  # fmt: skip
NPZ = DatasetSource(LINES["npz"], files.load_npz, files.describe_npz, builtin.ArrayOptions, sizes=files.sizes)
DOMAINS = DatasetSource(
    LINES["domains"], domains.load, domains.describe, builtin.DomainsOptions, translation=True, sizes=domains.sizes
)
HF = DatasetSource(
    LINES["hf"], hf.load, hf.describe, builtin.HubOptions, sizes=hf.sizes, captioned=hf.has_captions,
    classes=hf.class_names,
)  # fmt: skip
