"""What the commands of the command line do, one file per command."""

from __future__ import annotations
