"""Which Python packages genbench needs, and which optional ones the `peers` step uses."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
FOR_TESTS = ("pytest", "pytest-benchmark", "pytest-xdist", "hypothesis")
OF_THESE = ("pydantic-core", "annotated-types", "typing-inspection", "typing-extensions")  # what they need in turn


def required() -> list[str]:
    """The names of what genbench, its tests and their dependencies import."""
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    names = [text.split(">")[0].split("=")[0].split("<")[0].strip() for text in listed]
    return [*names, *OF_THESE, *FOR_TESTS]


def missing() -> list[str]:
    """Those that are not installed."""
    return [name for name in required() if not installed(name)]


def installed(name: str) -> bool:
    """Whether a package's metadata is there."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
