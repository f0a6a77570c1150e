"""A store behind a URL: whole artefacts, checked downloads, unfinished work, locks; S3 as moto's server has it."""

from __future__ import annotations

import threading
from contextlib import suppress

import fsspec
import pytest

from genbench.errors import StoreError
from genbench.store import Kind, Store, remote
from genbench.store.remote import Remote


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The URL of a bucket on loopback."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test",
                 "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("genbench-store")
        yield "s3://genbench-store/path"
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    return {"memory": f"memory://{tmp_path.name}", "file": f"file://{tmp_path}/store"}[request.param]


@pytest.fixture
def machine(url, tmp_path, monkeypatch):
    """machine(name): the store as another machine sees it, which has no copies of the first one's."""

    def store(name):
        monkeypatch.setenv("GENBENCH_COPIES", str(tmp_path / name))
        return Store(url)

    return store


def put(store, key="k", text="hello"):
    def make(folder):
        (folder / "a.txt").write_text(text)
        return {"n": 1}

    return store.kept(Kind.WEIGHTS, key, make)


def never(folder):
    raise AssertionError("it is there already")


def test_what_a_machine_made_another_one_reads(machine):
    put(machine("a"))
    other = machine("b")
    assert other.has(Kind.WEIGHTS, "k")
    assert not other.has(Kind.WEIGHTS, "l")
    assert other.meta(Kind.WEIGHTS, "k") == {"n": 1}
    assert (other.kept(Kind.WEIGHTS, "k", never) / "a.txt").read_text() == "hello"
    assert {(e.kind, e.key, e.finished) for e in other.entries()} == {(Kind.WEIGHTS, "k", True)}
    assert other.prune() > 0
    assert not machine("c").intact(Kind.WEIGHTS, "k")
    assert other.entries() == []


def test_an_artefact_without_its_description_does_not_count(machine):
    first = machine("a")
    put(first)
    first.remote.files.rm_file(f"{first.remote.root}/weights/k/meta.json")
    second = machine("b")
    assert not second.intact(Kind.WEIGHTS, "k")
    put(second, text="again")
    assert (machine("c").kept(Kind.WEIGHTS, "k", never) / "a.txt").read_text() == "again"


def test_a_damaged_download_does_not_count_and_is_made_again(machine):
    first = machine("a")
    put(first)
    first.remote.files.pipe_file(f"{first.remote.root}/weights/k/a.txt", b"hellp")
    second = machine("b")
    assert not second.intact(Kind.WEIGHTS, "k")
    assert not second.path(Kind.WEIGHTS, "k").exists()
    put(second, text="again")
    assert (machine("c").kept(Kind.WEIGHTS, "k", never) / "a.txt").read_text() == "again"


def test_unfinished_work_continues_on_another_machine(machine, monkeypatch):
    def stops(folder):
        scratch = first.scratch(Kind.WEIGHTS, "k")
        (scratch / "checkpoint.pt").write_text("step 1")
        (scratch / ".checkpoint.pt.77").write_text("half of step 2")
        raise KeyboardInterrupt

    first = machine("a")
    with pytest.raises(KeyboardInterrupt):
        first.kept(Kind.WEIGHTS, "k", stops)
    second, read = machine("b"), []

    def continues(folder):
        read.extend(path.name for path in second.scratch(Kind.WEIGHTS, "k").iterdir())
        (folder / "a.txt").write_text("done")

    second.kept(Kind.WEIGHTS, "k", continues)
    assert read == ["checkpoint.pt"]
    assert [e for e in second.entries() if not e.finished] == []


def test_unfinished_work_is_uploaded_while_it_changes(machine, monkeypatch):
    monkeypatch.setattr(remote, "UPLOAD_SECONDS", 0.05)
    first, arrived = machine("a"), []
    files = first.remote.files

    def make(folder):
        path = first.scratch(Kind.WEIGHTS, "k") / "checkpoint.pt"
        for text in ("step 1", "step 1, step 2"):
            path.write_text(text)
            for _ in range(400):
                with suppress(FileNotFoundError):
                    if files.cat_file(f"{first.remote.root}/scratch/weights/k/checkpoint.pt") == text.encode():
                        arrived.append(text)
                        break
                threading.Event().wait(0.05)

    first.kept(Kind.WEIGHTS, "k", make)
    assert arrived == ["step 1", "step 1, step 2"]


def test_two_runs_never_make_an_artefact_twice(machine):
    stores, made = [machine("a"), machine("b")], []

    def make(folder):
        made.append(None)
        threading.Event().wait(0.3)
        (folder / "a.txt").write_text("hello")

    threads = [threading.Thread(target=store.kept, args=(Kind.WEIGHTS, "k", make)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    for store in stores:
        assert (store.path(Kind.WEIGHTS, "k") / "a.txt").read_text() == "hello"


def test_an_upload_that_failed_is_made_up_for(machine, monkeypatch):
    first = machine("a")
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", lambda *_: (_ for _ in ()).throw(OSError("planted")))
        with pytest.raises(OSError, match="planted"):
            put(first)
    assert not machine("b").has(Kind.WEIGHTS, "k")
    first.kept(Kind.WEIGHTS, "k", never)
    assert machine("b").intact(Kind.WEIGHTS, "k")


def test_a_url_that_cannot_be_used_is_one_sentence(monkeypatch):
    with pytest.raises(StoreError, match="nosuch://x: "):
        Store("nosuch://x")

    def absent(*_, **__):
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(StoreError, match=r"s3://x: needs another package: pip install 'genbench\[s3\]'"):
        Store("s3://x")
