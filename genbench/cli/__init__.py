"""The commands: each one parses its arguments, calls, prints and exits. torch is imported only when a command runs."""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from genbench.cli import images, models, results, suites, upkeep
from genbench.cli.options import echo
from genbench.errors import CellFailure, GenbenchError, Terminated
from genbench.interruption import INTERRUPTED, TERMINATED, end_at_once, handle_signals, interrupted
from genbench.reasons import explain, out_of_memory, raised_at, text_of
from genbench.surroundings import activity_of
from genbench.text import shortened

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

COLLECTED_AFTER = 100_000  # objects more, not 700: what a command imports and plans is needed until its end
TRACEBACK = "GENBENCH_TRACEBACK"  # environment variable: an internal error shows where it was raised
COMMANDS = (  # in the order of --help
    suites.run, suites.plan, results.report, images.score, images.stats, images.sample, models.show, models.export,
    models.check, results.diff, results.history, suites.speed, upkeep.selftest, models.new, upkeep.ls, upkeep.cache,
    results.convert, suites.schema,
)  # fmt: skip

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"genbench {version('genbench')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, sample and score generative models of every family under one declared protocol."""


def main() -> None:
    """The program. A user's mistake prints one line and exits with 2; an interruption exits with 130."""
    handle_signals()
    if not os.environ.get(TRACEBACK):
        sys.unraisablehook, threading.excepthook = _tell_unraisable, _tell_of_thread
    gc.set_threshold(COLLECTED_AFTER)
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _interrupted()
        raise
    except Terminated:
        end_at_once(TERMINATED)
    except GenbenchError as error:
        echo(f"genbench: {shortened(text_of(error))}", err=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get(TRACEBACK) and not isinstance(error, OSError):
            raise
        reason = _reason(error) or f"internal error: {explain(error)}; {TRACEBACK}=1 shows where"
        echo(f"genbench: {reason}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _interrupted()


def _reason(error: Exception) -> str:
    """One line for what is no fault of genbench's: an error of the user's code, a file or memory; "" for others."""
    if activity := activity_of(error):
        return f"{explain(error)}, while {activity}"
    if isinstance(error, CellFailure) or raised_at(error) or out_of_memory(error):
        return explain(error)
    with suppress(OSError):  # code may have left no descriptor to read the list of packages with
        from genbench.registry import raised_by_plugin  # late: it takes longer to import than reading the arguments

        if place := raised_by_plugin(error):
            return f"{explain(error)}, raised by {place}"
    return f"{error.filename or 'a file'}: {error.strerror or error}" if isinstance(error, OSError) else ""


def _interrupted() -> NoReturn:
    """Ends the command after KeyboardInterrupt, which code of a user's may have raised, too."""
    if interrupted():
        end_at_once(INTERRUPTED)
    echo("genbench: code that the command called raised KeyboardInterrupt", err=True)
    sys.exit(2)


def _tell_unraisable(failed: UnraisableHookArgs) -> None:
    """One line for what is raised where nothing can catch it: in functions of atexit, and in __del__."""
    if sys.stderr is not None:
        echo(f"genbench: {failed.err_msg or 'ignored'}: {_explained(failed)}", err=True)


def _tell_of_thread(failed: threading.ExceptHookArgs) -> None:
    """One line for what ends a thread of a user's code; SystemExit is an ordinary end of a thread."""
    if failed.exc_type is not SystemExit and sys.stderr is not None:
        echo(f"genbench: a thread ended with {_explained(failed)}", err=True)


def _explained(failed: UnraisableHookArgs | threading.ExceptHookArgs) -> str:
    return failed.exc_type.__name__ if failed.exc_value is None else explain(failed.exc_value)
