"""Installs the packed folder: python -m tools.gpu.unpack PACK SITE DATA

Wheels of packages that are missing, or older here, go to the folder SITE, with a note of genbench's own version, which
it records. Fashion-MNIST's files go to DATA, gzipped as they are published.
"""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from tools.gpu.packages import PYPROJECT, installed


def wanted(wheel: Path) -> bool:
    """Whether the wheel's package is missing here, or of a lower version."""
    name, packed = wheel.name.split("-")[:2]
    return not installed(name) or Version(version(name)) < Version(packed)


def note_version(site: Path) -> None:
    """Makes the repository's version known to importlib.metadata, as installing it would."""
    number = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    folder = site / f"genbench-{number}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: genbench\nVersion: {number}\n")


def main() -> None:
    """The program."""
    pack, site, data = map(Path, sys.argv[1:4])
    wheels = [path for path in sorted((pack / "wheels").glob("*.whl")) if wanted(path)]
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile",
                   "--disable-pip-version-check", "--target", str(site), *map(str, wheels)]  # fmt: skip
        subprocess.run(command, check=True)
    note_version(site)
    print(f"installed from {pack}: {', '.join('-'.join(p.name.split('-')[:2]) for p in wheels) or 'nothing missing'}")
    folder = data / "fashion-mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for packed in sorted((pack / "fashion-mnist").glob("*.xz")):
        target = folder / packed.with_suffix(".gz").name
        target.write_bytes(gzip.compress(lzma.decompress(packed.read_bytes()), 1))


if __name__ == "__main__":
    main()
