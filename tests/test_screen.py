"""The display of a run: 80 columns, tasks done of all, and plain lines where there is no terminal."""

import io

from rich.console import Console

from genbench.progress import Progress
from genbench.screen import Screen

LONG = "latent_diffusion-with-a-long-label s0 train"


def shown(terminal, width=80):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False, color_system=None)
    with Screen(console) as screen:
        screen.expect({LONG: 60.0, "vae s0 evaluate": 0.0, "gan s0 train": 0.0})
        terms = {"discriminator": 0.123, "generator": 1.234, "path": 0.5, "style": 2.0}
        progress = Progress("train", 5_000, 60_000, rate=1234.5, terms=terms)
        screen.progress(LONG, progress)
        screen.bars.refresh()
        screen.end(
            "vae s0 evaluate", "fid 1.234, kid 0.1234, precision 0.9123, recall 0.8123, coverage 0.7123, memorised 0"
        )
        screen.end("gan s0 train", "out of memory", failed=True)
        screen.bars.refresh()
    return console.file.getvalue()


def test_no_line_of_a_terminal_is_wider_than_80_columns_or_breaks_a_word():
    lines = shown(terminal=True).replace("\r", "\n").splitlines()
    plain = [line.partition("\x1b[2K")[2] or line for line in lines]
    assert max(len(line) for line in plain if "\x1b" not in line) <= 80
    text = "\n".join(plain)
    assert "whole suite" in text
    assert "0 of 3" in text
    assert "2 of 3" in text
    for word in ("precision 0.9123", "memorised 0"):
        assert word in " ".join(text.split())


def test_without_a_terminal_each_task_is_one_line_with_the_count():
    lines = shown(terminal=False).splitlines()
    assert [line for line in lines if line.startswith(("✓", "✗"))] == [
        next(line for line in lines if line.startswith("✓ vae s0 evaluate: fid 1.234")),
        next(line for line in lines if line.startswith("✗ gan s0 train: out of memory [2 of 3")),
    ]
    assert any("recall 0.8123, coverage 0.7123, memorised 0 [1 of 3, about " in line for line in lines)


def test_the_time_left_counts_each_task_by_its_expected_length(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("genbench.screen.time.monotonic", lambda: clock[0])
    screen = Screen(Console(file=io.StringIO(), width=200))
    screen.expect({"long": 98.0, "short": 0.0, "other": 1.0})
    clock[0] = 20.0
    screen.progress("long", Progress("train", 50, 100))  # 49 of 100 s are done
    screen.end("short", "done")  # which count as 1 s
    assert "[1 of 3, about 20 s left]" in screen.console.file.getvalue()
    screen.end("other", "done")
    assert "[2 of 3, about 19 s left]" in screen.console.file.getvalue()
    screen.end("long", "done")
    assert "[3 of 3]" in screen.console.file.getvalue()


def test_tasks_of_unknown_length_count_alike(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("genbench.screen.time.monotonic", lambda: clock[0])
    screen = Screen(Console(file=io.StringIO(), width=200))
    screen.expect(dict.fromkeys("abcd", 0.0))
    clock[0] = 10.0
    screen.end("a", "done")
    assert "[1 of 4, about 30 s left]" in screen.console.file.getvalue()
