"""A cluster that exists only in this process: nodes with slots, which fail at random times and come back.

It is a launcher as those of Ray and Slurm are, so that order, repetition and overhead can be tried with thousands of
tasks. Time is simulated: a task takes a number of steps, and each call of `messages` is one step.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from genbench.progress import Report, silent
from genbench.runner.cluster import Cluster, Message
from genbench.runner.execution import Execution, LaunchRequest
from genbench.runner.launcher import Outcome, Task
from genbench.runner.remote_work import Lost


def pause(seconds: float, report: Report) -> None:
    """A task that takes time of the clock and none of the processor."""
    time.sleep(seconds)


@dataclass
class Node:
    """slots: tasks at a time. running: the steps that are left, by name of the task."""

    slots: int
    running: dict[str, int] = field(default_factory=dict)
    alone: bool = False


class SimulatedCluster(Cluster):
    """nodes, slots: how many, and tasks of each at a time. failing: probability that a node fails in a step.

    attempts: how often each task was begun. order: names of the tasks in the order in which they ended.
    """

    def __init__(self, nodes: int, slots: int, failing: float = 0.0, seed: int = 0, limit: float | None = None) -> None:
        super().__init__(LaunchRequest(Execution("simulated"), (), Path(), limit, lambda task, seconds: None))
        self.nodes = [Node(slots) for _ in range(nodes)]
        self.failing, self.rng = failing, random.Random(seed)
        self.waiting: list[Task] = []
        self.known: dict[str, Task] = {}
        self.attempts, self.order, self.failures = Counter[str](), list[str](), 0

    def submit(self, tasks: list[Task]) -> None:
        """As Cluster."""
        self.waiting += tasks
        self.known |= {task.name: task for task in tasks}

    def messages(self) -> Iterable[Message]:
        """One step: tasks are placed on free slots, some nodes fail, the other tasks come a step further."""
        self._assign()
        for node in self.nodes:
            if node.running and self.rng.random() < self.failing:
                self.failures += 1
                yield from self._fail(node)
            else:
                yield from self._step(node)

    def _assign(self) -> None:
        left = []
        for task in self.waiting:
            node = next((n for n in self.nodes if self._fits(n, task)), None)
            if node is None:
                left.append(task)
                continue
            node.alone, node.running[task.name] = task.alone, 1 + self.rng.randrange(3)
            self.attempts[task.name] += 1
        self.waiting = left

    @staticmethod
    def _fits(node: Node, task: Task) -> bool:
        if not node.running:
            return True
        return not node.alone and not task.alone and len(node.running) < node.slots

    @staticmethod
    def _fail(node: Node) -> Iterable[Message]:
        lost = [(name, Lost("its node failed")) for name in node.running]
        node.running.clear()
        return lost

    def _step(self, node: Node) -> Iterable[Message]:
        for name in list(node.running):
            node.running[name] -= 1
            if node.running[name] == 0:
                del node.running[name]
                self.order.append(name)
                task = self.known[name]
                yield name, Outcome(task.run(*task.args, silent))

    def cancel(self, task: Task) -> None:
        """As Cluster."""
        for node in self.nodes:
            node.running.pop(task.name, None)

    def stop(self) -> None:
        """As Cluster."""
        self.waiting = []
        for node in self.nodes:
            node.running.clear()
