"""Texts that the store keeps while the files that they were computed from stay as they are."""

from __future__ import annotations

import os

import pytest

from genbench.store import Store, default_root, derived, kept_text


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """A file counts as old at once."""
    monkeypatch.setattr(derived, "_SETTLED", -60.0)


class Counted:
    """The upper-case content of a file, and how often it was computed."""

    def __init__(self, file):
        self.file, self.calls = file, 0

    def __call__(self):
        self.calls += 1
        return self.file.read_text().upper(), [self.file]


@pytest.fixture
def counted(tmp_path):
    """Of a file in a folder of its own."""
    file = tmp_path / "folder" / "a.py"
    file.parent.mkdir()
    file.write_text("one")
    return Counted(file)


def test_it_is_computed_once_for_each_name(counted):
    assert [kept_text("x", counted), kept_text("x", counted)] == ["ONE", "ONE"]
    assert counted.calls == 1
    assert (kept_text("y", counted), counted.calls) == ("ONE", 2)


def test_a_change_counts_even_with_the_same_size_and_time(counted):
    kept_text("x", counted)
    before = counted.file.stat()
    counted.file.write_text("two")
    os.utime(counted.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept_text("x", counted) == "TWO"


@pytest.mark.parametrize("change", [lambda file: (file.parent / "b.py").write_text(""), lambda file: file.unlink()])
def test_a_new_file_beside_it_and_a_lost_file_count_as_changes(counted, change):
    kept_text("x", counted)
    change(counted.file)
    assert kept_text("x", lambda: ("made again", [])) == "made again"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"text": 1, "files": {}}', '{"text": "wrong"}'])
def test_a_damaged_entry_is_made_again(counted, content):
    kept_text("x", counted)
    (entry,) = (default_root() / "derived").iterdir()
    entry.write_text(content)
    assert (kept_text("x", counted), counted.calls) == ("ONE", 2)


def test_an_entry_with_another_text_is_made_again(counted):
    kept_text("x", counted)
    (entry,) = (default_root() / "derived").iterdir()
    entry.write_text(entry.read_text().replace("ONE", "ONF"))
    assert (kept_text("x", counted), counted.calls) == ("ONE", 2)


def test_a_cache_that_cannot_be_written_keeps_nothing(counted, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "file"))
    assert [kept_text("x", counted), kept_text("x", counted)] == ["ONE", "ONE"]
    assert counted.calls == 2


def test_pruning_removes_it(counted):
    kept_text("x", counted)
    Store().prune()
    assert not (default_root() / "derived").exists()
