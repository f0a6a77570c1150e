"""The display while a suite runs: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from genbench.interruption import Unwinding
from genbench.progress import Progress
from genbench.text import duration, printable

PLAIN_SECONDS = 10.0
LEAST_SECONDS = 1.0  # of a task, in the estimate of the time left
WHOLE = "whole suite"


def _one_line(ratio: int) -> Column:
    """A column that is cut with an ellipsis where it does not fit, and never broken."""
    return Column(no_wrap=True, overflow="ellipsis", ratio=ratio)


class _Numbers(ProgressColumn):
    def render(self, task: object) -> Text:
        return Text(task.fields.get("numbers", ""), style="cyan")  # type: ignore[attr-defined]


class Screen:
    """Shows the progress of named tasks; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        self.console.soft_wrap = not self.live  # a terminal breaks lines inside words, rich between them
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False, table_column=_one_line(ratio=3)),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%"),
            _Numbers(table_column=_one_line(ratio=4)),
        )
        self.bars = Bars(*columns, console=self.console, transient=True, disable=not self.live, expand=True)
        self.ids: dict[str, TaskID] = {}
        self.shown: dict[str, tuple[str, float]] = {}
        self.lengths: dict[str, float] = {}  # of the expected tasks
        self.shares: dict[str, float] = {}  # done of those that run
        self.finished: set[str] = set()
        self.started = time.monotonic()

    def __enter__(self) -> Screen:
        self._unwinding = Unwinding()  # an interrupt must leave the terminal as it was
        self._unwinding.__enter__()
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.stop()
        self._unwinding.__exit__(None, None, None)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Shows from now on how many of these tasks are done, and about how long the others take.

        seconds: about how long each of them takes beside the others, 0 where unknown.
        """
        self.lengths = {name: max(each, LEAST_SECONDS) for name, each in seconds.items()}
        self.finished, self.shares, self.started = set(), {}, time.monotonic()
        self.ids[WHOLE] = self.bars.add_task(WHOLE, total=sum(self.lengths.values()))
        self._count()

    def _count(self) -> None:
        if WHOLE in self.ids:
            self.bars.update(self.ids[WHOLE], completed=self._done, numbers=self._progress())

    @property
    def _done(self) -> float:
        """Seconds of the expected ones that are done."""
        shares = {**self.shares, **dict.fromkeys(self.finished, 1.0)}
        return sum(share * self.lengths.get(name, 0.0) for name, share in shares.items())

    def _progress(self) -> str:
        """Tasks done of all, and the time left if the others differ from what is expected as these did."""
        done, whole = self._done, sum(self.lengths.values())
        left = (time.monotonic() - self.started) * (whole - done) / done if done > 0 else 0.0
        return f"{len(self.finished)} of {len(self.lengths)}" + (f", about {duration(left)} left" if left else "")

    def say(self, text: str, style: str = "") -> None:
        """Prints a permanent line."""
        self.console.print(Text(printable(text), style=style))

    def progress(self, name: str, progress: Progress) -> None:
        """Shows the progress of a task, and prints its note."""
        if progress.note:
            self.say(f"{name} · {progress.phase}: {progress.note}", "yellow")
            return
        self.shares[name] = progress.done / progress.total if progress.total else 0.0
        self._count()
        if not self.live:
            self._plain(name, progress)
            return
        if name not in self.ids:
            self.ids[name] = self.bars.add_task(printable(name), total=None)
        total = progress.total or None
        text = printable(f"{name} · {progress.phase}")
        self.bars.update(
            self.ids[name], description=text, total=total, completed=progress.done, numbers=numbers(progress)
        )

    def end(self, name: str, text: str, failed: bool = False) -> None:
        """Ends the bar of a task and prints its outcome."""
        if name in self.ids:
            self.bars.remove_task(self.ids.pop(name))
        self.shares.pop(name, None)
        self.finished.add(name)
        self._count()
        whole = f" [{self._progress()}]" if self.lengths and not self.live else ""
        self.say(f"{'✗' if failed else '✓'} {name}: {text}{whole}", "red" if failed else "")

    def _plain(self, name: str, progress: Progress) -> None:
        phase, last = self.shown.get(name, ("", 0.0))
        now = time.monotonic()
        if not progress.total or (progress.phase == phase and now - last < PLAIN_SECONDS):
            return
        self.shown[name] = (progress.phase, now)
        share = 100 * progress.done / progress.total
        self.say(f"  {name} · {progress.phase} {share:3.0f}%  {numbers(progress)}")


def numbers(progress: Progress) -> str:
    """Rate, remaining time and losses in one short line."""
    parts = []
    if progress.rate:
        left = (progress.total - progress.done) / progress.rate
        parts = [f"{progress.rate:,.0f} {progress.unit}/s", f"{duration(left)} left"]
    parts += [f"{name} {value:.3g}" for name, value in list(progress.terms.items())[-4:]]
    return printable("  ".join(parts))
