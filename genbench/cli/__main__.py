"""`python -m genbench.cli`."""

from __future__ import annotations

from genbench.cli import main

if __name__ == "__main__":
    main()
