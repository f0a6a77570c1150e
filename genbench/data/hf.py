"""`hf`: a dataset in Hugging Face's format on this machine: a folder of `save_to_disk`, or .parquet files.

It is read by the package `datasets`, an extra. A DatasetDict's splits, or the parts of the names of .parquet files
(train-00000-of-00002.parquet), are the splits. Nothing is downloaded, and no code of a dataset is executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genbench.contract import DataSpec
from genbench.data.annotations import TEXT_COLUMNS
from genbench.data.base import Dataset
from genbench.data.folder import collect, refuse_unused
from genbench.data.stored import Named, classes_of_stored, describe_stored, read_stored, stored
from genbench.data.unpack import remove
from genbench.errors import DataError

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: hf, path, image_column, ...}. Raises DataError for data without images or a missing package."""
    return read_stored(_stored(entry, place))


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    return describe_stored(_stored(entry, place))


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    dataset = load(entry, place)
    return len(dataset.train), len(dataset.test)


def has_captions(entry: dict[str, Any], place: Path) -> bool:
    """Whether the images have captions."""
    return load(entry, place).train.texts is not None


def class_names(entry: dict[str, Any], place: Path) -> tuple[str, ...]:
    """The names of the classes."""
    return classes_of_stored(_stored(entry, place))


def _stored(entry: dict[str, Any], place: Path) -> Path:
    refuse_unused(entry)
    options = {key: value for key, value in entry.items() if key != "path"}
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")

    def make(scratch: Path) -> Named:
        root = scratch / "unpacked"
        try:
            numbered: Sequence[str] = ()
            for split, rows in _splits(place).items():
                numbered = _write(rows, root / split, entry, place) or numbered
            return collect({**entry, "captions": None}, root, scratch, in_shards=True, numbered=numbered)
        finally:
            remove(root)

    return stored("hf", options, place, make)


def _splits(place: Path) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf: needs the package datasets ({error}); pip install 'genbench[datasets]'") from None
    try:
        files = _parquet_files(place)
        if files:
            return {name: datasets.Dataset.from_parquet([str(f) for f in part]) for name, part in files.items()}
        found = datasets.load_from_disk(str(place))
    except Exception as error:  # its readers raise many kinds
        raise DataError(f"{place}: cannot be read as a dataset: {(str(error) or 'unknown').splitlines()[0]}") from error
    return found if isinstance(found, datasets.DatasetDict) else {"all": found}


def _parquet_files(place: Path) -> dict[str, list[Path]]:
    """Files of each split."""
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(file.stem.split("-")[0] if place.is_dir() else "all", []).append(file)
    return splits


def _write(rows: Any, folder: Path, entry: dict[str, Any], place: Path) -> Sequence[str]:
    """The images as files and a metadata.jsonl beside them, as genbench.data.folder reads them.

    Returns the names of the classes by number, () where the dataset does not number them.
    """
    import datasets

    image, text, label = _columns(rows, entry, place)
    names = getattr(rows.features.get(label), "names", None)
    folder.mkdir(parents=True)
    with (folder / "metadata.jsonl").open("w") as table:
        for number, row in enumerate(_plain(rows.cast_column(image, datasets.Image(decode=False)))):
            file = _write_image(row[image], folder / f"{number:08}", f"{place}: row {number}")
            about = {"file_name": file, "text": row[text] if text else None}
            table.write(json.dumps({**about, "label": _label(row[label], names) if label else None}) + "\n")
    if not text and not label:
        (folder / "metadata.jsonl").unlink()
    return names or ()


def _label(value: Any, names: Sequence[str] | None) -> str | None:
    """A label by name; a row without a label has None, or -1 where the classes have names."""
    if value is None or (names is not None and value < 0):
        return None
    return str(value if names is None else names[value])


def _plain(rows: Any) -> Iterator[dict[str, Any]]:
    yield from rows


def _columns(rows: Any, entry: dict[str, Any], place: Path) -> tuple[str, str, str]:
    """The columns of images, captions and labels; "" for none."""
    import datasets

    known = dict(rows.features)
    images = [name for name, kind in known.items() if isinstance(kind, datasets.Image)]
    for key in ("image_column", "text_column", "label_column"):
        if entry[key] and entry[key] not in known:
            raise DataError(f"{place}: {key}: no column '{entry[key]}', allowed: {', '.join(known)}")
    if not images and not entry["image_column"]:
        raise DataError(f"{place}: no column of images, only {', '.join(known)}")
    text = entry["text_column"] or next((name for name in TEXT_COLUMNS if name in known), "")
    label = entry["label_column"] or next((name for name in LABEL_COLUMNS if name in known), "")
    return entry["image_column"] or images[0], text, label


def _write_image(value: Mapping[str, Any], path: Path, where: str) -> str:
    content = value.get("bytes")
    if content is None:
        raise DataError(f"{where}: names a file and contains no image; save the dataset with its images")
    path.write_bytes(content)
    try:
        with Image.open(path, formats=list(FORMATS)) as image:
            named = path.with_suffix(f".{FORMATS[str(image.format)]}")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable image: {error}") from error
    path.rename(named)
    return named.name
