"""What several processes draw and measure together is what one process draws and measures."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toys
from numpy.lib.format import open_memmap
from PIL import Image

from genbench.contract import DataSpec
from genbench.data.images import InMemory, Sizing, open_images
from genbench.draw.blocks import draw, draw_share
from genbench.evaluate.cell_inputs import CellInputs
from genbench.evaluate.score import score
from genbench.halving import AtOnce
from genbench.plan.planner import make_plan
from genbench.processes.group import Processes
from genbench.progress import silent
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.sources.likelihoods import compute_log_probs, log_probs_share, states_of_batches
from genbench.space import seeded
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.team import Team

SPEC = DataSpec(1, 8, 8, 17)
SIZE = 2


def model(name: str, **config):
    return build(resolve_model(name), SPEC, config, {}, 0).eval()


@pytest.mark.parametrize(
    ("name", "method", "config"),
    [
        ("vae", "log_prob_bound", {}),
        ("vae", "log_prob_importance", {}),
        ("realnvp", "log_prob", {}),
        ("ddpm", "log_prob_bound", {"steps": 5}),
        ("ddpm", "log_prob_estimate", {"steps": 5}),
        ("flow_matching", "log_prob_estimate", {}),
        ("pixelcnn", "log_prob", {}),
    ],
)
def test_likelihoods_have_the_noise_of_one_process(name, method, config):
    subject = model(name, **config)
    more = {"log_prob_importance": {"k": 2}, "log_prob_estimate": {"steps": 2}}.get(method, {})
    log_prob = lambda pixels, gen: getattr(subject, method)(pixels, gen=gen, **more)  # noqa: E731
    pixels = torch.randint(17, (205, *SPEC.shape), generator=seeded(1)).to(torch.uint8)
    opened = SimpleNamespace(drawing=SimpleNamespace(seed=3), device="cpu", report=silent, model=subject)
    one = compute_log_probs(opened, pixels, log_prob, AtOnce())
    states, parts = states_of_batches(opened, pixels, log_prob), {}
    for rank in range(SIZE):
        parts |= log_probs_share(opened, pixels, log_prob, Processes(rank, SIZE), states, AtOnce())
    assert np.array_equal(one, np.concatenate([parts[number] for number in range(3)]))


def test_blocks_of_all_processes_are_the_images_of_one(tmp_path):
    subject = model("vae")
    for rank in range(3):
        draw_share(subject, 65, 7, Processes(rank, 3), tmp_path, block=10)
    assert len(list(tmp_path.iterdir())) == 7
    subject.sample = None  # nothing is left to be drawn
    drawn = draw(subject, 65, 7, block=10, scratch=tmp_path)
    assert torch.equal(drawn.pixels, draw(model("vae"), 65, 7, block=10).pixels)


@pytest.fixture(scope="module")
def team():
    with Team(SIZE, "cpu") as pair:
        yield pair


def test_a_cell_is_measured_by_two_processes_as_by_one(team, tmp_path):
    toy = {"name": "toy", "source": f"{toys.__file__}:Diagonal", "budget": {"images": 320}}
    suite = {"suite": "s", "dataset": {"name": "digits"}, "features": "pixels", "models": [toy], "samples": 1200}
    plan = make_plan(Suite.model_validate(suite | {"block": 250, "metrics": ["fid", "bits_per_dim"]}))
    cell, bits = plan.cells[0], next(m.metric for m in plan.cells[0].metrics if m.name == "bits_per_dim")
    seen = []
    for name, several in (("one", None), ("two", team)):
        store = Store(tmp_path / name)
        plan.fits[0].run(plan.data, store, "cpu", silent)
        inputs = CellInputs(cell, store, "cpu", silent, *filter(None, [several]))
        seen.append((inputs.generated.pixels, inputs.fake.vectors, inputs.real.vectors, inputs.log_probs(bits)))
    one, two = seen
    assert torch.equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
    assert np.array_equal(one[2], two[2])
    assert np.allclose(one[3]["log_probs"], two[3]["log_probs"], rtol=1e-6, atol=0)


def test_two_processes_score_as_one(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (1300, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    chosen = ["fid", "kid", "is", "precision", "recall"]
    arguments = {"fake": tmp_path / "x.npz", "reference": "digits", "metrics": chosen, "device": "cpu"}
    one, two = (score(**arguments, processes=n) for n in (1, SIZE))
    assert list(one.values) == chosen
    assert one.values == pytest.approx(two.values, rel=1e-6)
    assert [r.key for r in one.records] == [r.key for r in two.records]
    assert one.findings == two.findings


def test_features_larger_than_a_share_of_memory_are_mapped_from_files(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 17, (700, 8, 8), dtype=np.uint8))
    arguments = {"fake": tmp_path / "x.npz", "reference": "digits", "metrics": ["fid"], "device": "cpu"}
    before, made = score(**arguments), []
    monkeypatch.setattr("genbench.evaluate.rows.IN_MEMORY", 0)
    monkeypatch.setattr("genbench.evaluate.rows.open_memmap", lambda *a: made.append(open_memmap(*a)) or made[-1])
    assert score(**arguments).values == before.values
    folders = {Path(array.filename).parent for array in made}
    assert len(made) == 2  # vectors and probabilities
    del made[:]
    gc.collect()
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("kind", ["pictures", "array", "memory", "resized"])
def test_each_process_reads_its_parts_of_a_set(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (23, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{i:02}.png")
    images = {
        "pictures": lambda: open_images(tmp_path / "pictures"),
        "array": lambda: open_images(tmp_path / "x.npy"),
        "memory": lambda: InMemory("x", torch.from_numpy(pixels)[:, None]),
        "resized": lambda: open_images(tmp_path / "x.npy", Sizing(4)),
    }[kind]()
    parts = list(images.rows(5))
    for first in range(3):
        own = list(images.rows(5, first, 3))
        assert len(own) == len(parts[first::3])
        assert all(map(torch.equal, own, parts[first::3]))
