"""The suites that genbench ships, by name: `genbench run digits` works in any folder."""

from __future__ import annotations

import re
from pathlib import Path

SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def shipped_suites() -> dict[str, Path]:
    """The files of the shipped suites by name: beside the package in a repository, inside it in an installed wheel."""
    package = Path(__file__).parent.parent
    folder = next((f for f in (package / "suites", package.parent / "suites") if f.is_dir()), package / "suites")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def suite_path(suite: Path | str) -> Path:
    """The path of a suite: the file of that name where there is one, else the shipped suite of that name.

    A name that is neither comes back as a path, for the message of the reader.
    """
    path = Path(suite)
    if path.exists() or not SHORT.fullmatch(str(suite)):
        return path
    return shipped_suites().get(str(suite), path)
