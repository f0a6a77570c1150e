"""`genbench score`: progress on standard error, then a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from genbench.errors import GenbenchError
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


def extraction_options(texts: Sequence[str]) -> dict[str, Any]:
    """From "size=64", "scaling=unit" or "mean=[0.5]" to the options. Raises GenbenchError for anything else."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not (key and equals):
            raise GenbenchError(f"--extraction: found '{text}', allowed: KEY=VALUE, such as size=64 or mean=[0.5]")
    return options


def _reporter(screen: Screen) -> Report:
    log = Throttle(PLAIN_SECONDS)  # a file or a pipe gets one line for each interval, and none for a short run

    def report(progress: Progress) -> None:
        if progress.note or screen.live or log.due():
            screen.progress("score", progress)

    return report
