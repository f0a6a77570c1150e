"""The artefact store: whole or absent, checked before use, one writer at a time."""

from __future__ import annotations

import json
import os
import resource

import numpy as np
import pytest

from genbench.errors import StoreError
from genbench.keys import content_hash
from genbench.store import SMALL, Kind, Store, leases


def put(store: Store, key: str = "k", text: str = "hello") -> None:
    def make(folder):
        (folder / "a.txt").write_text(text)
        return {"n": 1}

    store.kept(Kind.WEIGHTS, key, make)


def test_what_was_written_is_there(tmp_path):
    store = Store(tmp_path)
    assert not store.has(Kind.WEIGHTS, "k")
    put(store)
    assert store.intact(Kind.WEIGHTS, "k")
    assert store.meta(Kind.WEIGHTS, "k") == {"n": 1}
    assert (store.path(Kind.WEIGHTS, "k") / "a.txt").read_text() == "hello"


def test_an_interrupted_write_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.kept(Kind.WEIGHTS, "k", lambda folder: (folder / "a.txt").write_text(str(1 / 0)))
    assert not store.has(Kind.WEIGHTS, "k")
    assert store.entries() == []


def test_a_damaged_artefact_is_removed(tmp_path):
    store = Store(tmp_path)
    put(store)
    (store.path(Kind.WEIGHTS, "k") / "a.txt").write_text("hellp")
    assert not store.intact(Kind.WEIGHTS, "k")
    assert not store.has(Kind.WEIGHTS, "k")


def test_scratch_survives_until_the_artefact_is_whole(tmp_path):
    store = Store(tmp_path)
    (store.scratch(Kind.WEIGHTS, "k") / "checkpoint.pt").write_text("state")
    assert (store.scratch(Kind.WEIGHTS, "k") / "checkpoint.pt").is_file()
    put(store)
    assert not (tmp_path / "scratch" / Kind.WEIGHTS / "k").exists()


def test_the_lock_keeps_a_second_writer_out(tmp_path):
    store = Store(tmp_path)
    with (
        store.lock(Kind.SAMPLES, "k"),
        pytest.raises(StoreError, match="another process"),
        store.lock(Kind.SAMPLES, "k", 0),
    ):
        pass


def test_entries_and_prune_count_bytes(tmp_path):
    store = Store(tmp_path)
    put(store, "a", "x" * 100)
    (store.scratch(Kind.SAMPLES, "b") / "part").write_text("y" * 50)
    kinds = {(e.kind, e.key, e.finished) for e in store.entries()}
    assert kinds == {(Kind.WEIGHTS, "a", True), (Kind.SAMPLES, "b", False)}
    assert store.prune() >= 150
    assert store.entries() == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created"):
        Store(tmp_path / "file" / "x").scratch(Kind.WEIGHTS, "k")


def test_content_hash_sees_names_and_bytes(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = content_hash(folder)
    (folder / "a").rename(folder / "b")
    second = content_hash(folder)
    (folder / "b").write_text("2")
    assert len({first, second, content_hash(folder)}) == 3


def test_a_small_file_is_always_checked_and_a_large_one_by_size_and_time(tmp_path):
    store = Store(tmp_path)
    put(store, "small", "x" * 10)
    put(store, "large", "x" * (SMALL + 1))
    for key in ("small", "large"):
        path = store.path(Kind.WEIGHTS, key) / "a.txt"
        stat = path.stat()
        path.write_bytes(b"y" + path.read_bytes()[1:])
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not store.intact(Kind.WEIGHTS, "small")
    assert store.intact(Kind.WEIGHTS, "large")
    assert [a.key for a in store.verify()] == ["large"]
    assert not store.has(Kind.WEIGHTS, "large")


def test_a_large_file_of_another_time_is_checked_in_full(tmp_path):
    store = Store(tmp_path)
    put(store, "k", "x" * (SMALL + 1))
    path = store.path(Kind.WEIGHTS, "k") / "a.txt"
    os.utime(path, ns=(0, 0))
    assert store.intact(Kind.WEIGHTS, "k")
    path.write_bytes(b"y" * (SMALL + 1))
    assert not store.intact(Kind.WEIGHTS, "k")


DAMAGED = [b"", b"{", b'{"meta": {}, "sha', b"[]", b"null", b'{"meta": 1, "sha256": {}}', b"\xff\xfe"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_description_counts_as_absent(tmp_path, content):
    store = Store(tmp_path)
    put(store)
    (store.path(Kind.WEIGHTS, "k") / "meta.json").write_bytes(content)
    assert not store.has(Kind.WEIGHTS, "k")
    assert [a.finished for a in store.entries()] == [False]
    with pytest.raises(StoreError, match="missing or damaged; run the suite again"):
        store.meta(Kind.WEIGHTS, "k")
    put(store)
    assert store.intact(Kind.WEIGHTS, "k")


def test_a_description_with_a_changed_byte_counts_as_absent_or_says_the_same(tmp_path):
    store = Store(tmp_path)
    store.kept(Kind.WEIGHTS, "k", lambda folder: {"seconds": 1.25, "images": 640})
    path = store.path(Kind.WEIGHTS, "k") / "meta.json"
    content, meta = path.read_bytes(), store.meta(Kind.WEIGHTS, "k")
    assert meta == {"seconds": 1.25, "images": 640}
    found = []
    for position in range(len(content)):
        changed = content[position] ^ 1
        path.write_bytes(content[:position] + bytes([changed]) + content[position + 1 :])
        found.append(store.meta_or_none(Kind.WEIGHTS, "k"))
    assert all(each in (None, meta) for each in found)
    assert None in found[content.index(b"1.25") :]
    assert found[content.index(b"640")] is None


def test_a_description_of_an_earlier_version_has_no_checksum(tmp_path):
    store = Store(tmp_path)
    put(store)
    path = store.path(Kind.WEIGHTS, "k") / "meta.json"
    described = json.loads(path.read_bytes())
    del described["sha256_of_the_rest"]
    path.write_text(json.dumps(described))
    assert store.intact(Kind.WEIGHTS, "k")
    assert store.meta(Kind.WEIGHTS, "k") == described["meta"]


def test_a_description_that_the_disk_takes_only_a_part_of_raises_and_keeps_nothing(tmp_path):
    store, limits = Store(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.kept(Kind.VALUES, "k", lambda folder: {"text": "x" * 10_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not store.has(Kind.VALUES, "k")
    assert not list((tmp_path / Kind.VALUES).iterdir())


def test_arrays_that_cannot_be_read_are_made_again(tmp_path, monkeypatch):
    store, made = Store(tmp_path), []

    def make() -> dict[str, np.ndarray]:
        made.append(None)
        return {"x": np.arange(3)}

    store.kept_arrays(Kind.FEATURES, "k", make)
    path = store.path(Kind.FEATURES, "k") / "arrays.npz"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-30] + b"0" * 30)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr("genbench.store.artefacts.SMALL", 0)  # trusted by size and time
    assert (store.kept_arrays(Kind.FEATURES, "k", make)["x"] == np.arange(3)).all()
    assert len(made) == 2


def test_what_an_earlier_run_left_half_written_is_removed(tmp_path):
    store = Store(tmp_path)
    (tmp_path / Kind.WEIGHTS / ".k-abc123").mkdir(parents=True)
    lock = store._lease(f"{Kind.WEIGHTS}-k")
    lock._path(1).write_bytes(json.dumps({**leases.this_process(), "pid": 2**22 + 1}).encode())  # a killed process's
    put(store)
    assert [p.name for p in (tmp_path / Kind.WEIGHTS).iterdir()] == ["k"]
