"""What is no file and no folder is refused in one line by everything that reads a path of the user's: never opened."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from genbench.data.annotations import read_annotations
from genbench.data.images import open_images
from genbench.data.prompts import read_prompts
from genbench.draw.blocks import _read_block
from genbench.errors import DataError, GenbenchError
from genbench.features.weight_files import sha256
from genbench.files import read_json_object, real_path
from genbench.halving import AtOnce
from genbench.records import read_records
from genbench.registry import load_module, resolve_model
from genbench.sources.build import read_weights
from genbench.sources.checkpoints import weights_file
from genbench.store import Kind, Store
from genbench.store.artefacts import META
from genbench.suite.schema import read_suite

LOOP, SPECIAL = "found a link that leads to no file", "found a device or a pipe"
READERS = {
    "model.py": lambda path: resolve_model(f"{path}:Noise"), "metric.py": lambda path: load_module(f"{path}:M"),
    "suite.yaml": read_suite, "images.npz": open_images, "images": open_images, "prompts.jsonl": read_prompts,
    "captions.csv": lambda path: read_annotations(path.parent, [path.parent / "x.png"], path.name),
    "w.safetensors": lambda path: read_weights(None, path), "w.pt": lambda path: weights_file(path) and sha256(path),
    "config.json": lambda path: read_json_object(path, DataError),
}  # fmt: skip


def bind(path: Path) -> None:
    """A socket with this name; names of sockets are short, so it is made from its folder."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


@contextlib.contextmanager
def at_once():
    """Ends what waits, such as the opening of a pipe."""

    def waited(*_):
        raise TimeoutError("it was opened")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


KINDS = {
    "loop": (lambda path: path.symlink_to(path.name), LOOP),
    "pipe": (os.mkfifo, SPECIAL),
    "socket": (bind, SPECIAL),
    "device": (lambda path: path.symlink_to("/dev/zero"), SPECIAL),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(tmp_path, name, kind):
    make, reason = KINDS[kind]
    make(tmp_path / name)
    with at_once(), pytest.raises(GenbenchError) as caught:
        READERS[name](tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(caught.value)


def test_records_that_are_no_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "records.jsonl")
    with pytest.raises(GenbenchError, match=r"records\.jsonl: "):
        read_records(tmp_path / "records.jsonl")


def test_a_real_path_of_links_in_a_circle_is_the_link(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert real_path(tmp_path / "a") in (tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to(tmp_path)
    assert real_path(tmp_path / "c" / "x") == tmp_path.resolve() / "x"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [META, "x.txt"])
def test_an_artefact_with_what_is_no_file_is_made_again(tmp_path, name, kind):
    def make(folder):
        (folder / "x.txt").write_text("a")

    store = Store(tmp_path)
    path = store.kept(Kind.VALUES, "k", make) / name
    path.unlink()
    KINDS[kind][0](path)
    with at_once():
        assert store.entries()
        store.verify()
        store.kept(Kind.VALUES, "k", make)
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_block_that_is_no_file_counts_as_absent(tmp_path, kind):
    KINDS[kind][0](tmp_path / "block-0.npz")
    with at_once():
        assert _read_block(tmp_path / "block-0.npz", AtOnce()) is None
