"""`folder`: pictures of your own, in a folder or in archives, with labels, captions and splits where the files say so.

images/cat/1.png, images/dog/2.png              folders are classes
images/train/..., images/test/...               folders are splits, below which folders may be classes
images/1.png, images/metadata.jsonl             captions and labels from a table (genbench.data.annotations)
images.zip, shard-0000.tar, a folder of .tar    the same inside archives; shards have x.png, x.txt, x.cls
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from genbench.builtin import FolderOptions
from genbench.contract import DataSpec
from genbench.data.annotations import Annotations, read_annotations
from genbench.data.base import Dataset
from genbench.data.partition import Parts as Numbers
from genbench.data.partition import by_folder, by_hash, by_share, is_split, refuse_single, split_folders
from genbench.data.pictures import Pictures
from genbench.data.resizing import Sizing
from genbench.data.stored import Named, StoredPart, classes_of_stored, decoded, describe_stored, read_stored, stored
from genbench.data.unpack import innermost, remove, shards_of, unpack
from genbench.errors import DataError

SPARE = 1  # leading zeros that the number of a class may have; more make it a counter


def load_folder(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: folder, path, size, ...}: raises DataError for pictures, captions or splits that are not as required."""
    return read_stored(_stored(entry, place))


def describe_folder(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    return describe_stored(_stored(entry, place))


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    dataset = read_stored(_stored(entry, place))
    return len(dataset.train), len(dataset.test)


def has_captions(entry: dict[str, Any], place: Path) -> bool:
    """Whether the pictures have captions."""
    return read_stored(_stored(entry, place)).train.texts is not None


def class_names(entry: dict[str, Any], place: Path) -> tuple[str, ...]:
    """The names of the classes."""
    return classes_of_stored(_stored(entry, place))


def refuse_unused(entry: dict[str, Any]) -> None:
    """Raises DataError for options that are set and have no effect with the others."""
    if entry["size"] is None and entry["fit"] != FolderOptions.fit:
        raise DataError(f"fit: found '{entry['fit']}' without size, allowed: with size: a side, or [height, width]")
    if entry.get("split", "share") != "share":
        for key in ("test_share", "split_seed"):
            if entry.get(key, getattr(FolderOptions, key)) != getattr(FolderOptions, key):
                raise DataError(f"{key}: found {entry[key]} with split: {entry['split']}, allowed: with split: share")


def _stored(entry: dict[str, Any], place: Path) -> Path:
    refuse_unused(entry)
    options = {key: value for key, value in entry.items() if key != "path"}
    archives = shards_of(place)

    def make(scratch: Path) -> Named:
        if not archives:
            return collect(entry, place, scratch, in_shards=False)
        return unpacked(scratch, archives, lambda root: collect(entry, root, scratch, in_shards=len(archives) > 1))

    if not archives and not place.is_dir():
        raise DataError(f"{place}: no such folder of images")
    return stored(entry["name"], options, place, make)


def unpacked(scratch: Path, archives: list[Path], read: Callable[[Path], Named]) -> Named:
    """What `read` makes of the folder with the archives' files, which is deleted afterwards."""
    root = scratch / "unpacked"
    try:
        unpack(archives, root)
        return read(innermost(root))
    except DataError as error:
        raise DataError(str(error).replace(str(root), str(archives[0]))) from None
    finally:
        remove(root)


def collect(entry: dict[str, Any], root: Path, scratch: Path, in_shards: bool, numbered: Sequence[str] = ()) -> Named:
    """The parts of the dataset below a folder and the names of its classes; decodes pixels into the scratch folder.

    numbered: the classes by number where that is known; otherwise they are numbered by `class_order`.
    """
    pictures = Pictures(root, sizing(entry))
    tops = [_first_folder(file, root) for file in pictures.files]
    folders = split_folders(tops) if entry["split"] in ("auto", "folders") else None
    if entry["split"] == "folders" and folders is None:
        raise DataError(f"{root}: split: folders: found {_shown(tops)}, allowed: folders train and test (or val)")
    if entry["split"] == "auto" and folders is None and split_folders([t for t in tops if is_split(t)]):
        raise DataError(
            f"{root}: split: auto: found {_shown(tops)}, allowed: folders train and test (or val) alone; with others "
            "beside them, split: hash or share, which hold out images of every folder"
        )
    notes = read_annotations(root, pictures.files, entry["captions"])
    below = [_first_folder(f, root / top) if folders else top for f, top in zip(pictures.files, tops, strict=True)]
    names = _label_names(entry["labels"], below, notes, in_shards)
    classes = (numbered or class_order(names)) if names else ()
    labels = [classes.index(name) for name in names] if names else None
    refuse_single(pictures.count, root)
    pixels = decoded(pictures, scratch / "all.npy")
    (scratch / "all.npy").unlink()  # it stays mapped until the parts are written
    train, test = _numbers(entry, pixels, tops, folders)
    parts = {key: StoredPart(pixels, part, labels, notes.texts) for key, part in (("train", train), ("test", test))}
    return parts, classes


def sizing(entry: dict[str, Any]) -> Sizing | None:
    """The size and the way of cropping that an entry asks for; None for pictures as they are."""
    return None if entry["size"] is None else Sizing(entry["size"], entry["fit"])


def _numbers(entry: dict[str, Any], pixels: Tensor, tops: Sequence[str], folders: tuple[str, str] | None) -> Numbers:
    if folders is not None:
        return by_folder(tops, folders)
    if entry["split"] == "share":
        return by_share(len(pixels), entry["test_share"], entry["split_seed"])
    return by_hash(pixels)


def _label_names(wanted: str, folders: Sequence[str], notes: Annotations, in_shards: bool) -> Sequence[str]:
    """The class of each picture by name, () for no classes."""
    if wanted == "none":
        return ()
    if notes.labels is not None and wanted == "auto":
        return notes.labels
    named = all(folders) and len(set(folders)) > 1
    if wanted == "folders":
        if not named:
            raise DataError(
                f"labels: folders: found {_shown(folders)}, allowed: every picture in one of several folders"
            )
        return folders
    return folders if named and not in_shards and not _counters(set(folders)) else ()


def _counters(names: set[str]) -> bool:
    """Whether the folders are numbered parts ("00000", "00001") and no classes."""
    width = len(str(len(names) - 1)) + SPARE
    return all(name.isdecimal() for name in names) and min(map(len, names)) > width


def class_order(names: Sequence[str]) -> list[str]:
    """The classes in the order of their numbers: numbers by value, others by name."""
    return sorted(set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _first_folder(file: Path, root: Path) -> str:
    parts = file.relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""


def _shown(names: Sequence[str]) -> str:
    found = sorted({name or "pictures without a folder" for name in names})
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
