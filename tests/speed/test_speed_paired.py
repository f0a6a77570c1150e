"""Two revisions in alternation: under workers whose times are known, and for real in a repository of its own."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from speed_fakes import FakeWorker, subject

from genbench.errors import CellFailure, GenbenchError
from genbench.speed import paired
from genbench.speed.client import Worker
from genbench.speed.comparison import NOT_COMPARED, summary
from genbench.speed.judge import FASTER, LOOKS, SLOWER, UNCLEAR

A, B = Path("/a"), Path("/b")
ROOT = Path(__file__).parent.parent.parent


def outcomes(monkeypatch, factor: float, labels=("m",), breaks=(), minutes=10.0, tolerance=0.02):
    class Sides(FakeWorker):
        each = staticmethod(lambda tree: 0.01 * (factor if tree == B else 1.0))

    Sides.breaks = breaks
    monkeypatch.setattr(paired, "Worker", Sides)
    options = paired.Options("cpu", 1, 16, tolerance, minutes)
    made = [subject(x, folder=str(B)) for x in labels]
    return list(paired.compare(made, (A, B), options, lambda line: None))


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, SLOWER), (1.0, UNCLEAR), (0.9, FASTER)])
def test_the_ratio_of_known_times(monkeypatch, factor, verdict):
    (comparison,) = outcomes(monkeypatch, factor)
    assert comparison.verdict == verdict
    assert comparison.ratio.value == pytest.approx(factor, rel=0.01)
    assert comparison.ratio.lo < factor < comparison.ratio.hi
    assert comparison.b / comparison.a == pytest.approx(factor, rel=0.01)
    assert comparison.closes(0.02) == (factor == 1.05)


def test_it_stops_as_soon_as_the_answer_is_plain(monkeypatch):
    (plain,) = outcomes(monkeypatch, 2.0)
    assert plain.ratio.n == LOOKS[0]
    (on_the_edge,) = outcomes(monkeypatch, 1.02)
    assert on_the_edge.ratio.n > 2 * LOOKS[0]


def test_time_that_is_up_ends_with_the_first_look(monkeypatch):
    (comparison,) = outcomes(monkeypatch, 1.02, minutes=0.0)
    assert comparison.ratio.n == LOOKS[0]


class Drifting:
    """A worker of a machine that gets slower by the same time with every call, whichever side makes it."""

    calls = 0

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def request(self, command: str, **arguments: int) -> dict[str, list[float]]:
        type(self).calls += 1
        return {"seconds": [self.factor * (1 + 0.01 * type(self).calls)]}


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_steady_drift_cancels_within_a_quad(factor):
    pair = paired.Pair(Drifting(1.0), Drifting(factor), batch=8, calls=1, quads=6)
    for order in range(8):
        a, b = pair.quad(random.Random(order))
        assert b / a == pytest.approx(factor, rel=1e-12)
    a, b = pair.round(random.Random(0))
    assert b / a == pytest.approx(factor, rel=1e-12)


def test_both_sides_share_as_many_cores_as_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7}, raising=False)
    drawn = {tuple(paired.some_cores(1, random.Random(i))) for i in range(50)}
    assert drawn == {(2,), (3,), (5,), (7,)}
    assert len(set(paired.some_cores(3, random.Random(0)))) == 3
    assert paired.some_cores(0, random.Random(0)) == paired.some_cores(9, random.Random(0)) == [2, 3, 5, 7]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert paired.some_cores(1, random.Random(0)) == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_worker_stays_on_its_cores():
    core = min(os.sched_getaffinity(0))
    with Worker("cpu", 1) as worker:
        worker.request("bind", cores=[core])
        assert os.sched_getaffinity(worker.process.pid) == {core}


def test_a_side_that_cannot_be_built_is_not_compared_and_the_others_are(monkeypatch):
    bad, good = outcomes(monkeypatch, 1.5, labels=("bad", "good"), breaks=("bad",))
    assert (bad.verdict, bad.reason, bad.failed) == (NOT_COMPARED, "ModelError: no such model", True)
    assert good.verdict == SLOWER


@pytest.mark.parametrize(("tree", "failed"), [(A, False), (B, True)])
def test_only_what_the_work_tree_cannot_draw_closes_the_gate(monkeypatch, tree, failed):
    class OneSide(FakeWorker):
        def request(self, command, **arguments):
            if command == "build" and self.tree == tree:
                raise CellFailure("ModelError: no such model")
            return super().request(command, **arguments)

    monkeypatch.setattr(paired, "Worker", OneSide)
    comparisons = list(paired.compare([subject(folder=str(B))], (A, B), paired.Options("cpu", 1, 16, 0.02), print))
    assert (comparisons[0].verdict, comparisons[0].failed) == (NOT_COMPARED, failed)
    assert summary(comparisons, 0.02).endswith("could not be timed: vae" if failed else "nothing was compared")


def test_json_has_no_infinity():
    comparison = paired.comparison_of(subject(), 4, [(1.0, 2.0)], paired.Ratio(2.0, 0.0, math.inf, 1), same=False)
    assert json.loads(json.dumps(comparison.plain(), allow_nan=False))["ratio"]["hi"] is None
    assert "A and B draw different images" in comparison.note


def test_a_worker_imports_only_what_every_revision_has():
    tree = ast.parse((ROOT / "genbench" / "speed" / "worker.py").read_text())
    imports = {
        f"{node.module}.{alias.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names if node.module.startswith("genbench")
    }  # fmt: skip
    contract = {name for name in imports if name.startswith("genbench.contract.")}
    assert imports - contract == {"genbench.load_model", "genbench.draw.draw_block", "genbench.speed.profile.profile"}
    assert not [node for node in tree.body if "genbench" in ast.unparse(node) and isinstance(node, ast.ImportFrom)]


def test_a_worker_times_a_revision_whose_draw_was_a_module(tmp_path):
    """The layout before genbench.draw became a package: all that the worker needs is in it."""
    old = tmp_path / "genbench"
    old.mkdir()
    (old / "__init__.py").write_text(
        "import torch\nfrom genbench.contract import DataSpec\n"
        "def load_model(name, *, data, source, folder, sampler, weights, seed, **config):\n"
        "    model = torch.nn.Linear(1, 1)\n    model.data = data\n    return model\n"
    )
    for name in ("options", "errors"):
        (old / f"{name}.py").write_text((ROOT / "genbench" / f"{name}.py").read_text())
    for name in ("contract", "processes"):
        shutil.copytree(ROOT / "genbench" / name, old / name)
    (old / "draw.py").write_text(
        "import torch\ndef draw_block(model, index, seed, block, precision, condition):\n"
        "    return torch.full((block, 1), 7, dtype=torch.uint8), 0, 1\n"
    )
    with Worker("cpu", 1, tmp_path) as worker:
        worker.request("build", subject=vars(subject()))
        assert len(worker.request("slice", batch=2, calls=3)["seconds"]) == 3
        assert worker.request("fingerprint", batch=2)["pixels"] == hashlib.sha256(b"\7\7").hexdigest()


def git(where: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *who, "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


MODEL = """import time
import torch
from torch import nn
from genbench.contract import Loss, Model

class Sleeps(Model):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.w = nn.Parameter(torch.zeros(1))
    def loss(self, batch, player, step, gen):
        return Loss(self.w.sum())
    def sample(self, n, gen, condition=None):
        time.sleep(SECONDS)
        return torch.zeros(n, *self.data.shape) + self.w
"""
SUITE = """suite: s
dataset: {name: digits}
features: pixels
models:
  - {name: sleeps, source: "./model.py:Sleeps"}
  - {name: vae}
metrics: [images_per_second]
"""


@pytest.fixture
def repository(tmp_path):
    """A commit whose model sleeps 10 ms, and a work tree in which it sleeps 30 ms and has a new companion."""
    inner = tmp_path / "repo" / "bench"
    inner.mkdir(parents=True)
    (inner / "model.py").write_text(MODEL.replace("SECONDS", "0.01"))
    (inner / "s.yaml").write_text(SUITE)
    git(tmp_path, "init", "-q", "repo")
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-q", "-m", "first")
    slow = MODEL.replace("SECONDS", "0.03")
    (inner / "model.py").write_text(slow + "\nclass New(Sleeps):\n    pass\n")
    (inner / "s.yaml").write_text(SUITE.replace("- {name: vae}", '- {name: new, source: "./model.py:New"}'))
    return inner


def test_a_slower_work_tree_closes_the_gate_and_the_checkout_is_gone(repository, tmp_path):
    command = ["-m", "genbench.cli", "speed", str(repository / "s.yaml"), "--base", "HEAD", "--batch", "2",
               "--device", "cpu", "--max-minutes", "0.2", "--json", str(tmp_path / "speed.json")]  # fmt: skip
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "gate closed: slower by more than 2 %: sleeps" in done.stdout
    first, second = json.loads((tmp_path / "speed.json").read_text())["comparisons"]
    assert first["verdict"] == "slower"
    assert 1.5 < first["ratio"]["value"] < 4
    assert second["verdict"] == "not compared"
    assert second["reason"].startswith("A: ModelError")
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_an_unknown_revision_or_no_repository_is_one_line(repository, tmp_path):
    with (
        pytest.raises(GenbenchError, match="found no revision 'nosuch'; allowed: a commit"),
        paired.checked_out("nosuch", repository),
    ):
        pass
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(GenbenchError, match=r"--base: .*outside"), paired.checked_out("HEAD", outside):
        pass


def test_a_deadline_is_shared_by_the_models(monkeypatch):
    seen = []
    monkeypatch.setattr(paired, "compare_one", lambda s, t, o, m, deadline, announce: seen.append(deadline) or s)
    options = paired.Options("cpu", 1, 16, 0.02, max_minutes=1.0)
    start = time.monotonic()
    list(paired.compare([subject(x) for x in "abc"], (A, B), options, lambda line: None))
    assert [round(deadline - start) for deadline in seen] == [20, 30, 60]
