"""The command `genbench`, which is `python -m genbench` too."""

from __future__ import annotations

import sys

from genbench.interruption import handle_signals
from genbench.supervision import end_command, supervise


def main() -> None:
    """Runs the command; an interrupt ends it in one line from here on, also while modules are imported."""
    handle_signals()
    supervise(handle_signals)
    try:
        from genbench.cli import main as run_command

        run_command()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        end_command(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end_command(1)
    end_command(0)


if __name__ == "__main__":
    main()
