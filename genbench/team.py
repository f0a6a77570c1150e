"""Processes that help with one task: they compute together with the process that has the task.

    with Team(4, "cpu") as team, team.call(function, *args) as group:
        ...                        # here as process 0 of 4; meanwhile the others run function(group, *args)

The members are started by the team on this machine, or are the processes that torchrun started. They wait for calls in
a store of torch.distributed: calls have numbers, and members answer each of them, "" or why it failed. `function` is
found by its module and name, and its arguments are sent as pickles.
"""

from __future__ import annotations

import base64
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from genbench.errors import CellFailure, GenbenchError, ProcessDied
from genbench.interruption import TERMINATED
from genbench.machine import use_threads
from genbench.processes.group import ALONE, Processes
from genbench.reasons import explain
from genbench.supervision import ends

LOCAL = "127.0.0.1"
FOREVER = timedelta(days=365)
POLL = 0.02  # seconds between two looks at what the members answered
LAST_WORDS = 5.0  # seconds that processes have to state why they failed, or to end
CALLS, LOST = "calls", "lost: "
END = ""


@dataclass(frozen=True)
class Launched:
    """The processes that torchrun started: the number of this one, its number on its machine, how many there are."""

    rank: int
    local_rank: int
    size: int

    @classmethod
    def from_environment(cls) -> Launched | None:
        """None where torchrun did not start this process, or started only this one."""
        if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
            return None
        return cls(*(int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")))

    def store(self, host: bool = False) -> dist.TCPStore:
        """The store that all of them share; host: in this process, unless torchrun's agent has it."""
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(*address, is_master=host and not agent, wait_for_workers=False, timeout=FOREVER)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """In process 0: the others serve calls while it is open, and then end."""
        store = self.store(host=True)
        try:
            yield
        finally:
            store.set(f"call/{store.add(CALLS, 1) - 1}", END)

    def serve(self) -> None:
        """In the other processes: answers calls until process 0 has ended.

        A signal to end leaves LAST_WORDS seconds, in which process 0 writes a checkpoint.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_after_the_signal, daemon=True).start()
        use_threads(1)
        _serve(self.store(), Processes(self.rank, self.size, self.local_rank))


def require_processes(size: int, device: str, gpus: int | None = None) -> None:
    """Raises GenbenchError unless that many processes can compute together on a device. gpus: how many there are."""
    kind = device.split(":")[0]
    if size > 1 and kind not in ("cpu", "cuda"):
        raise GenbenchError(f"--processes: found {size} with device {kind}, allowed: 1, or more on cpu and cuda")
    if kind == "cuda" and gpus is not None and size > max(1, gpus):
        raise GenbenchError(f"--processes: found {size}, allowed: at most {gpus}, one for each GPU of --device")


class Team:
    """The process that makes it and size - 1 members, which start with the first call and end with the team.

    device: where all compute; of several GPUs each process has the one with its number. died: which member has died and
    how, "" for none.
    """

    def __init__(self, size: int, device: str) -> None:
        """Raises GenbenchError for a device on which processes cannot exchange tensors."""
        require_processes(size, device)
        self.size, self.kind, self.died = size, device.split(":")[0], ""
        self._store: dist.Store | None = None
        self._members: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.kill()
            member.wait()
            assert member.stdin is not None
            member.stdin.close()

    @contextmanager
    def call(self, function: Callable[..., object], *args: Any) -> Iterator[Processes]:
        """Lets the members run function(group, *args) and yields the group; afterwards all have ended.

        Raises CellFailure with the reason of a member that failed.
        """
        if self.size == 1:
            yield ALONE
            return
        self._store = self._store or self._opened()
        number = self._store.add(CALLS, 1) - 1
        self._store.set(f"call/{number}", base64.b64encode(pickle.dumps((self.kind, function, args))).decode())
        try:
            self._wait(number, "ready")
            with _joined(self._store, number, self.kind, Processes(0, self.size)) as group:
                yield group
        except Exception as error:
            if _lost_another(error):
                self._wait(number, "end", LAST_WORDS)
            raise
        self._wait(number, "end")

    def _opened(self) -> dist.Store:
        launched = Launched.from_environment()
        if launched is not None:
            return launched.store()
        store = dist.TCPStore(LOCAL, 0, is_master=True, wait_for_workers=False, timeout=FOREVER)
        self._members = [_start_member(store.port, rank, self.size) for rank in range(1, self.size)]
        return store

    def _wait(self, number: int, what: str, seconds: float | None = None) -> None:
        """Until all members have answered. Raises CellFailure for one that failed, ProcessDied for one that died."""
        assert self._store is not None
        limit, waiting = time.monotonic() + (seconds or FOREVER.total_seconds()), set(range(1, self.size))
        while waiting and time.monotonic() < limit:
            for rank in sorted(waiting):
                answers = [f"{kind}/{number}/{rank}" for kind in dict.fromkeys((what, "end"))]
                answered = [name for name in answers if self._store.check([name])]
                if answered:
                    self._judge(rank, self._store.get(answered[-1]).decode())
                    waiting.remove(rank)
                elif self._members and (code := self._members[rank - 1].poll()) is not None:
                    self.died = f"process {rank} of {self.size} died (exit code {code})"
                    raise ProcessDied(self.died)
            time.sleep(POLL)

    def _judge(self, rank: int, answer: str) -> None:
        if answer and not answer.startswith(LOST):
            raise CellFailure(f"{answer} (in process {rank} of {self.size})")


SOLO = Team(1, "cpu")  # this process alone


@contextmanager
def _joined(store: dist.Store, number: int, kind: str, group: Processes) -> Iterator[Processes]:
    """The group of one call, as torch.distributed's default group."""
    if kind == "cuda":
        torch.cuda.set_device(group.local_rank)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    names = dist.PrefixStore(f"group/{number}", store)
    try:
        dist.init_process_group(backend, store=names, rank=group.rank, world_size=group.size)
    except Exception:
        # torch counts groups to name them; one that a member left while it formed would stay counted in this process
        # alone, whose next group would wait for members under another name.
        dist.distributed_c10d._world.group_count = 0
        raise
    try:
        yield group
    finally:
        dist.destroy_process_group()


def _lost_another(error: BaseException) -> bool:
    """Whether an operation of torch.distributed failed because another process is no more, or failed itself."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "onnection"))


def _serve(store: dist.Store, group: Processes) -> None:
    for number in itertools.count():
        call = store.get(f"call/{number}").decode()
        if call == END:
            return
        store.set(f"end/{number}/{group.rank}", _answer(store, number, group, call))


def _answer(store: dist.Store, number: int, group: Processes, call: str) -> str:
    try:
        kind, function, args = pickle.loads(base64.b64decode(call))
        store.set(f"ready/{number}/{group.rank}", "")
        with _joined(store, number, kind, group):
            function(group, *args)
    except Exception as error:
        return (LOST if _lost_another(error) else "") + explain(error)
    return ""


def _start_member(port: int, rank: int, size: int) -> subprocess.Popen[bytes]:
    """A member in a session of its own, which a terminal's Ctrl-C does not reach; it ends with this process."""
    numbers = (str(n) for n in (port, rank, size, torch.get_num_threads()))
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "genbench.team", *numbers]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=variables, start_new_session=True)


def _end_with_the_team() -> None:
    sys.stdin.buffer.read()  # until the other end is closed
    os._exit(1)


def _end_after_the_signal() -> None:
    signal.sigwait({signal.SIGTERM})
    time.sleep(LAST_WORDS)
    ends(TERMINATED)
    os._exit(TERMINATED)


def _member() -> None:
    port, rank, size, threads = (int(text) for text in sys.argv[1:])
    threading.Thread(target=_end_with_the_team, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(threads)
    _serve(dist.TCPStore(LOCAL, port, is_master=False, timeout=FOREVER), Processes(rank, size, rank))


if __name__ == "__main__":
    _member()
