"""Installs the packed folder: python -m tools.gpu.unpack PACK SITE DATA

Wheels of packages that are missing, or older here, go to the folder SITE; Fashion-MNIST goes to DATA, gzipped as it is
published.
"""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from tools.gpu.packages import installed


def wanted(wheel: Path) -> bool:
    """Whether the wheel's package is missing here, or of a lower version."""
    name, packed = wheel.name.split("-")[:2]
    return not installed(name) or Version(version(name)) < Version(packed)


def main() -> None:
    """The program."""
    pack, site, data = map(Path, sys.argv[1:4])
    wheels = [path for path in sorted((pack / "wheels").glob("*.whl")) if wanted(path)]
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile",
                   "--disable-pip-version-check", "--target", str(site), *map(str, wheels)]  # fmt: skip
        subprocess.run(command, check=True)
    site.mkdir(parents=True, exist_ok=True)
    print(f"installed from {pack}: {', '.join('-'.join(p.name.split('-')[:2]) for p in wheels) or 'nothing missing'}")
    folder = data / "fashion-mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for packed in sorted((pack / "fashion-mnist").glob("*.xz")):
        target = folder / packed.with_suffix(".gz").name
        target.write_bytes(gzip.compress(lzma.decompress(packed.read_bytes()), 1))


if __name__ == "__main__":
    main()
