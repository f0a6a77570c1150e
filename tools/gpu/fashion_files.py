"""Writes Fashion-MNIST's four files, compressed by xz, which takes a seventh less: fashion_files.py FOLDER

They are taken from $GENBENCH_DATA, Debian's folder, Debian's package (apt-get download) or torchvision's mirror.
"""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

NAMES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def folders(spare: Path) -> Iterator[Path]:
    """Folders that may hold the files, the nearest first; the last two are filled on the way."""
    home = Path(os.environ.get("GENBENCH_DATA", "."))
    yield from (home / "fashion-mnist", home, home / "FashionMNIST" / "raw", DEBIAN)
    command = ["sh", "-c", "apt-get download dataset-fashion-mnist"]
    if subprocess.run(command, cwd=spare, capture_output=True).returncode == 0:
        subprocess.run(["dpkg", "-x", str(next(spare.glob("*.deb"))), str(spare)], check=True)
        yield spare / DEBIAN.relative_to("/")
    for name in NAMES:
        urllib.request.urlretrieve(MIRROR + name, spare / name)
    yield spare


def main() -> None:
    """The program."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as spare:
        source = next(folder for folder in folders(Path(spare)) if all((folder / name).is_file() for name in NAMES))
        for name in NAMES:
            content = gzip.decompress((source / name).read_bytes())
            (target / name).with_suffix(".xz").write_bytes(lzma.compress(content))


if __name__ == "__main__":
    main()
