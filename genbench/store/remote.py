"""A store behind a URL of fsspec: whole artefacts and unfinished work are copied to and from folders of this machine.

The files of an artefact are uploaded before its meta.json, so that it counts only when it is complete; a download is
checked by SHA-256 before it counts.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.keys import file_hash
from genbench.store.artefacts import META, Artefact, Kind, description, make_folder, read_description, write_description
from genbench.store.object_lease import ObjectLease

EXTRAS = {"s3": "genbench[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
UPLOAD_SECONDS = 10.0  # between two uploads of unfinished work


class Remote:
    """The objects of a store below a URL."""

    def __init__(self, url: str) -> None:
        """Raises StoreError for a scheme that is unknown or needs a package."""
        import fsspec  # takes a while, and is needed for URLs alone

        self.url, scheme = url.rstrip("/"), url.partition("://")[0]
        options = {"auto_mkdir": True} if scheme in ("file", "local") else {"use_listings_cache": False}
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.url, **options)
        except ImportError:
            needed = EXTRAS.get(scheme, f"the package of fsspec for {scheme}://")
            raise StoreError(f"{url}: needs another package: pip install '{needed}'") from None
        except ValueError as error:
            raise StoreError(f"{url}: {error}") from None

    def _path(self, *parts: str) -> str:
        return "/".join((self.root, *parts))

    def has(self, kind: str, key: str) -> bool:
        """Whether the artefact is complete."""
        return bool(self.files.exists(self._path(kind, key, META)))

    def put(self, folder: Path, kind: str, key: str) -> None:
        """Uploads a finished artefact."""
        names = sorted(path.name for path in folder.iterdir() if path.name != META)
        for name in (*names, META):
            self.files.put_file(str(folder / name), self._path(kind, key, name))

    def get(self, folder: Path, kind: str, key: str) -> bool:
        """Downloads an artefact to `folder`; False, and nothing there, where it is absent or damaged."""
        described = self._described(kind, key)
        if described is None:
            return False
        partial = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=make_folder(folder.parent)))
        try:
            for name, checksum in described["sha256"].items():
                self.files.get_file(self._path(kind, key, name), str(partial / name))
                if file_hash(partial / name) != checksum:
                    self.discard(kind, key)
                    return False
            write_description(partial, described["meta"])
            return _move(partial, folder)
        except FileNotFoundError:  # it was removed meanwhile
            return False
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _described(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            return read_description(self.files.cat_file(self._path(kind, key, META)))
        except FileNotFoundError:
            return None

    def discard(self, kind: str, key: str) -> None:
        """Removes an artefact: its meta.json first, so that what is left never counts."""
        for path in (self._path(kind, key, META), self._path(kind, key)):
            self.remove(path)

    def remove(self, path: str) -> None:
        """Removes an object, or all below a path."""
        if self.files.exists(path):
            self.files.rm(path, recursive=True)

    def get_scratch(self, folder: Path, kind: str, key: str) -> None:
        """Downloads the unfinished work on an artefact, in place of older files of the same names."""
        for path in self._below("scratch", kind, key):
            self.files.get_file(path, str(folder / path.rpartition("/")[2]))

    def drop_scratch(self, kind: str, key: str) -> None:
        """Removes the unfinished work on an artefact."""
        self.remove(self._path("scratch", kind, key))

    @contextmanager
    def uploading(self, folder: Path, kind: str, key: str) -> Iterator[None]:
        """Uploads the files of a scratch folder whenever they have changed, and once more after an error.

        They are written whole (genbench.files.whole), so that every copy is whole.
        """
        uploader, stop = _Uploader(self.files, folder, self._path("scratch", kind, key)), threading.Event()

        def work() -> None:
            while not stop.wait(UPLOAD_SECONDS):
                with suppress(Exception):  # of a network, for a moment: the next upload may succeed
                    uploader.upload()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            stop.set()
            thread.join()
            uploader.upload()
            raise
        finally:
            stop.set()
            thread.join()

    def lease(self, name: str) -> ObjectLease:
        """A lock of the store."""
        return ObjectLease(self.files, self._path("locks", name))

    def entries(self, root: Path) -> list[Artefact]:
        """Everything below the URL, finished or not; paths: where copies are or would be, below `root`."""
        sizes: dict[tuple[str, ...], int] = {}
        finished = set()
        for path in self._below():
            parts = tuple(path.removeprefix(f"{self.root}/").split("/"))
            entry = parts[:3] if parts[0] == "scratch" else parts[:2]
            sizes[entry] = sizes.get(entry, 0) + int(self.files.size(path) or 0)
            finished |= {entry} if parts[-1] == META else set()
        known = [entry for entry in sizes if entry[0] == "scratch" or entry[0] in list(Kind)]
        return [Artefact(e[-2], e[-1], root.joinpath(*e), sizes[e], e in finished) for e in known]

    def prune(self) -> None:
        """Removes everything that genbench stores below the URL."""
        for name in (*Kind, "scratch", "locks"):
            self.remove(self._path(name))

    def _below(self, *parts: str) -> list[str]:
        try:
            return list(self.files.find(self._path(*parts)))
        except FileNotFoundError:
            return []


class _Uploader:
    def __init__(self, files: Any, folder: Path, target: str) -> None:
        self.files, self.folder, self.target = files, folder, target
        self.uploaded: dict[str, tuple[int, int]] = {}

    def upload(self) -> None:
        """Uploads what has changed since the last time."""
        for path in self.folder.glob("[!.]*"):
            try:
                stat = path.stat()
                state = (stat.st_size, stat.st_mtime_ns)
                if path.is_file() and self.uploaded.get(path.name) != state:
                    self.files.put_file(str(path), f"{self.target}/{path.name}")
                    self.uploaded[path.name] = state
            except FileNotFoundError:  # replaced or removed meanwhile
                continue


def _move(partial: Path, folder: Path) -> bool:
    """Moves a whole folder into place; another process may have done the same."""
    try:
        partial.replace(folder)
    except OSError:
        return description(folder) is not None
    return True
