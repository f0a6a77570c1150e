"""`genbench score`: progress on standard error, then a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from genbench.evaluate.score import Scores, score
from genbench.progress import Progress, Report, Throttle
from genbench.screen import PLAIN_SECONDS, Screen
from genbench.store import make_folder


def score_on_screen(json_file: Path | None, **options: Any) -> Scores:
    """Calls `score` and shows its progress on standard error; json_file: the file for the JSON, `-` for none."""
    file = json_file if json_file is not None and str(json_file) != "-" else None
    if file is not None:
        make_folder(file.absolute().parent)
    with Screen(Console(stderr=True, highlight=False, soft_wrap=True)) as screen:
        scores = score(**options, report=_reporter(screen))
    if file is not None:
        file.write_text(scores.to_json(), encoding="utf-8")
    return scores


def _reporter(screen: Screen) -> Report:
    log = Throttle(PLAIN_SECONDS)  # a file or a pipe gets one line for each interval, and none for a short run

    def report(progress: Progress) -> None:
        if progress.note or screen.live or log.due():
            screen.progress("score", progress)

    return report
