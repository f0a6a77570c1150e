"""Training: continuing equals not stopping, players touch only their own, the average has its closed form."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toys

from genbench import data
from genbench.contract import DataSpec, Recipe
from genbench.data.stored import mapped
from genbench.errors import CellFailure
from genbench.evaluate.cell_inputs import CellInputs
from genbench.plan.planner import make_plan
from genbench.progress import Progress, silent
from genbench.registry import resolve_model
from genbench.sources.build import build, write_weights
from genbench.space import seeded
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.train.batches import Batches, resident
from genbench.train.checkpoint import read_checkpoint, write_checkpoint
from genbench.train.ema import MovingAverage
from genbench.train.loop import FitOptions, Training, fit, numeric_settings

SPEC = DataSpec(1, 4, 4, 17)


def batches(n: int = 100, seed: int = 0) -> Batches:
    pixels = torch.randint(17, (n, *SPEC.shape), generator=seeded(1), dtype=torch.uint8)
    return Batches(pixels, torch.arange(n), 17, seed)


def test_an_epoch_shows_every_image_once_and_epochs_differ():
    stream, gen = batches(10), seeded(0)
    epochs = [stream.next(10, gen).labels.tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_stream_is_a_function_of_seed_and_place():
    one, two = batches(), batches()
    for _ in range(5):
        one.next(32, seeded(0))
    two.taken = one.taken
    assert torch.equal(one.next(32, seeded(0)).labels, two.next(32, seeded(0)).labels)
    other = batches(seed=1)
    other.taken = two.taken = 0
    assert not torch.equal(other.next(32, seeded(0)).labels, two.next(32, seeded(0)).labels)


def test_large_datasets_are_read_ahead_and_give_the_same_batches(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", batches().pixels.numpy())
    plain, gen = batches(), seeded(0)
    monkeypatch.setattr("genbench.train.batches.AHEAD", 0)
    ahead = Batches(mapped(tmp_path / "x.npy"), torch.arange(100), 17, 0)
    read, own = ahead.pixels, slice(4, 8)
    for step in range(9):  # 288 images: the stream enters its third epoch
        if step == 5:
            ahead.taken = plain.taken = 10
        batch, expected = ahead.next(32, gen, own), plain.next(32, gen, own)
        assert torch.equal(batch.pixels, expected.pixels)
        assert torch.equal(batch.labels, expected.labels)
        assert ahead.taken == plain.taken
    numbers, following = ahead._ahead
    ahead.pixels = torch.zeros_like(read)  # what is returned now was read before
    assert torch.equal(ahead.next(32, gen, own).pixels, read[numbers])
    assert torch.equal(following.result(), plain.next(32, gen, own).pixels)


@pytest.mark.parametrize(("free", "moved"), [(200, True), (199, False)])
def test_images_move_to_a_device_of_whose_free_memory_they_fill_at_most_half(monkeypatch, free, moved):
    pixels = SimpleNamespace(nbytes=100, to=lambda device: device)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 1000))
    assert resident(pixels, torch.device("cuda")) == (torch.device("cuda") if moved else pixels)


def test_texts_name_the_labels_and_the_other_domain_is_unpaired():
    pixels = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    source = torch.full((3, 1, 2, 2), 16, dtype=torch.uint8)
    captions = tuple("abcdef")
    batch = Batches(pixels, torch.arange(6), 17, 0, texts=captions, source=source).next(5, seeded(0))
    assert batch.texts == tuple(captions[k] for k in batch.labels.tolist())
    assert batch.source.shape == (5, 1, 2, 2)
    assert batch.source.eq(1).all()
    assert Batches(pixels, None, 17, 0).next(5, seeded(0)).texts is None


def test_labels_stay_with_their_images_and_flips_mirror():
    pixels = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 1, 2, 2).clone()
    pixels[:, :, :, 1] += 8
    batch = Batches(pixels, torch.arange(6), 17, 0, flip=True).next(60, seeded(3))
    smallest = batch.pixels.amin(dim=(1, 2, 3)).long()
    assert torch.equal(smallest, batch.labels)
    mirrored = batch.pixels[:, 0, 0, 0] > batch.pixels[:, 0, 0, 1]
    assert 15 < int(mirrored.sum()) < 45


def test_which_images_are_mirrored_follows_from_the_generator_and_the_place_in_the_batch():
    pixels = torch.tensor([0, 1], dtype=torch.uint8).expand(30, 1, 2, 2)

    def mirrored(seed: int, rows: slice = slice(None)) -> list[torch.Tensor]:
        batch = Batches(pixels, None, 17, 0, flip=True, source=pixels).next(30, seeded(seed), rows)
        return [batch.pixels[:, 0, 0, 0], batch.source[:, 0, 0, 0]]

    again, own = mirrored(3), mirrored(3, slice(5, 12))
    for index, first in enumerate(mirrored(3)):
        assert torch.equal(first, again[index])
        assert torch.equal(first[5:12], own[index])
        assert not torch.equal(first, mirrored(4)[index])


def test_what_is_trained_on_is_mirrored_and_the_reference_is_not(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(256, size=(30, 4, 4), dtype=np.uint8)
    images[..., 0], images[..., 3] = 0, 255
    np.savez(tmp_path / "x.npz", images=images)
    entry = {"name": "npz", "path": str(tmp_path / "x.npz")}
    toy = {"name": "toy", "source": f"{toys.__file__}:Diagonal", "train": {"flip": True}}
    suite = {"suite": "s", "dataset": entry, "features": "pixels", "models": [toy], "metrics": ["fid"]}
    plan, store = make_plan(Suite.model_validate(suite)), Store()
    loaded = data.load(entry)
    before, seen, plain = loaded.train.pixels.clone(), [], Batches.next
    monkeypatch.setattr(data, "load", lambda *_: loaded)
    monkeypatch.setattr(Batches, "next", lambda *given: seen.append(plain(*given)) or seen[-1])
    plan.fits[0].run(plan.data, store, "cpu", silent)
    assert set(torch.cat([batch.pixels[:, 0, 0, 0] for batch in seen]).tolist()) == {0, 255}
    inputs = CellInputs(plan.cells[0], store, "cpu", silent)
    assert torch.equal(inputs.reference.pixels, before)
    assert np.array_equal(inputs.real.vectors, before.flatten(1).float().numpy() / 255)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_run_cut_in_two_gives_the_same_weights(tmp_path, decay):
    recipe, options = Recipe(lr=1e-2, batch=16, ema=decay, warmup=5, decay="cosine"), FitOptions(images=640, seed=3)
    whole, cut, rest = (toys.Diagonal(SPEC) for _ in range(3))
    fit(whole, batches(), recipe, options)
    first = Training(cut, batches(), recipe, options)
    for _ in range(17):
        first.step()
    first.checkpoint(tmp_path / "checkpoint.pt")
    fitted = fit(rest, batches(), recipe, options, scratch=tmp_path)
    assert fitted.steps == 40
    assert fitted.images == 640
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
    assert not torch.equal(cut.mean, rest.mean)


def test_a_player_moves_only_its_own_parameters_and_stages_share_the_budget():
    model = toys.TwoPlayers(SPEC)
    fitted = fit(model, batches(), Recipe(lr=0.1, batch=10), FitOptions(images=80, seed=0))
    assert fitted.steps == 8  # 2 with both players, then 6 with b alone
    assert model.a.item() == pytest.approx(-0.2, rel=1e-4)
    assert model.b.item() == pytest.approx(-0.8, rel=1e-4)
    assert {p.stage for p in fitted.curves if p.name == "b"} == {"first", "second"}
    assert {p.stage for p in fitted.curves if p.name == "a"} == {"first"}


def test_average_of_a_constant_weight():
    model = toys.TwoPlayers(SPEC)
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        model.a.fill_(1.0)
    kept = 1.0
    for step in range(12):  # the warm-up reaches 0.5 in step 8
        average.update(model, step)
        kept *= min(0.5, (1 + step) / (10 + step))
    average.copy_to(model)
    assert model.a.item() == pytest.approx(1 - kept, abs=1e-6)


class Settles(toys.TwoPlayers):
    """Notes the weight it is settled with; starts, once it has seen a batch, from 5."""

    def __init__(self, data):
        super().__init__(data)
        self.settled = []

    def prepare(self, batch, gen):
        torch.nn.init.constant_(self.b, 5.0)

    def settle(self, gen):
        self.settled.append(self.b.item())


def test_a_model_is_settled_once_with_its_averaged_weights():
    model = Settles(SPEC)
    fit(model, batches(), Recipe(lr=0.1, batch=10, ema=0.9), FitOptions(images=80, seed=0))
    assert model.settled == [model.b.item()]
    assert 4.21 < model.b.item() < 4.9  # eight steps of -0.1, of which the average has not taken in all


class Counts(toys.TwoPlayers):
    """Keeps in buffers how many losses it was asked for and the weight it was last asked with."""

    def __init__(self, data):
        super().__init__(data)
        self.register_buffer("asked", torch.zeros((), dtype=torch.long))
        self.register_buffer("weight", torch.zeros(()))

    def loss(self, batch, player, step, gen):
        self.asked += 1
        self.weight.copy_(self.b.detach())
        return super().loss(batch, player, step, gen)


def test_buffers_keep_their_last_value_and_are_not_averaged():
    model = Counts(SPEC)
    fit(model, batches(), Recipe(lr=0.1, batch=10, ema=0.9), FitOptions(images=80, seed=0))
    assert model.asked.item() == 10  # two steps of two players, six of one
    assert model.weight.item() == pytest.approx(-0.7, rel=1e-4)  # before the last of eight steps of -0.1
    average, weight = 0.0, 0.0
    for step in (0, 1, 0, 1, 2, 3, 4, 5):  # of a stage of two steps and one of six
        weight -= 0.1
        average += (1 - (1 + step) / (10 + step)) * (weight - average)
    assert model.b.item() == pytest.approx(average, rel=1e-4)


def test_the_average_starts_from_prepared_weights():
    model = Settles(SPEC)
    fit(model, batches(), Recipe(lr=0.0, batch=10, ema=0.9), FitOptions(images=80, seed=0))
    assert model.b.item() == 5.0


def rates_of(recipe, steps, player="a"):
    """The step sizes at some steps of a training with a stage of 10 steps and one of 30."""
    training = Training(toys.TwoPlayers(SPEC), batches(), recipe, FitOptions(images=400, seed=0))
    rates = []
    for step in steps:
        training.fitted.steps = step
        rates.append(training.learning_rate(player))
    return rates


def test_learning_rate_stays_for_half_of_each_stage_and_falls_to_0_in_the_other():
    recipe = Recipe(lr=1.0, batch=10, decay="linear")
    assert rates_of(recipe, (0, 5, 9)) == pytest.approx([1.0, 1.0, 0.2], abs=1e-12)
    assert rates_of(recipe, (10, 25, 30, 39)) == pytest.approx([1.0, 1.0, 2 / 3, 2 / 30], abs=1e-12)


def test_learning_rate_warms_up_and_follows_the_cosine_in_each_stage():
    recipe = Recipe(lr=1.0, lrs=(("b", 0.5),), batch=10, warmup=4, decay="cosine")
    first, second = rates_of(recipe, range(10)), rates_of(recipe, range(10, 40))
    assert first[:4] == second[:4] == [0.25, 0.5, 0.75, 1.0]
    assert [first[5], second[15]] == pytest.approx([0.5, 0.5])
    assert first[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 9 / 10)))
    assert second[29] == pytest.approx(0.5 * (1 + math.cos(math.pi * 29 / 30)))
    assert rates_of(recipe, [39], player="b") == pytest.approx([second[29] / 2])


def test_a_gradient_is_clipped_to_the_norm_asked_for():
    recipe = Recipe(lr=1e-2, batch=16, clip=1e-3)
    training = Training(toys.Diagonal(SPEC), batches(), recipe, FitOptions(images=16, seed=0))
    training.step()
    norm = torch.cat([p.grad.flatten() for p in training.players["all"]]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_cell():
    with pytest.raises(CellFailure, match=r"loss 'nll' became nan by step \d+"):
        fit(toys.TurnsNaN(SPEC), batches(), Recipe(batch=16), FitOptions(images=3200, seed=0))


def test_training_reaches_the_maximum_likelihood_of_its_data():
    stream = batches(500)
    model = toys.Diagonal(SPEC)
    fit(model, stream, Recipe(lr=2e-2, batch=100, ema=0.99), FitOptions(images=40_000, seed=0))
    truth = (stream.pixels.float().mean(0) + 0.5) / 17
    assert (model.mean - truth).abs().max() < 0.02


def test_bf16_trains_and_the_last_report_is_complete():
    seen: list[Progress] = []
    fitted = fit(toys.Diagonal(SPEC), batches(), Recipe(batch=16), FitOptions(64, 0, "bf16"), report=seen.append)
    assert (seen[-1].done, seen[-1].total) == (64, 64)
    assert fitted.curves[-1].images == 64
    assert math.isfinite(fitted.curves[-1].value)


def test_numeric_settings_name_what_float32_results_on_cuda_depend_on():
    assert numeric_settings("cpu") == numeric_settings(torch.device("mps")) == {}
    before = torch.get_float32_matmul_precision()
    settings = numeric_settings("cuda:0")
    assert settings["draw"]["matmul"] == before == torch.get_float32_matmul_precision() == "highest"
    assert settings["train"]["matmul"] == "high"
    assert not settings["train"]["cudnn_benchmark"]
    assert settings["draw"] == {**settings["train"], "matmul": "highest"}
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        changed = numeric_settings("cuda")["draw"]
    assert (changed["cudnn_benchmark"], changed["cudnn_tf32"]) == (True, False)


def test_the_settings_of_a_gpu_stand_in_the_protocol_of_rows_that_a_network_draws(tmp_path, monkeypatch):
    toy = {"name": "toy", "source": f"{toys.__file__}:Diagonal", "budget": {"images": 32}}
    kept = {"name": "kept", "source": toy["source"], "weights": str(tmp_path / "toy.safetensors")}
    write_weights(toys.Diagonal(data.load({"name": "digits"}).spec), tmp_path / "toy.safetensors")
    entries = {"dataset": {"name": "digits"}, "models": [toy, kept], "metrics": ["fid"]}
    plan, store = make_plan(Suite.model_validate({"suite": "s", **entries})), Store()
    plan.fits[0].run(plan.data, store, "cpu", silent)

    def numerics():
        cells = {cell.label: CellInputs(cell, store, "cpu", silent).model_protocol for cell in plan.cells}
        return {label: branch.get("numerics") for label, branch in cells.items()}

    assert set(numerics().values()) == {None}
    monkeypatch.setattr("genbench.sources.network.numeric_settings", lambda _: numeric_settings("cuda"))
    settings = numerics()
    assert settings.pop("toy") == numeric_settings("cuda")
    assert settings.pop("kept") == {"draw": numeric_settings("cuda")["draw"]}
    assert settings
    assert set(settings.values()) == {None}


def test_a_checkpoint_is_read_to_the_device_asked_for(tmp_path):
    write_checkpoint(tmp_path / "x.pt", {"x": torch.ones(2), "steps": 3})
    here, there = (read_checkpoint(tmp_path / "x.pt", torch.device(name)) for name in ("cpu", "meta"))
    assert here["x"].tolist() == [1.0, 1.0]
    assert there["x"].is_meta
    assert here["steps"] == there["steps"] == 3


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-7], lambda b: b[:500] + bytes([b[500] ^ 1]) + b[501:]])
def test_a_damaged_checkpoint_is_noted_and_training_starts_again(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    state = toys.Diagonal(SPEC), batches(), Recipe(batch=16), FitOptions(images=64, seed=3)
    Training(*state).checkpoint(path)
    path.write_bytes(damage(path.read_bytes()))
    again = Training(*state)
    again.resume(path)
    assert again.fitted.steps == 0
    assert "checkpoint was damaged" in again.fitted.note
    assert not path.exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_continued_training_has_the_same_bits_on_any_number_of_threads(tmp_path, threads):
    spec, before = DataSpec(1, 8, 8, 17), torch.get_num_threads()
    pixels = torch.randint(17, (100, *spec.shape), generator=seeded(1), dtype=torch.uint8)

    def training() -> Training:
        model = build(resolve_model("dcgan"), spec, {}, {}, 0)
        model.to(memory_format=torch.channels_last).train()
        return Training(model, Batches(pixels, None, 17, 3), Recipe(batch=32, ema=0.9), FitOptions(320, 3))

    torch.set_num_threads(threads)
    try:
        whole, first, second = training(), training(), training()
        for _ in range(10):
            whole.step()
        for _ in range(4):
            first.step()
        first.checkpoint(tmp_path / "checkpoint.pt")
        second.resume(tmp_path / "checkpoint.pt")
        for _ in range(6):
            second.step()
    finally:
        torch.set_num_threads(before)
    states = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(map(torch.equal, whole.average.state(), second.average.state()))
