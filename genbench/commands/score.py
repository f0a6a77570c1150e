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
    """As `score`, with progress on standard error; json_file: where the JSON goes, `-` for nowhere."""
    file = json_file if json_file is not None and str(json_file) != "-" else None
    if file is not None:
        make_folder(file.absolute().parent)
    with Screen(Console(stderr=True, highlight=False, soft_wrap=True)) as screen:
        scores = score(**options, report=_reporter(screen))
    if file is not None:
        file.write_text(scores.to_json(), encoding="utf-8")
    return scores


def _reporter(screen: Screen) -> Report:
    log = Throttle(PLAIN_SECONDS)  # a file or a pipe gets a line now and then, and none where all is done sooner

    def report(progress: Progress) -> None:
        if screen.live or log.due():
            screen.progress("score", progress)

    return report
