"""Steps, their items, and the records of what was measured.

A step consists of named items. Each finished item is written to records.json at once, so a call that is killed loses
only the item in progress, and the same call continues. Items are computed in processes of their own: one that fails,
hangs or corrupts the GPU's state does not take the others with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

STEPS = ("facts", "tests", "smoke", "speed", "train", "peers", "score", "fashion", "gate")
ROOT = Path(__file__).resolve().parents[2]
OTHER = "other"  # the simulated device
SIMULATED = ROOT / "tools" / "gpu" / "simulated"
RECORDS = "records.json"
SCHEMA = 1
LEAST_SECONDS = 8.0  # no process is started with less time left
SHOWN = 400  # characters of an error


@dataclass(frozen=True)
class Setting:
    """Where and how large: device is cuda, cpu or other (the simulated one); tiny: a rehearsal.

    out: the folder of the records. work: a folder for what is not sent back. until: the time.time() to stop at.
    """

    device: str
    tiny: bool
    out: str
    work: str
    until: float

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.until - time.time()


@dataclass(frozen=True)
class Part:
    """Items that one process computes: function ("module:function") is called with the setting and each name.

    seconds: how much time must be left for the process to be started.
    """

    names: tuple[str, ...]
    function: str
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = LEAST_SECONDS


class Records:
    """What records.json holds: for each step its items, what failed, and the seconds spent."""

    def __init__(self, folder: Path, device: str, tiny: bool) -> None:
        self.path = folder / RECORDS
        folder.mkdir(parents=True, exist_ok=True)
        fresh = {"schema": SCHEMA, "rehearsal": tiny, "device": device, "steps": {}}
        self.data: dict[str, Any] = json.loads(self.path.read_text()) if self.path.is_file() else fresh
        kept = {key: self.data.get(key) for key in ("schema", "rehearsal", "device")}
        wanted = {key: fresh[key] for key in kept}
        if kept != wanted:
            raise SystemExit(f"{self.path}: holds records of {kept}, not of {wanted}; choose another --out")

    def step(self, name: str) -> dict[str, Any]:
        """The record of a step, empty if there is none."""
        return self.data["steps"].setdefault(name, {"complete": False, "seconds": 0.0, "items": {}, "failed": {}})

    def put(self, step: str, item: str, value: Any, failure: str = "") -> None:
        """Writes one item, or why there is none."""
        record = self.step(step)
        record["failed"].pop(item, None)
        record["failed" if failure else "items"][item] = failure or value
        self.write()

    def write(self) -> None:
        """Replaces the file in one move."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.data, indent=1, allow_nan=False) + "\n")
        partial.replace(self.path)


def run(step: str, setting: Setting, records: Records) -> None:
    """Computes what a step lacks, as far as the time allows, and says how it ended."""
    record = records.step(step)
    if record["complete"]:
        say(f"{step}: recorded already, skipped")
        return
    start = time.time()
    parts: Sequence[Part] = import_module(f"tools.gpu.{step}").parts(setting)
    for part in parts:
        todo = [name for name in part.names if name not in record["items"]]
        if todo and setting.left > part.seconds:
            compute(step, part, todo, setting, records)
    names = [name for part in parts for name in part.names]
    if not names:
        say(f"{step}: nothing that can be done on '{setting.device}'")
        return
    missing = [name for name in names if name not in record["items"]]
    record["complete"] = not missing
    record["seconds"] = round(record["seconds"] + time.time() - start, 1)
    records.write()
    late = len(missing) - len(record["failed"])
    ended = "complete" if not missing else f"{len(record['failed'])} failed, {late} not reached"
    say(f"{step}: {len(names) - len(missing)} of {len(names)} items, {record['seconds']:.0f} s: {ended}")


def compute(step: str, part: Part, todo: list[str], setting: Setting, records: Records) -> None:
    """Runs one process and records each item as it comes."""
    order = {"function": part.function, "names": todo, "options": part.options, "setting": asdict(setting)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.gpu.child", json.dumps(order)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        start_new_session=True, env=variables(setting),
    )  # fmt: skip
    timer = threading.Timer(setting.left, kill, [process])
    timer.start()
    waiting = list(todo)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answer = json.loads(line)
            waiting.remove(answer["name"])
            records.put(step, answer["name"], answer.get("value"), answer.get("failure", ""))
            say(f"{step} {answer['name']}: {answer.get('failure') or brief(answer['value'])}")
    finally:
        timer.cancel()
        kill(process)
        process.stdout.close()
    code = process.wait()
    if waiting and setting.left > 1:
        records.put(step, waiting[0], None, f"its process ended with code {code}")
        say(f"{step} {waiting[0]}: its process ended with code {code}")


def variables(setting: Setting) -> dict[str, str]:
    """The environment of a process that computes items; on the simulated device also of all that it starts."""
    tiny = {"OMP_NUM_THREADS": "1", "GENBENCH_BUSY_CORES": "inf"}  # the times of a rehearsal say nothing
    found = {**os.environ, **(tiny if setting.tiny else {})}
    if setting.device == OTHER:
        folders = [str(SIMULATED), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        found["PYTHONPATH"] = os.pathsep.join(folders)
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """Ends a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def say(line: str) -> None:
    """A line of the log."""
    print(line, flush=True)


def brief(value: Any) -> str:
    """A value in one line of the log."""
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def rounded(data: Any) -> Any:
    """The same data with five significant digits."""
    if isinstance(data, float):
        return float(f"{data:.5g}")
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    return [rounded(value) for value in data] if isinstance(data, list | tuple) else data


def each(names: Iterable[str], function: str, seconds: float = LEAST_SECONDS, **options: Any) -> list[Part]:
    """A process for each item."""
    return [Part((name,), function, options, seconds) for name in names]
