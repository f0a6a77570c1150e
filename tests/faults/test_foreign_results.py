"""Results, suites and tables from elsewhere: bounded, nothing of the reader's shown or overwritten, no tracebacks."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from faults.fuzz import fuzz
from genbench import report
from genbench.commands.convert import convert_result
from genbench.commands.plan import describe_without_code
from genbench.data.files import read_images
from genbench.errors import DataError, GenbenchError, StoreError, SuiteError
from genbench.progress import Progress
from genbench.records import Record, read_records, write_records
from genbench.screen import Screen
from genbench.suite.schema import read_suite
from genbench.suite.yaml_source import parse
from genbench.text import cell_text, printable, without_secrets

LAUGHS = "\n".join(
    ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)] + ["suite: x"]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)] + ["suite: x"]
)
DEEP = "\n".join(["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{y: *a{i - 1}}}" for i in range(1, 3000))])


def genbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "genbench.cli", *arguments], capture_output=True, text=True)


def record(**more) -> Record:
    return Record(**{"suite": "s", "suite_version": 1, "cell": "m/d/s0", "model": "m", "dataset": "d", "seed": 0,
                     "metric": "fid", "metric_version": 1, "value": 1.0, **more})  # fmt: skip


@pytest.fixture
def result(tmp_path: Path) -> Path:
    write_records(tmp_path / "records.jsonl", [record()])
    return tmp_path


@pytest.mark.parametrize("text", [LAUGHS, MERGES, DEEP], ids=["aliases", "merges", "depth"])
def test_aliases_and_merge_keys_are_bounded(text):
    with pytest.raises(SuiteError, match="after replacing aliases and merge keys, allowed: at most"):
        parse(text, Path("x.yaml"))


def test_a_huge_suite_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n" + "#" * 2**20)
    with pytest.raises(SuiteError, match="bytes, allowed: at most"):
        read_suite(path)


@pytest.mark.parametrize(
    "name", ["leaderboard.csv", "suite.yaml", "figures", "figures/samples-x-s0.png", "curves/x-s0.csv"]
)
def test_links_are_neither_read_nor_written_through(result, tmp_path_factory, name):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("private")
    (result / name).parent.mkdir(exist_ok=True)
    (result / name).symlink_to(secret if "." in name else secret.parent)
    with pytest.raises(StoreError, match="found a link or device"):
        report.render(result)
    assert secret.read_text() == "private"
    assert not (result / "leaderboard.html").exists()


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it has this size; its pixels are a few bytes of zeros."""
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))
    chunks = [
        struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in (*parts, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_hard_links_are_refused(result, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("private")
    (result / "figures").mkdir()
    (result / "figures" / "samples-x-s0.png").hardlink_to(secret)
    with pytest.raises(StoreError, match=r"found a file with 2 names \(hard links\)"):
        report.render(result)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("figures/samples-x-s0.png", png_of(2**17, 2**17), "pixels, allowed: at most"),
        ("figures/samples-x-s0.png", bytes(2**25 + 1), "bytes, allowed: at most"),
        ("curves/x-s0.csv", b"1" * (2**25 + 1), "bytes, allowed: at most"),
        ("environment.json", b" " * (2**20 + 1), "bytes, allowed: at most"),
        ("suite.yaml", b"#" * (2**20 + 1), "bytes, allowed: at most"),
    ],
    ids=["pixels", "picture", "curve", "environment", "suite"],
)
def test_huge_files_are_refused(result, name, content, words):
    (result / name).parent.mkdir(exist_ok=True)
    (result / name).write_bytes(content)
    with pytest.raises(StoreError, match=words):
        report.render(result)


def test_records_are_bounded(result, monkeypatch):
    path = result / "records.jsonl"
    good = path.read_text()
    path.write_text('{"schema": 2, "model": "' + "x" * 2**20 + '"}\n' + good)
    with pytest.raises(StoreError, match=r"records.jsonl:1: found a longer line"):
        read_records(path)
    monkeypatch.setattr("genbench.records.MOST_RECORDS", 3)
    write_records(path, [record(seed=i, cell=f"m/d/s{i}") for i in range(4)])
    with pytest.raises(StoreError, match="allowed: at most 3 records"):
        read_records(path)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, str(2**63), "-" + "9" * 30], ids=len)
def test_giant_numbers_are_refused(result, number):
    path = result / "records.jsonl"
    good = path.read_text()
    for name in ("value", "seed", "n_fake"):
        data = json.loads(good) | {name: 77}
        path.write_text(json.dumps(data).replace("77", number) + "\n" + good)
        with pytest.raises(StoreError, match=r"records.jsonl:1: not a record"):
            read_records(path)


def test_images_are_bounded(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.png").write_bytes(png_of(9000, 9000))
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.zeros(2**26))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1, 2**16, 2**16)})
    (tmp_path / "x.npy").write_bytes(header.getvalue())
    for name in ("pictures", "x.npz", "x.npy"):
        with pytest.raises(DataError, match="allowed: at most"):
            read_images(tmp_path / name)


def test_formulas_do_not_reach_a_spreadsheet(tmp_path):
    names = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "plain"]
    records = [record(model=n, cell=f"{n}/d/s0", value=-1.5, metric="=cmd") for n in names]
    write_records(tmp_path / "records.jsonl", records)
    report.render(tmp_path)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert all(name == "plain" or name[0] in "'\ufffd" for name in table["model"])
    assert table["'=cmd"].tolist() == [-1.5] * len(names)  # numbers stay numbers


@pytest.mark.parametrize("text", ["=1", " =1", "\t=1", "\r1", "\n1", "\u00a0@x", "\uff1d1", "+1", "-1", "@x"])
def test_text_that_a_spreadsheet_runs_starts_with_an_apostrophe(text):
    assert cell_text(text) == f"'{text}"
    assert cell_text("1 = 1, a@b") == "1 = 1, a@b"


def test_escape_sequences_do_not_reach_the_terminal(tmp_path):
    text = "\x1b]0;owned\x07\x1b[2J\u202e\x9bm"
    assert printable(text + "ok\n\t") == "\ufffd]0;owned\ufffd\ufffd[2J\ufffd\ufffdmok\n\t"
    write_records(tmp_path / "records.jsonl", [record(model=text)])
    done = genbench("diff", str(tmp_path), str(tmp_path))
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
    assert "\x1b" not in read_records(tmp_path / "records.jsonl")[0].model


def test_plan_without_code_imports_nothing(tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    suite = "suite: x\ndataset: {name: digits}\nmetrics: [fid]\nmodels: [{name: m, source: 'evil.py:M'}]\n"
    (tmp_path / "x.yaml").write_text(suite)
    assert "imports: evil.py:M" in describe_without_code(tmp_path / "x.yaml")
    assert not (tmp_path / "ran").exists()


HEAD = "suite: x\ndataset: {name: digits}\nmetrics: [fid]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{HEAD}models: [{{name: vae}}]\nsamples: 1{':00' * 50_000}\n", "an integer of at most 64 bits"),
        (f"{HEAD}models: [{{name: vae}}]\nsamples: 1{':00' * 200}.5\n", "found a number of 603 characters"),
        (f"{HEAD}models: [{{name: vae, grid: {{{', '.join(f'config.a{i}: [1, 2, 3, 4]' for i in range(40))}}}}}]\n",
         "combinations, allowed: at most 2,000"),
        (f"{HEAD}seeds: {[*range(1000)]}\nmodels: [{', '.join(f'{{name: vae, label: m{i}}}' for i in range(300))}]\n",
         "found 300 models x 1,000 seeds = 300,000 values, allowed: at most"),
        (f"{HEAD}models: [{{name: m, samples: pipe.npy}}]\n", "found a device or a pipe, allowed: a file or folder"),
    ],
    ids=["base 60", "base 60 with fraction", "grid", "cells", "pipe"],
)  # fmt: skip
def test_suites_that_would_take_forever_are_refused(tmp_path, text, words):
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SuiteError, match=words):
        read_suite(tmp_path / "x.yaml")


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a": ' * 200_000, b"\xff", b"[]", b"1" * 5000])
def test_an_environment_that_is_no_json_object_is_refused(result, content):
    (result / "environment.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"environment.json"):
        report.render(result)


def test_bytes_of_a_suite_that_are_no_text_are_refused(result):
    (result / "suite.yaml").write_bytes(b"suite: \xff\n")
    with pytest.raises(GenbenchError, match=r"suite.yaml"):
        report.render(result)


def test_convert_writes_through_no_link(tmp_path, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.yaml"
    secret.write_text("models: [{name: m, claims: [{metric: fid, value: 1, source: x}]}]")
    (tmp_path / "suite.yaml").symlink_to(secret)
    (tmp_path / "records.jsonl").write_text('{"schema": 1}\n')
    with pytest.raises(StoreError, match="found a link or device"):
        convert_result(tmp_path)
    assert "claims" in secret.read_text()


def test_messages_are_not_endless(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD + f"models: [{{name: {'x' * 500_000}}}]")
    done = genbench("plan", "--no-code", str(tmp_path / "x.yaml"))
    assert done.returncode == 2
    assert len(done.stderr) < 5_000


def test_markup_and_escape_sequences_of_a_task_do_not_reach_the_bars():
    text = io.StringIO()
    with Screen(Console(file=text, force_terminal=True, width=300)) as screen:
        screen.progress("[/red][bold]m\x1b]0;owned\x07", Progress("train", 1, 2, rate=1.0, terms={"\x1b]0;a\x07": 1.0}))
        screen.bars.refresh()
    assert "[/red][bold]m" in text.getvalue()
    assert "\x1b]0" not in text.getvalue()


def test_reasons_hold_no_secrets():
    variables = {
        "HF_TOKEN": "hf_abcdefgh",
        "AWS_SECRET_ACCESS_KEY": "abc/def+1",
        "GIT_AUTHOR_NAME": "an author",
        "PWD": "folder",
    }
    text = "401 for https://ann:pass@host/x with hf_abcdefgh, abc/def+1 of an author in folder"
    expected = "401 for https://host/x with $HF_TOKEN, $AWS_SECRET_ACCESS_KEY of an author in folder"
    assert without_secrets(text, variables) == expected


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[]", b"null", b"3", b'"x"', b"{", b'{"schema": 2}', b"[" * 20_000],
    ids=lambda line: line[:9].decode("latin1"),
)
def test_a_line_that_is_no_record_is_named(result, line):
    path = result / "records.jsonl"
    good = path.read_bytes()
    path.write_bytes(line + b"\n" + good)
    with pytest.raises(StoreError, match=r"records.jsonl:1: "):
        read_records(path)


FIELDS = {
    "model": 3, "seed": "0", "value": "1", "protocol": [], "warnings": 3, "better": "up", "role": "king", "lo": "x",
    "status": "fine", "n_fake": 1.5, "dirty": "yes", "metric": None,
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_another_type_is_named(result, name):
    path = result / "records.jsonl"
    good = path.read_text()
    path.write_text(json.dumps(json.loads(good) | {name: FIELDS[name]}) + "\n" + good)
    with pytest.raises(StoreError, match=r"records.jsonl:1: not a record: "):
        read_records(path)


def test_records_that_are_a_folder(tmp_path):
    (tmp_path / "records.jsonl").mkdir()
    done = genbench("report", str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_claims_of_a_foreign_suite_are_checked(result):
    (result / "suite.yaml").write_text("models: [{name: m, claims: [{metric: fid, value: many, source: x}]}]")
    with pytest.raises(GenbenchError, match="cannot be read as a suite"):
        report.render(result)


@pytest.mark.parametrize("kind", ["suites", "records", "arrays"])
def test_mutated_inputs_are_read_or_refused(kind):
    ends = fuzz(kind, 40, seed=1)
    assert not [text for text in ends if text.startswith("failed")]
    assert ends["refused"]
