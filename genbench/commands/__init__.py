"""What the commands of the command line do, one file per command; genbench.cli parses, prints and exits."""

from __future__ import annotations
