"""The server that starts a run's workers, begun early: it imports torch while the command does, and while it plans.

Nothing here imports torch.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from genbench.builtin import DATASET_TABLE
from genbench.runner.pool import POOL_MODULES, start_server
from genbench.suite.schema import Suite

RECORDS = "records.jsonl"


def default_folder(suite: Suite) -> Path:
    """Where a run writes unless it is told."""
    return Path("reports") / suite.suite


def begin_workers(suite: Suite, directory: Path) -> None:
    """Lets the server begin, where workers are processes of this machine.

    Not where there are records, so that there may be nothing to do, nor where a plug-in would be imported for it.
    """
    tables = [DATASET_TABLE.get(entry.name) for _, entry in suite.data_entries]
    known = [table for table in tables if table is not None]
    if "TORCHELASTIC_RUN_ID" in os.environ or multiprocessing.current_process().daemon:
        return
    if len(known) == len(tables) and not (directory / RECORDS).is_file():
        start_server(("genbench.runner.tasks", *(module for table in known for module in table.imports), *POOL_MODULES))
