"""Artefacts (weights, samples, features, values), each under the hash of what it depends on.

An artefact is a folder written elsewhere, flushed to the disk and moved into place, so it is whole or absent. meta.json
has the checksum, size and time of each of its files. When an artefact is read, checksums of files up to SMALL are
always computed; a larger file whose size and time are as recorded is trusted until `genbench cache --verify`. A damaged
artefact counts as absent and is made again. Unfinished work (checkpoints, drawn blocks) is in a scratch folder that
remains after a kill.

The store is a folder, on a disk that machines may share, or a URL of fsspec (s3://bucket/path); of a URL each machine
has copies, which are made when they are read.
"""

from __future__ import annotations

from genbench.store.artefacts import SMALL, Artefact, Kind, make_folder
from genbench.store.derived import kept_text
from genbench.store.disk_lease import DiskLease
from genbench.store.leases import held
from genbench.store.store import LOCATION, Store, default_location, default_root

__all__ = [
    "LOCATION",
    "SMALL",
    "Artefact",
    "DiskLease",
    "Kind",
    "Store",
    "default_location",
    "default_root",
    "held",
    "kept_text",
    "make_folder",
]
