"""Models that change or end their process, in the command's own process: it works, or fails in one line.

Each one acts while its file is imported, in its constructor, or while it draws.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults.forked import ended
from faults.hostile import HOSTILE
from faults.tiny import ROOT, environment

SOURCE = Path(__file__).parent / "hostile.py"
WHEN = ("imported", "built", "drawn")
# The command ends before the limit, needs no further module, and opens its output again.
UNAFFECTED = {"LimitsProcessor", "ClearsModules", "ClosesAll"}
SIGNALS = {"Terminates": 143, "InterruptsItself": 130}  # as if somebody had sent them
ACTING = """
from faults.hostile import ACTIONS, Quiet

class Acting(Quiet):
    pass

ACTIONS["{name}"]()
"""
SUITE = """suite: x
dataset: {{name: npz, path: data.npz}}
features: pixels
samples: 20
metrics: [fid]
models:
- {{name: quiet, source: {source}:Quiet}}
- {{name: hostile, source: {target}}}
"""
COMMANDS = {
    "show": "show {target} --shape 1x4x4",
    "sample": "sample {target} -n 2 --out {{}}/x.npz --shape 1x4x4",
    "plan": "plan {{}}/suite.yaml",
    "run": "run {{}}/suite.yaml --out {{}}/out --device cpu",
}


def prepared(folder: Path, name: str, when: str) -> str:
    """Writes a suite with the model; the target of its class."""
    (folder / "acting.py").write_text(ACTING.format(name=name))
    target = {"imported": f"{folder / 'acting.py'}:Acting", "built": f"{SOURCE}:{name}Built"}.get(when)
    target = target or f"{SOURCE}:{name}"
    np.savez(folder / "data.npz", images=np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    (folder / "suite.yaml").write_text(SUITE.format(source=SOURCE, target=target))
    return target


def fault(command: str, name: str, when: str, folder: Path) -> str:
    """What is wrong with how the command ended; "" for nothing."""
    target = prepared(folder, name, when)
    code, output = ended(COMMANDS[command].format(target=target), folder)
    lines = [line for line in output.splitlines() if line.startswith("genbench: ")]
    fatal = HOSTILE[name] and (when != "drawn" or command != "show")
    allowed = {SIGNALS[name], 0} if name in SIGNALS else ({1, 2} if fatal else {0})
    right = code in allowed | ({0} if name in UNAFFECTED else set()) and (code in (0, 1) or len(lines) == 1)
    if right and len(output) < 10**6 and "Traceback" not in output and "internal error" not in output:
        return ""
    return f"{command}, {name}, {when}: exit code {code}: {output[-400:]}"


@pytest.mark.parametrize(("command", "name", "when"), [
    ("show", "Exits", "built"), ("sample", "Segfaults", "imported"), ("sample", "ExitsWell", "drawn"),
    ("show", "Interrupts", "built"), ("show", "OddErrors", "built"), ("sample", "LineErrors", "drawn"),
    ("sample", "PatchesTime", "built"), ("show", "AtExit", "imported"), ("plan", "ClosesOutput", "imported"),
    ("plan", "Segfaults", "drawn"),
])  # fmt: skip
def test_a_command_with_a_hostile_model(tmp_path, command, name, when):
    assert not fault(command, name, when, tmp_path)


def test_a_class_that_ends_its_process_is_named_with_its_line(tmp_path):
    prepared(tmp_path, "Exits", "built")
    line = "suite.yaml:8: models[1]: the process was ended by exit code 5 while ExitsBuilt was built"
    assert f"genbench: {tmp_path}/{line}" in ended("plan {}/suite.yaml", tmp_path)[1]


def test_a_class_whose_constructor_ends_the_process_in_a_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "genbench", "show", f"{SOURCE}:AbortsBuilt"], cwd=tmp_path, capture_output=True,
        text=True, env=environment(tmp_path) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "genbench: the process was ended by signal 6, SIGABRT while AbortsBuilt was built\n"


def test_an_error_of_a_constructor_is_one_line_that_names_the_class_and_its_line(tmp_path):
    code, output = ended(f"show {SOURCE}:LineErrorsBuilt --shape 1x4x4", tmp_path)
    assert (code, output) == (2, "genbench: LineErrorsBuilt: one two\ufffd[2J\ufffd\n")
    code, output = ended(f"show {SOURCE}:StopIterationsBuilt --shape 1x4x4", tmp_path)
    assert code == 2
    assert re.fullmatch(r"genbench: StopIteration \(hostile\.py:\d+, in action\), while \w+ was built\n", output)


@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
def test_sample_with_every_hostile_model(tmp_path, when):
    faults = []
    for name in HOSTILE:
        folder = tmp_path / name
        folder.mkdir()
        faults += [text] if (text := fault("sample", name, when, folder)) else []
    assert not faults, "\n".join(faults)
