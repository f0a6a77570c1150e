"""`folder`: labels, captions and splits from folders, tables and archives; what is refused, in one line."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genbench import data
from genbench.contract import DataSpec
from genbench.data import folder as folder_module
from genbench.data import unpack
from genbench.errors import DataError
from genbench.store import Kind, Store


def picture(value: int, size: tuple[int, int] = (6, 6)) -> Image.Image:
    return Image.new("RGB", size, (value, value // 2, 255 - value))


def write(root: Path, names: list[str], size: tuple[int, int] = (6, 6)) -> Path:
    """A picture for each name; the red value of picture i is i."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number, size).save(root / name)
    return root


def load(path: Path, **options: Any) -> data.Dataset:
    entry = {"name": "folder", "path": str(path), **options}
    dataset = data.load(entry)
    assert data.describe(entry) == (dataset.spec, dataset.fingerprint)
    return dataset


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **options)
    return str(caught.value).replace(str(path), "DATA")


def reds(split: data.Split) -> list[int]:
    return split.pixels[:, 0, 0, 0].tolist()


CATS_AND_DOGS = [f"{kind}/{i}.png" for kind in ("dog", "cat") for i in range(10)]


def test_folders_with_names_are_classes_in_the_order_of_names(tmp_path):
    found = load(write(tmp_path, CATS_AND_DOGS))
    assert found.spec == DataSpec(3, 6, 6, classes=2)
    for split in (found.train, found.test):
        assert split.labels.tolist() == [int(red < 10) for red in reds(split)]  # dogs were written first
    assert sorted(reds(found.train) + reds(found.test)) == list(range(20))
    assert load(tmp_path, labels="none").train.labels is None


def test_folders_with_numbers_are_classes_by_value_and_counters_are_none(tmp_path):
    numbered = load(write(tmp_path / "n", [f"{k}/{i}.png" for k in range(11) for i in range(2)]))
    assert numbered.spec.classes == 11
    assert numbered.train.labels.tolist() == [red // 2 for red in reds(numbered.train)]
    counted = load(write(tmp_path / "c", [f"{k:05}/{i}.png" for k in range(3) for i in range(4)]))
    assert (counted.spec.classes, counted.train.labels) == (0, None)
    assert load(tmp_path / "c", labels="folders").spec.classes == 3
    assert refusal(write(tmp_path / "f", ["1.png", "2.png"]), labels="folders") == (
        "labels: folders: found pictures without a folder, allowed: every picture in one of several folders"
    )


def test_folders_train_and_test_are_the_splits_and_those_below_them_classes(tmp_path):
    names = [f"{split}/{kind}/{i}.png" for split in ("train", "val") for kind in "ab" for i in range(3)]
    found = load(write(tmp_path, names))
    assert (reds(found.train), reds(found.test)) == (list(range(6)), list(range(6, 12)))
    assert found.train.labels.tolist() == found.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    pooled = load(tmp_path, split="hash", labels="none")
    assert (len(pooled.train), len(pooled.test)) == (11, 1)
    assert refusal(write(tmp_path / "x", CATS_AND_DOGS), split="folders") == (
        "DATA: split: folders: found cat, dog, allowed: folders train and test (or val)"
    )


def test_a_third_folder_beside_train_and_test_is_no_class(tmp_path):
    """It once made classes of all three, so that test images were trained on."""
    names = [f"{split}/{kind}/{i}.png" for split in ("Train", "test", "extra") for kind in "ab" for i in range(3)]
    assert refusal(write(tmp_path, names)) == (
        "DATA: split: auto: found Train, extra, test, allowed: folders train and test (or val) alone; with others "
        "beside them, split: hash or share, which hold out images of every folder"
    )
    assert load(tmp_path, split="hash").spec.classes == 3
    vehicles = load(write(tmp_path / "v", [f"{kind}/{i}.png" for kind in ("train", "plane") for i in range(3)]))
    assert vehicles.spec.classes == 2


def test_a_share_is_drawn_from_its_seed(tmp_path):
    write(tmp_path, [f"{i:02}.png" for i in range(20)])
    parts = {seed: load(tmp_path, split="share", test_share=0.25, split_seed=seed) for seed in (0, 1)}
    assert [len(p.test) for p in parts.values()] == [5, 5]
    assert reds(parts[0].test) != reds(parts[1].test)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    assert reds(parts[0].test) == sorted(order[:5])


@pytest.mark.parametrize(
    ("size", "fit", "shape"), [(4, "crop", (4, 4)), ([5, 9], "stretch", (5, 9)), ([9, 5], "pad", (9, 5))]
)
def test_pictures_of_any_sizes_are_brought_to_one_size(tmp_path, size, fit, shape):
    write(tmp_path, ["a.png", "b.png"], (12, 7))
    write(tmp_path, ["c.png"], (5, 30))
    found = load(tmp_path, size=size, fit=fit)
    assert found.spec == DataSpec(3, *shape)
    if fit != "pad":
        assert {len(image.flatten(1).unique(dim=1)[0]) for image in found.train.pixels} == {1}  # one colour stays one
    else:
        assert (found.train.pixels == 0).any()


CAPTIONS = ("a zero", "one, two", "three")
TABLES = {
    "metadata.csv": 'file_name,text\n0.png,a zero\n1.png,"one, two"\n2.png,three\n',
    "metadata.jsonl": "\n".join(json.dumps({"file_name": f"{i}.png", "caption": c}) for i, c in enumerate(CAPTIONS)),
    "captions.txt": "0.png\ta zero\n1.png\tone, two\n2.png\tthree\n",
    "mine.csv": 'prompt,image\na zero,0.png\n"one, two",1.png\nthree,2.png\n',
    "mine.jsonl": "\n".join(json.dumps({"file": f"{i}.png", "prompt": c}) for i, c in enumerate(CAPTIONS)),
    "lines.txt": "\n".join(CAPTIONS),
}


@pytest.mark.parametrize(("name", "text"), TABLES.items())
def test_captions_from_a_table(tmp_path, name, text):
    write(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / name).write_text(text)
    options = {"captions": name} if name == "lines.txt" else {}
    found = load(tmp_path, **options)
    for split in (found.train, found.test):
        assert split.texts == tuple(CAPTIONS[red] for red in reds(split))
    assert data.has_captions({"name": "folder", "path": str(tmp_path), **options})
    assert found.texts(found.test) == found.test.texts
    assert load(tmp_path, labels="none", **options).fingerprint == found.fingerprint


def test_tables_of_any_name_add_up_and_others_are_ignored(tmp_path):
    write(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "captions.csv").write_text("file,text\n0.png,a\n1.png,b\n2.png,c\n")
    (tmp_path / "classes.csv").write_text("file,label\n0.png,x\n1.png,y\n2.png,x\n")
    (tmp_path / "losses.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / ".hidden.csv").write_text("file,text\n7.png,a\n")
    found = load(tmp_path)
    texts, labels = (
        dict(zip(reds(found.train), kept, strict=True)) for kept in (found.train.texts, found.train.labels)
    )
    assert texts == {red: "abc"[red] for red in texts}
    assert labels == {red: red % 2 for red in labels}
    (tmp_path / "more.jsonl").write_text(json.dumps({"file": "0.png", "text": "z"}))
    assert refusal(tmp_path) == (
        "DATA/more.jsonl: text of DATA/0.png is 'z', and another table 'a'; `captions:` names the table to read"
    )
    assert load(tmp_path, captions="captions.csv").train.labels is None


def test_captions_may_contain_what_ends_lines_elsewhere(tmp_path):
    captions = ("two\u2028parts", 'a "b"\nc', "x\x85y")
    rows = [{"file_name": f"{i}.png", "text": caption} for i, caption in enumerate(captions)]
    write(tmp_path, ["0.png", "1.png", "2.png"])
    table = tmp_path / "metadata.jsonl"
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    read = [load(tmp_path)]
    table.unlink()
    with (tmp_path / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *(row.values() for row in rows)])
    read.append(load(tmp_path))
    for found in read:
        assert {t for split in (found.train, found.test) for t in split.texts} == set(captions)


def test_imagefolders_table_in_each_split_gives_labels_and_captions(tmp_path):
    write(tmp_path, [f"{split}/{i}.png" for split in ("train", "test") for i in range(2)])
    for split, rows in (("train", [("x", "b"), ("y", "a")]), ("test", [("z", "b"), ("w", "b")])):
        lines = [json.dumps({"file_name": f"{i}.png", "text": t, "label": k}) for i, (t, k) in enumerate(rows)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    found = load(tmp_path)
    assert (found.train.texts, found.test.texts) == (("x", "y"), ("z", "w"))
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([1, 0], [1, 1])


def test_captions_that_do_not_fit_the_pictures_are_refused(tmp_path):
    write(tmp_path, ["0.png", "1.png"])
    absent, columns = "1 of 2 pictures have no row, the first DATA/1.png", "text, caption, prompt, label"
    name_columns = "a column file_name or file or image or path"
    cases = {
        "a.csv": ("file_name,text\n0.png,x\n", absent),
        "b.csv": ("file_name,text\n0.png,x\n1.png,y\n7.png,z\n", "1 rows name no picture, the first DATA/7.png"),
        "c.csv": ("name,text\n0.png,x\n", f"row 1: found no file name, allowed: {name_columns}"),
        "d.jsonl": ("{\n", "not JSON: "),
        "e.jsonl": ("[1]\n", "found list, allowed: a JSON object"),
        "f.txt": ("x\n", "found 1 lines for 2 pictures, allowed: one line for each picture in the order of"),
        "g.csv": (
            "file_name,colour\n0.png,x\n1.png,y\n",
            f"found no column for captions or labels, allowed: {columns}",
        ),
        "none.csv": (None, "not found"),
    }
    for name, (text, message) in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        found = refusal(tmp_path, captions=name)
        assert found.startswith(f"DATA/{name}:")
        assert message in found


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_a_table_of_a_spreadsheet_and_of_windows_is_read(tmp_path, mark, slash):
    write(tmp_path, CATS_AND_DOGS)
    rows = [f"{name.replace('/', slash)}{mark}a {name[:3]}" for name in CATS_AND_DOGS]
    (tmp_path / "list.csv").write_text("\n".join([f"file{mark}caption", *rows]), encoding="utf-8-sig")
    assert set(load(tmp_path).train.texts) == {"a cat", "a dog"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 0.3}, "test_share: found 0.3 with split: auto, allowed: with split: share"),
        ({"split": "hash", "split_seed": 1}, "split_seed: found 1 with split: hash, allowed: with split: share"),
        ({"fit": "pad"}, "fit: found 'pad' without size, allowed: with size: a side, or [height, width]"),
    ],
)
def test_an_option_without_an_effect_is_refused(tmp_path, options, message):
    assert refusal(write(tmp_path, CATS_AND_DOGS), **options) == message


# ---- archives


def png(value: int) -> bytes:
    stream = io.BytesIO()
    picture(value).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_read_as_the_folder_that_it_contains(tmp_path):
    files = {name: png(i) for i, name in enumerate(CATS_AND_DOGS)}
    plain = load(write(tmp_path / "x", CATS_AND_DOGS))
    archives = [write_zip(tmp_path / "x.zip", files), write_tar(tmp_path / "x.tar", files)]
    archives.append(write_tar(tmp_path / "x.tar.gz", files, "w:gz"))
    for archive in archives:
        assert load(archive).fingerprint == plain.fingerprint
    assert not list(Path(Store().root).rglob("unpacked"))


@pytest.mark.parametrize("beside", [{}, {"__MACOSX/images/cat/._0.png": b"x"}, {".DS_Store": b"x"}])
def test_the_folder_that_was_packed_is_no_class(tmp_path, beside):
    files = {f"images/{name}": png(i) for i, name in enumerate(CATS_AND_DOGS)}
    plain = load(write(tmp_path / "x", CATS_AND_DOGS))
    assert load(write_zip(tmp_path / "x.zip", files | beside)).fingerprint == plain.fingerprint
    table = {"images/metadata.csv": ("file_name,text\n" + "".join(f"{n},a {n}\n" for n in CATS_AND_DOGS)).encode()}
    found = load(write_tar(tmp_path / "y.tar", files | beside | table))
    assert (found.spec.classes, found.train.texts is None) == (2, False)


def test_webdatasets_shards_have_captions_and_labels_beside_the_pictures(tmp_path):
    for shard in range(2):
        files: dict[str, bytes] = {}
        for i in range(3):
            number = 3 * shard + i
            files |= {
                f"{i:04}.png": png(number),
                f"{i:04}.txt": f"text {number}".encode(),
                f"{i:04}.cls": str(number % 2).encode(),
            }
        write_tar(tmp_path / "shards" / f"part-{shard:04}.tar", files)
    found = load(tmp_path / "shards")
    assert sorted(reds(found.train) + reds(found.test)) == list(range(6))
    for split in (found.train, found.test):
        assert split.texts == tuple(f"text {red}" for red in reds(split))
        assert split.labels.tolist() == [red % 2 for red in reds(split)]


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "C:evil.png", "a\\..\\evil.png"])
def test_members_outside_the_folder_are_refused(tmp_path, name):
    archives = [write_tar(tmp_path / "x.tar", {"a.png": png(0), name: png(1)})]
    archives.append(write_zip(tmp_path / "x.zip", {"a.png": png(0), name: png(1)}))
    for archive in archives:
        assert "would be written outside its folder" in refusal(archive)
    assert not list(tmp_path.parent.rglob("evil.png"))
    assert not list(Path(Store().root).rglob("*.png"))


def test_links_and_devices_in_archives_are_refused(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            member = tarfile.TarInfo("a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        assert refusal(tmp_path / "x.tar") == "DATA: member 'a.png' is no file, allowed: files and folders"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert refusal(tmp_path / "x.zip") == "DATA: member 'a.png' is a link, allowed: files and folders"


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "FREE", 1 << 16)
    bomb = {"a.png": png(0), "b.png": bytes(1 << 22)}
    for archive in (write_zip(tmp_path / "x.zip", bomb), write_tar(tmp_path / "x.tar.gz", bomb, "w:gz")):
        assert refusal(archive) == "DATA: becomes more than 200 times as large at 'b.png': a decompression bomb"


def test_a_picture_that_is_a_bomb_is_refused(tmp_path, monkeypatch):
    write(tmp_path, ["a.png", "b.png"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert refusal(tmp_path, size=4).startswith(
        "DATA/a.png: not a readable image: Image size (36 pixels) exceeds limit"
    )


def test_a_small_file_of_a_very_large_picture_is_refused(tmp_path):
    for side, message in ((9_000, "found an image of 243,000,000 values, allowed"), (14_000, "exceeds limit")):
        Image.new("1", (side, side)).save(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size < 100_000
        assert message in refusal(tmp_path, size=4)


def test_a_link_in_a_shard_is_refused(tmp_path):
    write_tar(tmp_path / "shards" / "0.tar", {"a.png": png(0), "b.png": png(1)})
    with tarfile.open(tmp_path / "shards" / "1.tar", "w") as archive:
        member = tarfile.TarInfo("c.png")
        member.type, member.linkname = tarfile.SYMTYPE, "../0/a.png"
        archive.addfile(member)
    assert refusal(tmp_path / "shards") == "DATA/1.tar: member 'c.png' is no file, allowed: files and folders"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_damaged_archives_are_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no archive")
    assert refusal(path).startswith("DATA: not a readable archive: ")


# ---- the store


def test_pictures_are_decoded_once_and_mapped(tmp_path, monkeypatch):
    root, calls = write(tmp_path, [f"{i}.png" for i in range(10)]), []
    collect = folder_module.collect
    monkeypatch.setattr(folder_module, "collect", lambda *a, **k: calls.append(1) or collect(*a, **k))
    first, again = load(root), load(root)
    assert (first.fingerprint, len(calls)) == (again.fingerprint, 1)
    (kept,) = [a for a in Store().entries() if a.kind == Kind.DATA]
    stored = np.load(kept.path / "train.npy", mmap_mode="r")
    assert stored.shape == tuple(first.train.pixels.shape)
    first.train.pixels[0] = 99  # a private copy of the page
    assert (np.load(kept.path / "train.npy") == again.train.pixels.numpy()).all()
    (root / "0.png").write_bytes(png(200) + b" ")
    assert load(root).fingerprint != first.fingerprint
    assert len(calls) == 2
