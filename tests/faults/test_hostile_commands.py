"""Models that change or end their process, in the command's own process: it works, or fails in one line.

Each one acts while its file is imported, in its constructor, or while it draws.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from faults.forked import ended
from faults.hostile_commands import SOURCE, fault, prepared
from faults.tiny import ROOT, environment


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
