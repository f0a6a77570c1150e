"""Where a record comes from: the run, its time, genbench's version, and the revision of the suite's repository."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePath, PureWindowsPath

GIT_SECONDS = 10


@dataclass(frozen=True)
class Provenance:
    """run: a random id of the run. time: its start, ISO 8601 UTC. genbench: the version.

    revision: the commit of the git repository that holds the suite, "" without one. dirty: whether tracked files
    differ from it, None without a repository.
    """

    run: str = ""
    time: str = ""
    genbench: str = ""
    revision: str = ""
    dirty: bool | None = None


def provenance(folder: Path) -> Provenance:
    """The provenance of a run that starts now, of a suite in this folder."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(uuid.uuid4().hex[:12], time, metadata.version("genbench"), *repository_state(folder))


def command_line(argv: Sequence[str]) -> str:
    """The genbench command of these arguments; "" where another program called genbench, whose arguments are its own.

    A path that is absolute or leads upward tells of the machine: only its last part stays.
    """
    program = Path(argv[0])
    if program.stem not in ("genbench", "cli") and (program.parent.name, program.stem) != ("genbench", "__main__"):
        return ""
    return " ".join(["genbench", *(_without_place(argument) for argument in argv[1:])])


def _without_place(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    path = PurePath(value)
    private = path.is_absolute() or ".." in path.parts or "~" in value or PureWindowsPath(value).drive
    return f"{option}{equals}{path.name if private else value}"


def repository_state(folder: Path) -> tuple[str, bool | None]:
    """The commit of the git repository around a folder and whether tracked files differ; ("", None) without one."""
    revision = _git(folder, "rev-parse", "HEAD")
    if not revision:
        return "", None
    return revision, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
