"""Values over several runs: their order, the significant steps, and what cannot be compared."""

import pytest
from typer.testing import CliRunner

from genbench.cli import app
from genbench.errors import GenbenchError
from genbench.records import write_records
from genbench.report.history import history, read_runs


def runs(tmp_path, record, values, **more):
    folders = []
    for day, value in enumerate(values):
        folder = tmp_path / f"run-{day}"
        folder.mkdir()
        rest = {"half": 0.5, "time": f"2026-01-0{day + 1}T00:00:00+00:00", "revision": f"{day}" * 40, "dirty": day == 1}
        write_records(folder / "records.jsonl", [record("gan", "fid", value, **rest | more)])
        folders.append(folder)
    return folders


def test_runs_are_in_order_of_time_and_only_significant_steps_count(tmp_path, record):
    """Halves of 0.5 give an interval of +- 0.71 for each step: 5 to 5.5 is none, 5.5 to 4 and 4 to 9 are."""
    found = read_runs(runs(tmp_path, record, [5.0, 5.5, 4.0, 9.0, 9.0])[::-1])
    assert [run.name for run in found] == [f"run-{i} {str(i) * 8}{'*' if i == 1 else ''}" for i in range(5)]
    (series,) = history(found)
    assert [p.step for p in series.points] == ["", "cannot tell", "better", "worse", "same"]
    assert [p.run.name[:5] for p in series.steps] == ["run-2", "run-3"]


def test_another_protocol_is_no_step_of_the_value(tmp_path, record):
    first, second = runs(tmp_path, record, [5.0, 9.0])
    write_records(second / "records.jsonl", [record("gan", "fid", 9.0, half=0.5, protocol={"data": {"n_fake": 7}})])
    (series,) = history(read_runs([first, second]))
    assert {p.step for p in series.points} == {"", "not compared"}


def test_the_command_prints_what_changed_and_draws_it(tmp_path, record):
    folders = [str(f) for f in runs(tmp_path, record, [5.0, 5.1, 9.0])]
    shown = CliRunner().invoke(app, ["history", *folders, "--svg", str(tmp_path / "h.svg")])
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0] == "3 runs, 1 values in at least two of them, 1 changed"
    assert lines[-1].split() == ["run-2", "22222222", "9.00", "\u00b1", "0.50", "worse"]
    assert max(map(len, lines)) <= 80
    svg = (tmp_path / "h.svg").read_text()
    assert svg.count("<title>") == 3
    assert svg.count("mark front") == 1
    with pytest.raises(GenbenchError, match="at least two runs"):
        read_runs([tmp_path / "run-0"])
