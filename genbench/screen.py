"""The display while a suite runs: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from genbench.interruption import unwinding
from genbench.progress import Progress
from genbench.text import duration, printable

PLAIN_SECONDS = 10.0


class _Numbers(ProgressColumn):
    def render(self, task: object) -> Text:
        return Text(task.fields.get("numbers", ""), style="cyan")  # type: ignore[attr-defined]


class Screen:
    """Shows the progress of named tasks; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            _Numbers(),
        )
        self.bars = Bars(*columns, console=self.console, transient=True, disable=not self.live)
        self.ids: dict[str, TaskID] = {}
        self.shown: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Screen:
        self._unwinding = unwinding()  # an interrupt must leave the terminal as it was
        self._unwinding.__enter__()
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.stop()
        self._unwinding.__exit__(None, None, None)

    def say(self, text: str, style: str = "") -> None:
        """Prints a permanent line."""
        self.console.print(Text(printable(text), style=style))

    def progress(self, name: str, progress: Progress) -> None:
        """Shows the progress of a task, and prints its note."""
        if progress.note:
            self.say(f"{name} · {progress.phase}: {progress.note}", "yellow")
            return
        if not self.live:
            self._plain(name, progress)
            return
        if name not in self.ids:
            self.ids[name] = self.bars.add_task(name, total=None)
        total = progress.total or None
        text = f"{name} · {progress.phase}"
        self.bars.update(
            self.ids[name], description=text, total=total, completed=progress.done, numbers=numbers(progress)
        )

    def end(self, name: str, text: str, failed: bool = False) -> None:
        """Ends the bar of a task and prints its outcome."""
        if name in self.ids:
            self.bars.remove_task(self.ids.pop(name))
        self.say(f"{'✗' if failed else '✓'} {name}: {text}", "red" if failed else "")

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
    return "  ".join(parts)
