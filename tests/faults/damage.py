"""Every file that a command reads, damaged in every way: the command works, or refuses it in one line; no traceback.

    PYTHONPATH=.:tests python tests/faults/damage.py
    PYTHONPATH=.:tests python tests/faults/damage.py "report" "speed --against"

Each case is a process forked from this one, with copies of a small result, its store, images, weights, a model's file
and a baseline. Prints tried, accepted, refused and failed for each command, and the failures; exits with 1 after any.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from faults.forked import ended
from faults.tiny import NOISE, command, environment, write_suite

CELL = "narrow/npz/s0"
ODD_YAML = {
    "tags": b"suite: !!python/object:os.system x\n", "unknown tag": b"suite: !x y\n", "anchor": b"suite: &a *a\n",
    "cycle": b"suite: &a [*a]\n", "duplicate": b"suite: a\nsuite: b\n", "unicode key": "sui\u0442e: a\n".encode(),
    "date": b"suite: 2026-01-01\nsamples: 2026-01-01T00:00:00Z\n", "integer": b"samples: " + b"9" * 5000 + b"\n",
    "infinity": b"samples: .inf\nblock: -.inf\nseeds: [.nan]\n", "binary": b"suite: !!binary aGVsbG8=\n",
    "no document": b"---\n", "documents": b"suite: a\n---\nsuite: b\n", "set": b"suite: !!set {a, b}\n",
    "complex key": b"? [a, b]\n: c\n", "tab": b"suite:\n\t- a\n", "list": b"- suite\n", "text": b"suite\n",
    "boolean key": b"yes: no\nnull: ~\n1: 2\n", "octal": b"samples: 0o17\nblock: 1_0\nseeds: 0x10\n",
    "merge": b"a: &a {b: 1}\n<<: [*a, 3]\n", "directive": b"%YAML 9.9\n---\nsuite: a\n", "control": b"suite: \x07\n",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command's arguments ({} is the folder of copies), and the file that is damaged, relative to the copies."""

    arguments: str
    file: str

    @property
    def name(self) -> str:
        """What is damaged for which command."""
        return f"{self.arguments.replace('{}/', '')} [{self.file}]"


def damages(content: bytes, path: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Names of damages, and functions that leave a path so."""
    flipped = bytearray(content)
    for position in range(len(content) // 3, len(content), max(1, len(content) // 7)):
        flipped[position] ^= 0x41
    contents = {
        "empty": b"", "half": content[: len(content) // 2], "without its last byte": content[:-1], "twice": content * 2,
        "changed": bytes(flipped), "zeros": bytes(len(content)), "text": b"hello\n", "null": b"null", "list": b"[]",
        "mapping": b"{}", "number": b"1e999", "nested": b"[" * 100_000, "UTF-16": "suite: x\n".encode("utf-16"),
        "zip": b"PK\x05\x06" + bytes(18), "gzip": gzip.compress(content), "pickle": pickle.dumps(print),
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(50), "shape": b"\x93NUMPY\x01\x00v\x00" + b"{" * 118,
    }  # fmt: skip
    if path.suffix == ".yaml":
        contents |= {f"YAML: {name}": odd for name, odd in ODD_YAML.items()}
    for name, data in contents.items():
        yield name, lambda path, data=data: path.write_bytes(data)
    yield "absent", lambda path: None
    yield "a folder", lambda path: path.mkdir()
    yield "a pipe", os.mkfifo
    yield "a link to itself", lambda path: path.symlink_to(path.name)


CASES = [
    *(Case(f"report {{}}/out{more}", f"out/{file}") for more, file in (
        ("", "records.jsonl"), ("", "environment.json"), ("", "suite.yaml"), ("", "leaderboard.html"),
        (" --figures pdf", "leaderboard.csv"), ("", "CURVE"), ("", "FIGURE"))),
    Case("diff {}/out {}/other", "out/records.jsonl"), Case("diff {}/other {}/out --json", "out/records.jsonl"),
    Case("diff {}/other {}/out --html {}/x.html", "out/FIGURE"), Case("history {}/out {}/other", "out/records.jsonl"),
    Case("convert {}/out", "out/records.jsonl"),
    Case("plan {}/tiny.yaml", "tiny.yaml"), Case("plan {}/tiny.yaml", "data.npz"),
    Case("plan {}/weights.yaml", "w.safetensors"), Case("plan {}/model.yaml", "model.py"),
    Case(f"sample {CELL} --suite {{}}/tiny.yaml -n 2 --out {{}}/x.npz", "tiny.yaml"),
    Case(f"sample {CELL} --suite {{}}/tiny.yaml -n 2 --out {{}}/x.npz", "WEIGHTS"),
    Case("sample {}/model.py:Noise -n 2 --out {}/x.png", "model.py"), Case("show {}/model.py:Noise", "model.py"),
    Case("check {}/model.py:Noise", "model.py"), Case("check Noise --suite {}/model.yaml", "model.yaml"),
    Case(f"export {CELL} {{}}/exported --suite {{}}/tiny.yaml", "tiny.yaml"),
    Case(f"export {CELL} {{}}/exported --suite {{}}/tiny.yaml", "WEIGHTS"),
    Case("score {}/a.npz --reference {}/b.npz --features pixels", "a.npz"),
    Case("score {}/a.npz --reference {}/b.npz --features pixels --json -", "b.npz"),
    Case("score {}/a.npy --reference {}/b.npz --features pixels", "a.npy"),
    Case("score {}/pictures --reference {}/b.npz --features pixels", "pictures/0.png"),
    Case("score {}/a.npz --reference {}/b.npz --features pixels --prompts {}/prompts.txt", "prompts.txt"),
    Case("score {}/a.npz --reference {}/stats.npz --features pixels", "stats.npz"),
    Case("score {}/a.npz --reference {}/b.npz --features torchscript --weights {}/net.pt --extraction scaling=unit",
         "net.pt"),
    Case("stats {}/a.npz --out {}/x.npz --features pixels", "a.npz"),
    Case("speed {}/model.yaml --against {}/baseline.json --device cpu", "baseline.json"),
    Case("speed {}/model.yaml --models Noise --device cpu", "model.yaml"),
    Case("cache", "META"), Case("cache --verify", "META"), Case("cache --verify", "WEIGHTS"),
    Case("run {}/tiny.yaml --out {}/out --device cpu", "out/records.jsonl"),
]  # fmt: skip


def prepare(folder: Path, cases: list[Case]) -> None:
    """A result with its store, and every other file that the cases name."""
    write_suite(folder, images=64, sleep=0)
    made = subprocess.run(command(folder), env=environment(folder / "cache"), capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    shutil.copytree(folder / "out", folder / "other")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "a.npy", pixels)
    for name in ("a", "b"):
        np.savez(folder / f"{name}.npz", images=pixels)
    from PIL import Image

    (folder / "pictures").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "pictures" / f"{number}.png")
    (folder / "prompts.txt").write_text("a\n" * 40)
    (folder / "model.py").write_text(NOISE)
    save_file({"weight": torch.zeros(2)}, folder / "w.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(torch.nn.Flatten()).save(folder / "net.pt")
    text = "suite: x\ndataset: {name: npz, path: data.npz}\nfeatures: pixels\nsamples: 20\nmetrics: [fid]\n"
    text += "speed: {batch: 4, seconds: 0.01}\nmodels:\n- {name: n, label: Noise, source: model.py:Noise%s}\n"
    (folder / "model.yaml").write_text(text % "")
    (folder / "weights.yaml").write_text(text % ", weights: w.safetensors")
    made_files = ["stats {}/a.npz --out {}/stats.npz --features pixels"]
    if any(case.file == "baseline.json" for case in cases):
        made_files.append("speed {}/model.yaml --save {}/baseline.json --device cpu")
    for arguments in made_files:
        code, output = ended(arguments, folder)
        assert code == 0, output


def resolved(file: str, folder: Path) -> Path:
    """The file that a case names; CURVE, FIGURE, WEIGHTS and META are the first of their kind."""
    patterns = {"CURVE": "out/curves/*.csv", "FIGURE": "out/figures/*", "WEIGHTS": "cache/weights/*/*.safetensors",
                "META": "cache/values/*/meta.json"}  # fmt: skip
    pattern = patterns.get(file.rpartition("/")[2], file)
    matches = sorted(path for path in folder.glob(pattern) if path.is_file())
    assert matches, f"{pattern}: {sorted(folder.rglob('*'))[:50]}"
    return matches[0]


def attempt(case: Case, original: Path, damage: Callable[[Path], object] | None, copies: Path) -> tuple[str, str]:
    """ "accepted", "refused" or "failed", and the output."""
    shutil.copytree(original, copies, symlinks=True)
    path = resolved(case.file, copies)
    if damage is not None:
        path.unlink()
        damage(path)
    try:
        code, output = ended(case.arguments, copies)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    if code not in (0, 1, 2) or "Traceback" in output or "internal error" in output:
        return "failed", f"exit code {code}: {output[-600:]}"
    if code == 2 and sum(line.startswith("genbench: ") for line in output.splitlines()) != 1 and "Usage" not in output:
        return "failed", f"no line, or several: {output[-600:]}"
    return ("refused" if code == 2 else "accepted"), output


def campaign(root: Path, cases: list[Case], only: tuple[str, ...] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """Ends of all damages of each case, and the failures. only: names of damages, by default all."""
    original, counts, failures = root / "original", dict[str, Counter[str]](), list[str]()
    prepare(original, cases)
    for case in cases:
        counts[case.name] = Counter()
        path = resolved(case.file, original)
        whole, output = attempt(case, original, None, root / "copies")
        failures += [] if whole == "accepted" else [f"{case.name}, undamaged: {whole}: {output[-300:]}"]
        for name, damage in damages(path.read_bytes(), path):
            if not only or name in only:
                end, output = attempt(case, original, damage, root / "copies")
                counts[case.name][end] += 1
                failures += [f"{case.name}, {name}: {output}"] if end == "failed" else []
        print(f"{case.name}: {dict(counts[case.name])}", flush=True)
    return counts, failures


def main(*words: str) -> int:
    """Prints the counts of the cases whose names contain a word, by default of all."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        chosen = [case for case in CASES if not words or any(word in case.name for word in words)]
        counts, failures = campaign(Path(name), chosen)
    total = sum(counts.values(), Counter())
    print(
        f"damaged files: {total.total()} tried for {len(chosen)} commands, {total['accepted']} accepted, "
        f"{total['refused']} refused, {len(failures)} failed"
    )
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
