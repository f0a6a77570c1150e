"""The command `genbench`, which is `python -m genbench` too."""

from __future__ import annotations

from genbench.interruption import handle_signals


def main() -> None:
    """Runs the command; an interrupt ends it in one line from here on, also while modules are imported."""
    handle_signals()
    from genbench.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
