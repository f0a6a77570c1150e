"""`fashion-mnist`: 70,000 grey images of clothes, 28x28, 256 levels, ten classes (Xiao et al. 2017, arXiv:1708.07747).

Its four files are also looked for where Debian's package dataset-fashion-mnist puts them, compressed anew; so the
content of each is checked. The split is the source's: 60,000 train, 10,000 test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split
from genbench.data.captions import CAPTIONS
from genbench.data.idx import read_idx
from genbench.data.published import PublishedFile, PublishedSet

SPEC = DataSpec(channels=1, height=28, width=28, levels=256, classes=10)
IMAGES = (60_000, 10_000)
FINGERPRINT = "efb2e23bd1b4ba720c4d5f84419a708c9ae8f8e12b01e1cb05b810795b78977e"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of each file's content, decompressed: gzip's own header (a date, a level) does not matter.
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe", "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)  # fmt: skip
SIZES = (26_421_880, 29_515, 4_422_102, 5_148)
URL = "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PUBLISHED = PublishedSet(
    "fashion-mnist",
    tuple(PublishedFile(name, f"{URL}{name}", size, md5) for name, size, md5 in zip(FILES, SIZES, MD5, strict=True)),
    layouts=("FashionMNIST/raw", str(DEBIAN)),
    images=IMAGES,
)


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError when files are missing or not the published ones."""
    home = PUBLISHED.find(entry) or PUBLISHED.download()
    train_x, train_y, test_x, test_y = (read_idx(home / name, expected) for name, expected in FILES.items())
    train = Split(train_x[:, None], train_y.long())
    test = Split(test_x[:, None], test_y.long())
    return Dataset("fashion-mnist", SPEC, train, test, FINGERPRINT, CAPTIONS["fashion-mnist"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared (`load` verifies them), once the files are known to be there or allowed."""
    PUBLISHED.find(entry)
    return SPEC, FINGERPRINT
