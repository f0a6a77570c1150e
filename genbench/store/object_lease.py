"""Locks that expire, as objects of an object store."""

from __future__ import annotations

import threading
from typing import Any

from genbench.store import leases
from genbench.store.leases import NumberedLease, Sight


class ObjectLease(NumberedLease):
    """Objects `folder/1`, `folder/2`, ... of a file system of fsspec that can create objects exclusively."""

    def __init__(self, files: Any, folder: str) -> None:
        super().__init__()
        self.files, self.folder = files, folder

    def _begin(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(self._stop,), daemon=True)
        self._thread.start()

    def _live(self, stop: threading.Event) -> None:
        while not stop.wait(leases.BEAT):
            self.live()

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        self.files.pipe_file(self._path(self.number), self._record())

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number}"

    def _read(self) -> dict[int, Sight]:
        try:
            paths = self.files.ls(self.folder, detail=False, refresh=True)
        except FileNotFoundError:
            return {}
        records = {}
        for path in paths:
            try:
                records[int(path.rpartition("/")[2])] = self.files.cat_file(path), 0
            except FileNotFoundError:  # removed meanwhile
                continue
        return records

    def _create(self, number: int) -> Sight | None:
        record = self._record()
        try:
            with self.files.open(self._path(number), "xb") as file:
                file.write(record)
        except FileExistsError:
            return None
        return record, 0

    def _remove(self, number: int) -> None:
        try:
            self.files.rm_file(self._path(number))
        except FileNotFoundError:  # another process took over
            self._lost = True
