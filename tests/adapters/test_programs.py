"""Programs as sources: what they write is drawn, and every way in which one can fail has its reason."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from genbench.check import check_model
from genbench.contract import Condition, DataSpec, abilities
from genbench.errors import CellFailure, ModelError
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded, to_pixels

SPEC = DataSpec(1, 4, 4, 17, classes=10)
HEAD = """
import os, sys, time
import numpy as np
n, seed, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pixels = np.random.default_rng(seed).integers(17, size=(n, 1, 4, 4), dtype=np.uint8)
"""
SAVE = "np.save(out + '/x.npy', pixels)"


def command(folder, body, marks="{n} {seed} {out}", spec=SPEC, **config):
    (folder / "draw.py").write_text(HEAD + textwrap.dedent(body))
    kind = resolve_model("any", f"command:{sys.executable} draw.py {marks}", folder)
    return build(kind, spec, config, {}, 0)


def test_what_the_program_writes_is_drawn_and_its_seed_comes_from_the_generator(tmp_path):
    model = command(tmp_path, SAVE)
    drawn = [to_pixels(model.sample(5, seeded(seed)), 17) for seed in (1, 1, 2)]
    assert drawn[0].shape == (5, 1, 4, 4)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert model.files(model.config) == ("draw.py",)


def test_a_program_passes_check_and_may_write_three_grey_images(tmp_path):
    (tmp_path / "draw.py").write_text(HEAD.replace("(n, 1, 4, 4)", "(n, 4, 4)") + SAVE)
    kind = resolve_model("any", f"command:{sys.executable} draw.py {{n}} {{seed}} {{out}}", tmp_path)
    results = check_model(kind, SPEC)
    assert [(r.name, r.message) for r in results if not r.passed] == []


@pytest.mark.parametrize("name", ["i:03", "i", "i // 5}/{i % 5"])
def test_pictures_are_read_in_the_order_of_their_names(name, tmp_path):
    body = """
    from PIL import Image
    import os
    for i in range(n):
        os.makedirs(f"{out}/{i // 5}", exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(f"{out}/{NAME}.png")
    """.replace("NAME", name)
    drawn = command(tmp_path, body, spec=DataSpec(1, 4, 4)).sample(12, seeded(0))
    assert to_pixels(drawn, 256)[:, 0, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("mark", "condition", "ability"),
    [
        ("{labels}", Condition(torch.tensor([3, 1, 2])), "ClassConditional"),
        ("{prompts}", Condition(texts=("ccc", "a", "b\nb")), "TextConditional"),
    ],
)
def test_a_program_receives_classes_or_texts_one_a_line(mark, condition, ability, tmp_path):
    body = """
    lines = open(sys.argv[4]).read().splitlines()
    values = [int(line) if line.isdigit() else len(line) for line in lines]
    np.save(out + '/x.npy', np.repeat(np.array(values, np.uint8), 16).reshape(-1, 1, 4, 4))
    """
    model = command(tmp_path, body, marks=f"{{n}} {{seed}} {{out}} {mark}")
    assert abilities(type(model)) == (ability,)
    assert to_pixels(model.sample(3, seeded(0), condition), 17)[:, 0, 0, 0].tolist() == [
        3,
        1,
        3 if mark[1] == "p" else 2,
    ]


def test_a_program_runs_in_a_folder_of_its_own_unless_the_suite_names_one(tmp_path):
    body = "open('left.txt', 'w').close(); " + SAVE
    command(tmp_path, body).sample(2, seeded(0))
    assert not (tmp_path / "left.txt").exists()
    command(tmp_path, body, cwd=".").sample(2, seeded(0))
    assert (tmp_path / "left.txt").exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("pass", r"wrote nothing to \{out\}, required: 4 images"),
        ("np.save(out + '/x.npy', pixels[:3])", "wrote 3 images, required: 4"),
        ("np.save(out + '/x.npy', pixels[:, :, :2])", r"images of \(channels, height, width\) \(1, 2, 4\), allowed"),
        ("np.save(out + '/x.npy', pixels / 17)", "images of float64 from 0 to 0.9412; allowed: uint8"),
        ("np.save(out + '/x.npy', pixels + 200)", "allowed: grey-level indices 0 to 16"),
        ("print('no weights'); sys.exit(3)", "ended with exit code 3: no weights"),
        (
            "raise ValueError('bad seed')",
            r"ended with exit code 1: .*raise ValueError\('bad seed'\) / ValueError: bad seed$",
        ),
        ("print('x' * 10**6); print('é' * 10**5 + 'no weights'); sys.exit(1)", "exit code 1: [.]{3} é{140}no weights$"),
        (
            "np.save(out + '/x.npy', pixels); np.save(out + '/y.npy', pixels)",
            r"wrote 2 arrays to \{out\}, allowed: pict",
        ),
    ],
)
def test_a_program_that_fails_says_why(body, reason, tmp_path):
    with pytest.raises(CellFailure, match=reason):
        command(tmp_path, body).sample(4, seeded(0))


def test_a_program_that_takes_too_long_is_stopped_with_what_it_started(tmp_path):
    body = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(sys.argv[0] + ".pid", "w").write(str(child.pid))
    time.sleep(60)
    """
    with pytest.raises(CellFailure, match="stopped after 6 seconds"):
        command(tmp_path, body, timeout=6.0).sample(4, seeded(0))
    stat = Path("/proc", (tmp_path / "draw.py.pid").read_text(), "stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":  # a signal needs a moment
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("python draw.py {n} {seed}", r"found no \{out\}, allowed: \{n\} \{seed\} \{out\}"),
        ("python 'draw.py {n} {seed} {out}", "No closing quotation"),
        ("python x {n} {seed} {out} {labels} {prompts}", "allowed: one of them"),
    ],
)
def test_a_command_that_cannot_be_called_is_refused(text, reason, tmp_path):
    with pytest.raises(ModelError, match=reason):
        resolve_model("any", f"command:{text}", tmp_path)


def test_a_folder_to_run_in_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CellFailure, match=r"config\.cwd: found no folder .*/absent, allowed: a folder"):
        command(tmp_path, SAVE, cwd="absent").sample(1, seeded(0))


def test_a_program_that_is_not_there_fails_with_its_name(tmp_path):
    kind = resolve_model("any", "command:no-such-program {n} {seed} {out}", tmp_path)
    with pytest.raises(CellFailure, match=r"no-such-program: cannot be started: No such file.*; allowed: a prog"):
        build(kind, SPEC, {}, {}, 0).sample(1, seeded(0))
