"""Locks: one holder at a time, on a disk and in an object store; a dead holder's lock is taken over."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import fsspec
import pytest

from genbench.store import disk_lease, leases
from genbench.store.disk_lease import DiskLease
from genbench.store.object_lease import ObjectLease


def disk(folder):
    return DiskLease(folder / "a.lease")


def objects(folder):
    return ObjectLease(fsspec.filesystem("file", auto_mkdir=True), f"{folder}/locks/a")


def memory(folder):
    return ObjectLease(fsspec.filesystem("memory"), f"/{folder.name}/locks/a")


@pytest.fixture(params=[disk, objects, memory])
def make(request, tmp_path):
    return lambda: request.param(tmp_path)


def test_a_lock_has_one_holder_at_a_time(make):
    first, second = make(), make()
    assert first.acquire(0)
    assert not second.acquire(0)
    first.release()
    assert second.acquire(1)
    assert not second.lost
    second.release()
    assert first.acquire(1)
    first.release()


def test_many_threads_that_want_a_lock_have_it_one_after_another(make):
    inside, most, rounds = [], [], []

    def work():
        lease = make()
        assert lease.acquire(60)
        inside.append(None)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        rounds.append(None)
        lease.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4
    assert len(rounds) == 4


def hold_and_die(make_lease, folder):
    assert make_lease(folder).acquire(5)
    os._exit(1)


@pytest.mark.parametrize("make_lease", [disk, objects])
def test_the_lock_of_a_process_of_this_machine_that_died_is_free_at_once(make_lease, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(make_lease, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 1
    lease = make_lease(tmp_path)
    start = time.monotonic()
    assert lease.acquire(leases.EXPIRY / 2)
    assert time.monotonic() - start < leases.EXPIRY / 2
    lease.release()


@pytest.fixture
def silent_holder(make, monkeypatch):
    """A lock whose holder lives on another machine and shows no sign of life; locks expire after half a second."""
    monkeypatch.setattr(leases, "EXPIRY", 0.5)
    monkeypatch.setattr(leases, "BEAT", 0.49)
    monkeypatch.setattr(leases, "POLL", 0.05)
    holder = make()
    assert holder.acquire(0)
    return holder


def stop_beating(holder):
    if isinstance(holder, DiskLease):
        disk_lease._HEART.remove(holder)
    else:
        holder._stop.set()
        holder._thread.join()


def test_the_lock_of_a_silent_holder_is_taken_over_after_its_expiry(make, silent_holder):
    stop_beating(silent_holder)
    waiting = [make(), make()]
    assert not waiting[0].acquire(0)  # from now on it watches
    assert [lease.acquire(5) for lease in waiting[:1]] == [True]
    assert not waiting[1].acquire(0.2)
    waiting[0].release()


@pytest.mark.parametrize("make_lease", [disk, objects])
def test_a_holder_that_shows_life_keeps_its_lock_and_one_that_lost_it_notices(make_lease, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "EXPIRY", 0.6)
    monkeypatch.setattr(leases, "BEAT", 0.1)
    monkeypatch.setattr(leases, "POLL", 0.05)
    monkeypatch.setattr(disk_lease, "_HEART", disk_lease._Heart())
    holder, other = make_lease(tmp_path), make_lease(tmp_path)
    assert holder.acquire(0)
    assert not other.acquire(1.5)
    Path(holder._path(2)).write_bytes(b"{}")  # somebody took it over
    deadline = time.monotonic() + 30
    while not holder.lost and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holder.lost


def test_a_sign_of_life_that_fails_is_repeated_and_a_loss_is_noticed_without_any(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    holder, failures = objects(tmp_path), []

    def fail(path, record):
        failures.append(None)
        raise OSError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(holder.files, "pipe_file", fail)
        assert holder.acquire(0)
        while len(failures) < 3:
            time.sleep(0.01)
    while holder.beats < len(failures) + 3:
        time.sleep(0.01)
    holder._stop.set()
    holder._thread.join()
    assert not holder.lost
    holder.files.pipe_file(f"{tmp_path}/locks/a/2", b"{}")  # somebody took it over
    assert holder.lost


def test_who_finds_more_than_he_saw_dead_withdraws(tmp_path, monkeypatch):
    """A slow taker: between his look and his creation another one took over, finished, and a third one began."""
    slow, third = objects(tmp_path), objects(tmp_path)
    files = fsspec.filesystem("file", auto_mkdir=True)
    dead = json.dumps({**leases.this_process(), "pid": 2**22 + 1}).encode()
    files.pipe_file(f"{tmp_path}/locks/a/1", dead)
    read, looks = slow._read, []

    def first_look_is_old():
        looks.append(None)
        if len(looks) == 1:
            old = read()
            files.rm_file(f"{tmp_path}/locks/a/1")
            assert third.acquire(0)
            return old
        return read()

    monkeypatch.setattr(slow, "_read", first_look_is_old)
    assert not slow.acquire(0)
    assert not third.lost
    third.release()
    assert slow.acquire(5)
    slow.release()


def test_a_lock_whose_record_is_not_written_yet_is_held(tmp_path):
    lease = objects(tmp_path)
    lease.files.pipe_file(lease._path(1), b"")
    assert not lease.acquire(0.1)


@pytest.mark.parametrize("make_lease", [disk, objects])
def test_who_lost_a_lock_does_not_end_that_of_a_later_holder_with_the_same_number(make_lease, tmp_path):
    first, later, waiting = (make_lease(tmp_path) for _ in range(3))
    assert first.acquire(0)
    Path(first._path(1)).unlink()  # somebody took it over, and has ended
    assert later.acquire(0)
    assert first.lost
    first.release()
    assert not later.lost
    assert not waiting.acquire(0)
    later.release()
    assert waiting.acquire(1)
    waiting.release()


def test_one_thread_shows_the_life_of_all_locks_of_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_lease, "_HEART", disk_lease._Heart())
    monkeypatch.setattr(leases, "BEAT", 0.02)
    held = [DiskLease(tmp_path / name) for name in "abc"]
    assert all(lease.acquire(0) for lease in held)
    while min(lease.beats for lease in held) < 3:
        time.sleep(0.01)
    beating = [thread for thread in threading.enumerate() if thread is disk_lease._HEART.thread]
    assert len(beating) == 1
    held[0].release()
    beats = held[0].beats, held[1].beats
    while held[1].beats < beats[1] + 3:
        time.sleep(0.01)
    assert held[0].beats == beats[0]
    for lease in held[1:]:
        lease.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_written_is_not_left(tmp_path, monkeypatch):
    lease = disk(tmp_path)

    def full():
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lease, "_record", full)
        with pytest.raises(OSError, match="No space"):
            lease.acquire(0)
    assert lease.acquire(0)
    lease.release()


def test_a_holder_whose_locks_were_pruned_has_lost_its_lock(tmp_path):
    (tmp_path / "locks").mkdir()
    lease = disk(tmp_path / "locks")
    assert lease.acquire(0)
    shutil.rmtree(tmp_path / "locks")
    assert lease.lost
    lease.release()


def test_a_lock_is_not_lost_while_its_record_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    holder, begun = objects(tmp_path), threading.Event()

    def slow(path, record):
        Path(path).write_bytes(b"")
        begun.set()
        time.sleep(0.2)
        Path(path).write_bytes(record)

    monkeypatch.setattr(holder.files, "pipe_file", slow)
    assert holder.acquire(0)
    assert begun.wait(30)
    assert not holder.lost
    holder.release()
    assert not holder._read()
