"""Batches that run out of memory are halved: the same images, likelihoods, features, gradients, or a clear failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toys
from test_runner import genbench, place, toy, write  # noqa: F401 - place is a fixture
from torch import nn

from genbench.contract import DataSpec, Decodes, Loss, Recipe, Translates
from genbench.draw.blocks import draw, draw_share
from genbench.errors import CellFailure
from genbench.features import Features, extract
from genbench.halving import FEW, TOLERANCE, AtOnce, in_parts
from genbench.metrics.paths import path_distances, squared_difference
from genbench.metrics.translation import there_and_back
from genbench.processes.group import Processes
from genbench.progress import Progress
from genbench.reasons import explain, out_of_memory
from genbench.records import read_records
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, fit

SPEC = DataSpec(1, 4, 4, 17)
PIXELS = squared_difference(lambda x: x)
CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(CPU_ALLOCATOR),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        np._core._exceptions._ArrayMemoryError((9, 9), np.dtype(float)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_allocators(error):
    assert explain(error).startswith("out of memory")


def test_a_real_allocation_that_fails():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shape mismatch"))


def draws(n: int, gen: torch.Generator) -> torch.Tensor:
    """Random numbers in the ways of models: by shape, like a tensor, in place, by probabilities, one for all."""
    normal = torch.randn(n, 3, generator=gen)
    level = torch.randint(17, (n, 3), generator=gen)
    filled = torch.empty(n, 3).normal_(generator=gen)
    chance = torch.bernoulli(torch.full((n, 3), 0.4), generator=gen)
    chosen = torch.multinomial(torch.tensor([[0.2, 0.3, 0.5]]).repeat(n, 1), 1, generator=gen)
    return torch.cat([normal, level, filled, chance, chosen, torch.rand(1, 5, generator=gen).expand(n, 5)], 1)


@pytest.mark.parametrize("size", [7, 4, 3, 2])
def test_parts_receive_the_rows_of_the_whole(size):
    one, other = seeded(3), seeded(3)
    whole = draws(7, one)
    parts = torch.cat(in_parts(lambda start, stop: draws(stop - start, other), 7, size, other))
    assert torch.equal(whole, parts)
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=other))  # both streams are at one position


@pytest.mark.parametrize(
    "shared", [lambda gen: torch.rand(3, generator=gen), lambda gen: torch.randperm(3, generator=gen)]
)
def test_numbers_that_could_be_of_images_or_of_all_are_refused(shared):
    gen = seeded(0)
    with pytest.raises(CellFailure, match="not a row for each image"):
        in_parts(lambda start, stop: shared(gen), 7, 3, gen)  # parts of 3, 3 and 1


class Large(toys.Diagonal):
    """Runs out of memory with more than `most` images, in the middle of its work."""

    most = 5

    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen)
        self.need(n)
        return x

    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        self.need(len(batch))
        return loss

    def need(self, n):
        if n > self.most:
            raise RuntimeError(CPU_ALLOCATOR)


def test_drawing_in_parts_gives_the_same_images():
    seen: list[Progress] = []
    drawn = draw(Large(SPEC), 30, seed=5, block=12, report=seen.append)
    assert torch.equal(drawn.pixels, draw(toys.Diagonal(SPEC), 30, seed=5, block=12).pixels)
    assert drawn.at_once == 3
    notes = [progress.note for progress in seen if progress.note]
    assert notes == [f"out of memory with {a} images at once; continues with {a // 2}" for a in (12, 6)]


def test_drawing_goes_on_in_parts_after_a_kill(tmp_path):
    draw(Large(SPEC), 12, seed=5, block=12, scratch=tmp_path)
    assert draw(Large(SPEC), 24, seed=5, block=12, scratch=tmp_path).at_once == 3


def test_a_process_draws_its_share_in_parts(tmp_path):
    seen: list[Progress] = []
    draw_share(Large(SPEC), 12, 5, Processes(), tmp_path, block=12, report=seen.append)
    assert [(progress.phase, bool(progress.note)) for progress in seen] == [
        ("draw", True),
        ("draw", True),
        ("draw", False),
    ]
    assert torch.equal(
        draw(Large(SPEC), 12, seed=5, block=12, scratch=tmp_path).pixels, draw(Large(SPEC), 12, seed=5, block=12).pixels
    )


class Shifted(Large):
    """Moves all images of a block by the same random number."""

    def sample(self, n, gen, condition=None):
        return 0.5 * super().sample(n, gen) + 0.5 * torch.rand(1, 1, 1, 1, generator=gen)


def test_numbers_that_all_images_share_are_no_obstacle():
    roomy = type("Roomy", (Shifted,), {"most": 99})
    parts, whole = (draw(kind(SPEC), 12, seed=5, block=12) for kind in (Shifted, roomy))
    assert (parts.at_once, whole.at_once) == (3, None)
    assert torch.equal(parts.pixels, whole.pixels)


class Coupled(Large):
    """Subtracts the mean of the batch, times `by`."""

    by = 1.0

    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen)
        return x - self.by * x.mean(0)


@pytest.mark.parametrize(("precision", "fails"), [("fp32", True), ("bf16", False)])
def test_parts_may_differ_by_the_rounding_of_the_precision(precision, fails):
    model = type("Hardly", (Coupled,), {"by": 5e-3})(SPEC)
    if not fails:
        assert draw(model, 12, seed=5, block=12, precision=precision).at_once == 3
        return
    with pytest.raises(CellFailure, match=r"out of memory.*; the batch of 12 cannot be divided"):
        draw(model, 12, seed=5, block=12, precision=precision)


class Shuffled(Large):
    """Uses random numbers that are not one row for each image."""

    def sample(self, n, gen, condition=None):
        return super().sample(n, gen)[torch.randperm(n, generator=gen)]


@pytest.mark.parametrize("kind", [Coupled, Shuffled])
def test_images_that_depend_on_the_batch_are_not_drawn_in_parts(kind):
    with pytest.raises(CellFailure, match=r"out of memory.*; the batch of 12 cannot be divided"):
        draw(kind(SPEC), 12, seed=5, block=12)


class Darker(Large):
    """White images, darker by `by` with fewer than three at once."""

    by = 0.0

    def sample(self, n, gen, condition=None):
        self.need(n)
        return torch.full((n, *self.data.shape), 1.0 - (self.by if n < FEW else 0.0))


def test_values_of_parts_may_differ_by_the_tolerance_however_large_they_are():
    assert draw(type("Less", (Darker,), {"by": 0.95 * TOLERANCE})(SPEC), 12, seed=5, block=12).at_once == 3
    with pytest.raises(CellFailure, match="cannot be divided"):
        draw(type("More", (Darker,), {"by": 1.05 * TOLERANCE})(SPEC), 12, seed=5, block=12)


def test_a_single_image_that_is_too_much_fails():
    with pytest.raises(CellFailure, match=f"out of memory: .*; with {3} images at once"):
        draw(type("Huge", (Large,), {"most": 0})(SPEC), 12, seed=5, block=12)


def trained(kind, **recipe):
    pixels = torch.randint(17, (60, *SPEC.shape), generator=seeded(1), dtype=torch.uint8)
    model = kind(SPEC)
    seen: list[Progress] = []
    recipe = Recipe(lr=1e-2, batch=12, **recipe)
    fitted = fit(model, Batches(pixels, None, 17, 0), recipe, FitOptions(240, 0), report=seen.append)
    return model, fitted, [progress.note for progress in seen if progress.note]


def test_training_in_parts_gives_the_same_weights():
    model, fitted, notes = trained(Large, clip=1.0, ema=0.9)
    expected, plain, _ = trained(toys.Diagonal, clip=1.0, ema=0.9)
    assert fitted.at_once == 3
    assert plain.at_once is None
    assert len(notes) == 2
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert [p.value for p in fitted.curves] == pytest.approx([p.value for p in plain.curves], rel=1e-5)


class WithLayer(Large):
    """A network in the loss; layer: what it contains."""

    layer: type[nn.Module] = nn.Identity

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), self.layer(), nn.Conv2d(4, 1, 3, padding=1))

    def loss(self, batch, player, step, gen):
        nll = super().loss(batch, player, step, gen).total
        return Loss(nll + self.net(batch.x).square().mean(), {"nll": nll})


class Norm(nn.BatchNorm2d):
    def __init__(self):
        super().__init__(4)


class Counts(nn.Module):
    """Depends on nothing but how often it is used."""

    def __init__(self):
        super().__init__()
        self.register_buffer("uses", torch.zeros(()))

    def forward(self, x):
        self.uses += 1
        return x


class Dropout(nn.Dropout):
    """Uses global random numbers."""


@pytest.mark.parametrize(("layer", "fails"), [(nn.Identity, False), (Norm, True), (Counts, True), (Dropout, True)])
def test_only_means_over_independent_images_are_trained_in_parts(layer, fails):
    kind = type("Kind", (WithLayer,), {"layer": layer})
    if not fails:
        assert trained(kind)[1].at_once == 3
        return
    with pytest.raises(CellFailure, match="out of memory with 12 images at once, and the batch cannot be divided"):
        trained(kind)


class Lazy(Large):
    """Its fifth loss has a further term, which couples images."""

    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        if step != 4:
            return loss
        return Loss(loss.total + 100 * self.mean.mean() * batch.x.std(), {**loss.terms, "coupled": loss.total})


def test_a_term_that_appears_later_is_tested_too():
    with pytest.raises(CellFailure, match="is no mean over images"):
        trained(Lazy)


class Means:
    """An extractor that runs out of memory; coupled: its features depend on the other images."""

    def __init__(self, coupled: bool = False) -> None:
        self.coupled, self.sizes = coupled, []

    def __call__(self, pixels, levels, batch=500):
        self.sizes.append(batch)
        if batch > 8:
            raise MemoryError
        parts = [p.float().mean((2, 3)) for p in pixels.split(batch)]
        return Features(torch.cat([p - p.mean() if self.coupled else p for p in parts]).numpy())


def test_features_in_smaller_batches():
    pixels = torch.randint(17, (40, *SPEC.shape), dtype=torch.uint8, generator=seeded(0))
    extractor, at_once = Means(), AtOnce()
    found = extract(extractor, pixels, 17, at_once)
    assert np.array_equal(found.vectors, pixels.float().mean((2, 3)).numpy())
    assert extractor.sizes == [40, 3, 1, 20, 10, 5]
    assert at_once.facts == {"at_once": 5}
    with pytest.raises(CellFailure, match="cannot be divided"):
        extract(Means(coupled=True), pixels, 17, AtOnce())


class Decoder(Large, Decodes):
    """Images as a smooth function of latents; runs out of memory with more than `most`."""

    def noise(self, n, gen):
        return torch.randn(n, 3, generator=gen)

    def decode(self, z):
        self.need(len(z))
        return (z.sum(1).view(-1, 1, 1, 1) + self.mean).sin()


class CoupledDecoder(Decoder):
    def decode(self, z):
        return super().decode(z - z.mean(0))


def test_steps_along_paths_in_parts_give_the_same_distances():
    sizes = AtOnce()
    whole = path_distances(type("Roomy", (Decoder,), {"most": 99})(SPEC), PIXELS, 30, epsilon=1e-2)
    parts = path_distances(Decoder(SPEC), PIXELS, 30, epsilon=1e-2, at_once=sizes)
    assert parts == pytest.approx(whole, rel=1e-4)
    assert sizes.size == 2  # two images each
    with pytest.raises(CellFailure, match=r"out of memory.*; the batch of 30 cannot be divided"):
        path_distances(CoupledDecoder(SPEC), PIXELS, 30, epsilon=1e-2)


class Translator(Large, Translates):
    """Turns images upside down; runs out of memory with more than `most`."""

    def translate(self, x, direction):
        self.need(len(x))
        return x.flip(2)


class CoupledTranslator(Translator):
    def translate(self, x, direction):
        return super().translate(x - x.mean(0), direction)


def test_translation_in_parts_gives_the_same_images():
    pixels, sizes = torch.randint(17, (12, *SPEC.shape), generator=seeded(1), dtype=torch.uint8), AtOnce()
    there, back = there_and_back(Translator(SPEC), pixels, "a_to_b", at_once=sizes)
    assert torch.equal(there, pixels.flip(2))
    assert torch.equal(back, pixels)
    assert sizes.size == 3
    with pytest.raises(CellFailure, match=r"out of memory.*; the batch of 12 cannot be divided"):
        there_and_back(CoupledTranslator(SPEC), pixels, "a_to_b")


def test_a_run_says_and_records_what_was_halved_in_paths_and_translations(place):  # noqa: F811
    (place / "large.py").write_text(MODEL)
    shared = {"samples": 60, "speed": {"batch": 8, "seconds": 0.01}, "dataset": {"name": "edges", "of": "digits"}}
    rows = [
        {"name": name, "source": f"large.py:{kind}"} for name, kind in (("small", "Flips"), ("large", "LargeFlips"))
    ]
    path = write(place, rows, metrics=["cycle_error", "fid_a_to_b"], budget={"images": 64}, **shared)
    text = genbench(path)
    records = {(r.model, r.metric): r for r in read_records(place / "out" / "records.jsonl")}
    for metric in ("cycle_error", "fid_a_to_b"):
        assert records["large", metric].value == pytest.approx(records["small", metric].value, rel=1e-4)
        assert records["large", metric].protocol["model"]["images_at_once"]["translation"] == 8
        assert "images_at_once" not in records["small", metric].protocol["model"]
    assert " · translation: out of memory with 60 images at once" in text


def test_a_run_says_and_records_what_was_halved(place):  # noqa: F811
    (place / "large.py").write_text(MODEL)
    models = [toy(), {"name": "large", "source": "large.py:Large"}, {"name": "norm", "source": "large.py:Normed"}]
    text = genbench(write(place, models, metrics=["fid", "bits_per_dim"]), rc=1)
    records = {(r.model, r.metric): r for r in read_records(place / "out" / "records.jsonl")}
    for metric, halved in {"fid": {"train": 8, "draw": 8}, "bits_per_dim": {"train": 8, "likelihood": 6}}.items():
        plain, large = records["diagonal", metric], records["large", metric]
        assert large.value == pytest.approx(plain.value, rel=1e-4)
        assert large.protocol["model"]["images_at_once"] == halved
        assert large.protocol_hash == plain.protocol_hash
        assert "images_at_once" not in plain.protocol["model"]
        assert "the batch cannot be divided" in records["norm", metric].reason
    for phase in ("train", "draw", "likelihood"):
        assert f" · {phase}: out of memory with " in text


MODEL = f"""
import sys
sys.path.append({str(toys.__file__).rpartition("/")[0]!r})
import toys
from torch import nn
from genbench.contract import Loss


class Large(toys.Diagonal):
    def need(self, n):
        if n > 10:
            raise MemoryError

    def sample(self, n, gen, condition=None):
        self.need(n)
        return super().sample(n, gen)

    def log_prob(self, pixels, gen=None):
        self.need(len(pixels))
        return super().log_prob(pixels, gen)


class Flips(toys.Same):
    def translate(self, x, direction):
        return x.flip(2)

    def sample(self, n, gen, condition=None):
        return condition.images


class LargeFlips(Flips):
    def translate(self, x, direction):
        if len(x) > 10:
            raise MemoryError
        return super().translate(x, direction)


class Normed(Large):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.norm = nn.BatchNorm2d(1)

    def loss(self, batch, player, step, gen):
        return Loss(super().loss(batch, player, step, gen).total + self.norm(batch.x).square().mean())
"""
