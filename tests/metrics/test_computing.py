"""Metrics on the simulated device: the CPU's values and intervals, exact counts, a memory budget, no float64 on MPS."""

import weakref

import numpy as np
import pytest
import torch

from genbench.check.other_device import DEVICE, OnDevice, other_device
from genbench.metrics import computing
from genbench.metrics.computing import arithmetic, computing_on
from genbench.metrics.device_arithmetic import DeviceRows
from genbench.metrics.nearest import Balls, crossing, others
from genbench.metrics.products import KINDS, TF32
from genbench.registry import METRICS

# Of the value and the ends of its interval, relative. KID and CMMD multiply in float32; FLD is fitted in float32.
TOLERANCES = {
    "fid": 1e-9, "fd_infinity": 1e-9, "kid": 1e-5, "kid_subsets": 1e-5, "cmmd": 1e-5, "mind": 1e-11, "vendi": 1e-11,
    "rke": 1e-11, "sliced_wasserstein": 1e-11, "fld": 1e-3, "is": 1e-6, "clip_score": 1e-11, "clip_agreement": 0,
    **dict.fromkeys(("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage"), 0),
    **dict.fromkeys(("memorised", "authenticity", "ct_score"), 0),
}  # fmt: skip
IN_FLOAT32 = {"precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage", "memorised",
              "authenticity", "ct_score"}  # fmt: skip
SHAPES = {"more rows": (250, 220, 12), "fewer rows": (110, 105, 280), "many features": (420, 400, 280)}


def rows(seed, n, d, shift=0.0):
    spread = 1 / np.sqrt(1 + np.arange(d))
    return (shift + np.random.default_rng(seed).standard_normal((n, d)) * spread).astype("f4")


def probabilities(n, d):
    """Softmax of random scores, a tenth of them 0."""
    p = np.exp(3 * np.random.default_rng(3).standard_normal((n, d)))
    p[np.random.default_rng(4).random((n, d)) < 0.1] = 0
    return p / p.sum(axis=1, keepdims=True)


def arguments(name, n, m, d):
    fake, real = rows(0, n, d, 0.1), rows(1, m, d)
    return {
        "generated": {"fake": fake},
        "memory": {"fake": fake, "train": real, "held_out": rows(2, 105, d)},
        "probabilities": {"probabilities": probabilities(n, d)},
        "prompts": {"fake": fake, "texts": np.concatenate([real, real[:20]]), "which": np.arange(n) % m},
        "pixels": {"fake": 0.5 + 0.1 * fake, "real": 0.5 + 0.1 * real},
    }.get(METRICS[name].reads.name, {"fake": fake, "real": real})


@pytest.fixture
def types(monkeypatch):
    """Types of the tensors made on the device."""
    wrapped, seen = OnDevice.__new__, set()

    def noting(cls, raw):
        seen.add(raw.dtype)
        return wrapped(cls, raw)

    monkeypatch.setattr(OnDevice, "__new__", staticmethod(noting))
    return seen


def on_the_device(call, **options):
    with other_device(), computing_on(DEVICE, **options):
        return call()


CASES = [(name, "more rows") for name in TOLERANCES]
CASES += [(name, "fewer rows") for name in ("fid", "kid", "vendi", "rke", "mind", "recall", "ct_score", "is")]
CASES += [(name, "many features") for name in ("fid", "vendi")]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_values_and_intervals_are_the_cpus(name, shape, types):
    sets = arguments(name, *SHAPES[shape])
    here = METRICS[name].compute(**sets)
    there = on_the_device(lambda: METRICS[name].compute(**sets))
    assert torch.float32 in types if name in IN_FLOAT32 else torch.float64 in types
    rel = 1e-4 if name == "fid" and shape != "more rows" else TOLERANCES[name]
    assert there.value == pytest.approx(here.value, rel=TOLERANCES[name], abs=0)
    assert (there.lo, there.hi) == pytest.approx((here.lo, here.hi), rel=rel, abs=0)
    assert there.interval.split("error of FID")[0] == here.interval.split("error of FID")[0]


@pytest.mark.parametrize("name", ["fid", "kid", "vendi", "sliced_wasserstein", "recall", "ct_score"])
def test_without_float64_only_neighbours_are_computed_there(name, types, monkeypatch):
    """As on MPS, which has no float64."""
    monkeypatch.setattr(computing, "holds_double", lambda device: str(device) == "cpu")
    sets = arguments(name, *SHAPES["more rows"])
    assert on_the_device(lambda: METRICS[name].compute(**sets)) == METRICS[name].compute(**sets)
    assert torch.float64 not in types
    assert (torch.float32 in types) == (name in IN_FLOAT32)


def test_mps_has_no_float64():
    assert [computing.holds_double(torch.device(d)) for d in ("mps", "mps:0", "cuda:1", "cpu")] == [0, 0, 1, 1]


@pytest.mark.parametrize("memory", [2**31, 60_000])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ties_and_surfaces_a_rounding_error_away_are_decided_as_on_the_cpu(memory, kind):
    lattice = np.indices((12, 9)).reshape(2, -1).T * 0.1
    x, y = np.concatenate([lattice, lattice[:40]]), lattice + 0.05
    radii = others(y, 5).squared[:, 2]
    balls = {
        "on": Balls("y", radii), "before": Balls("y", np.nextafter(radii, 0)), "open": Balls("y", radii, open=True),
        "around x": Balls("x", others(x, 3).squared[:, 1]),
    }  # fmt: skip
    counts, nearest = crossing(x, y, balls)
    there = on_the_device(lambda: (crossing(x, y, balls), others(x, 3)), memory=memory, products=kind)
    assert str(there[0]) == str((counts, nearest))
    for name, c in counts.items():
        assert [a.tolist() for a in there[0][0][name]] == [a.tolist() for a in c]
    assert [a.tolist() for a in there[1]] == [a.tolist() for a in others(x, 3)]


class Memory:
    """Bytes of tensors on the simulated device: now and at most so far. Views count once."""

    def __init__(self):
        self.storages, self.now, self.most = {}, 0, 0

    def add(self, shell):
        storage = shell.raw.untyped_storage()
        key = storage.data_ptr()
        users = self.storages.setdefault(key, [0, storage.nbytes()])
        self.now += 0 if users[0] else users[1]
        users[0] += 1
        self.most = max(self.most, self.now)
        weakref.finalize(shell, self.remove, key)

    def remove(self, key):
        users = self.storages[key]
        users[0] -= 1
        if not users[0]:
            self.now -= self.storages.pop(key)[1]


@pytest.fixture
def device_memory(monkeypatch):
    wrapped, memory = OnDevice.__new__, Memory()

    def noting(cls, raw):
        shell = wrapped(cls, raw)
        memory.add(shell)
        return shell

    monkeypatch.setattr(OnDevice, "__new__", staticmethod(noting))
    return memory


@pytest.mark.parametrize(
    "name",
    [
        "fid",
        "kid",
        "cmmd",
        "mind",
        "vendi",
        "rke",
        "recall",
        "clipped_density",
        "ct_score",
        "is",
        "clip_score",
        "clip_agreement",
    ],
)
def test_the_device_holds_at_most_the_budget(name, device_memory):
    """Neither set fits beside what is computed from it: rows are copied a part at a time."""
    sets, budget = arguments(name, 900, 800, 30), 2**18
    here = METRICS[name].compute(**sets)
    there = on_the_device(lambda: METRICS[name].compute(**sets), memory=budget)
    assert 0 < device_memory.most <= budget
    assert there.value == pytest.approx(here.value, rel=1e-6 if TOLERANCES[name] else 0, abs=0)


def test_products_are_not_rounded_to_tf32_and_settings_return():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with computing_on("cpu"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_only_products_that_choose_neighbours_are_rounded_to_tf32(monkeypatch):
    """What CUDA would be asked for: "high" is TF32."""
    asked, compute = [], DeviceRows.chunks
    monkeypatch.setattr(
        DeviceRows, "chunks", lambda self: asked.append(torch.get_float32_matmul_precision()) or compute(self)
    )
    for name in ("kid", "recall"):
        sets = arguments(name, *SHAPES["more rows"])
        there = on_the_device(lambda: METRICS[name].compute(**sets), products=TF32)  # noqa: B023
        assert there.value == pytest.approx(METRICS[name].compute(**sets).value, rel=TOLERANCES[name], abs=0)
        assert set(asked) == ({"highest"} if name == "kid" else {"high"})
        asked.clear()


def test_outside_metrics_compute_on_the_cpu():
    with other_device(), computing_on(DEVICE):
        assert arithmetic().device == str(DEVICE)
    assert arithmetic().device == "cpu"
