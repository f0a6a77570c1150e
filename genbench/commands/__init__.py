"""The work of each command, one file per command; genbench.cli parses arguments, prints and exits."""

from __future__ import annotations
