"""Small disks (tmpfs) that are full at random points of a run; more space; the same command again.

    python tests/faults/disks.py 20

The results, the store or both are on the small disk. A run on it must end with exit code 0, 1 or 2 and without a
traceback; after the disk was enlarged the same command must end with 0 and the values of an undisturbed run. Mounting
needs Linux and the right to it; without them the campaign is skipped, with the reason.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.tiny import command, environment, values, write_suite

ENOUGH = "64m"


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A new disk of this size at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def ended(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(command(folder), env=environment(cache), capture_output=True, text=True)


def attempt(folder: Path, size: int, where: str, expected: object) -> str:
    """What is wrong with a run on a disk of this many KiB and its repetition on a larger one; "" for nothing."""
    write_suite(folder)
    disk = folder / "disk"
    with mounted(disk, f"{size}k"):
        (folder / "out").symlink_to(disk / "out") if where != "store" else (folder / "out").mkdir()
        (disk / "out").mkdir()
        cache = folder / "cache" if where == "results" else disk / "cache"
        small = ended(folder, cache)
        if small.returncode not in (0, 1, 2) or "Traceback" in small.stdout + small.stderr:
            return f"{size} KiB, {where}: exit code {small.returncode}: {small.stderr[-300:]}"
        if small.returncode == 2 and len(small.stderr.strip().splitlines()) != 1:
            return f"{size} KiB, {where}: {small.stderr[-300:]}"
        subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", str(disk)], check=True)
        large = ended(folder, cache)
        if large.returncode or values(folder) != expected:
            return f"{size} KiB, {where}, then more: exit code {large.returncode}: {large.stderr[-300:]}"
    return ""


def campaign(count: int, root: Path, seed: int = 0) -> list[str]:
    """The faults that `count` small disks showed."""
    whole, rng = write_suite(root / "whole"), random.Random(seed)
    with mounted(root / "disk", ENOUGH):
        done = ended(whole, root / "disk" / "cache")
        assert done.returncode == 0, done.stderr
        needed = shutil.disk_usage(root / "disk").used // 1024
    wheres = ("results", "store", "both")
    found = [attempt(root / str(i), rng.randint(16, needed), wheres[i % 3], values(whole)) for i in range(count)]
    return [fault for fault in found if fault]


def main(count: str) -> int:
    """Prints the counts; exits with 1 when anything failed."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with mounted(Path(name) / "trial", "64k"):
                pass
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"small disks: skipped, because nothing can be mounted here: {error}")
            return 0
        faults = campaign(int(count), Path(name))
    print(f"small disks: {count} tried, {len(faults)} failed")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
