"""Where a record comes from: the repository around a suite, and what a run writes into each record."""

from __future__ import annotations

import subprocess

from genbench.provenance import command_line, provenance, repository_state


def git(folder, *command):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True)


def test_the_revision_and_whether_tracked_files_differ(tmp_path):
    assert repository_state(tmp_path) == ("", None)
    git(tmp_path, "init", "-q")
    (tmp_path / "s.yaml").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    revision, dirty = repository_state(tmp_path)
    assert (len(revision), dirty) == (40, False)
    (tmp_path / "untracked.txt").write_text("b")
    assert repository_state(tmp_path) == (revision, False)
    (tmp_path / "s.yaml").write_text("changed")
    assert repository_state(tmp_path) == (revision, True)


def test_every_run_has_an_id_of_its_own(tmp_path):
    one, other = provenance(tmp_path), provenance(tmp_path)
    assert one.run != other.run
    assert one.time.endswith("+00:00")
    assert one.genbench


def test_the_command_tells_nothing_of_the_machine():
    options = ["run", "suites/a.yaml", "/home/ann/x/b.yaml", "--out=/data/acme/out", "--out", "../acme/out", "~bob/c"]
    expected = "genbench run suites/a.yaml b.yaml --out=out --out out c"
    assert command_line(["/home/ann/bin/genbench", *options]) == expected
    assert command_line(["/home/ann/genbench/__main__.py", "run", "a.yaml"]) == "genbench run a.yaml"
    assert command_line(["/home/ann/sweep.py", "--token", "secret"]) == ""
