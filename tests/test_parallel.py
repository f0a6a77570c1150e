"""A training on several processes gives the losses and weights of one process, and continues with another number."""

from __future__ import annotations

import pytest
import torch
from parallel_trainings import die, fail, state_of, step, train_too, trained, training
from torch.distributed import HashStore, distributed_c10d

from genbench.errors import CellFailure, GenbenchError, ProcessDied
from genbench.processes.group import ALONE, Processes, Shares, across_processes, mean_across_processes, own_rows
from genbench.processes.noise import NoiseOfTheBatch
from genbench.registry import MODELS
from genbench.space import seeded
from genbench.team import Team, _joined
from genbench.train.loop import Training

GAP = 1e-9  # of weights in float64 after a few steps; what is more than rounding moves them by 1e-4 and more


@pytest.fixture(scope="module")
def pair():
    with Team(2, "cpu") as team:
        yield team


@pytest.fixture(scope="module")
def three():
    with Team(3, "cpu") as team:
        yield team


@pytest.fixture(scope="module")
def four():
    with Team(4, "cpu") as team:
        yield team


def together(team: Team, name: str, steps: int | None = None) -> Training:
    with team.call(train_too, name, steps) as group:
        return trained(name, group, None, steps)


def assert_equal_up_to_rounding(one: Training, other: Training) -> None:
    points = [[(p.stage, p.step, p.images, p.name) for p in run.fitted.curves] for run in (one, other)]
    assert points[0] == points[1]
    curves = [[p.value for p in run.fitted.curves] for run in (one, other)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)  # loss terms are logged in float32
    states = state_of(one), state_of(other)
    gaps = {name: float((value - states[1][name]).abs().max()) for name, value in states[0].items()}
    assert {name: gap for name, gap in gaps.items() if gap > GAP} == {}


@pytest.mark.parametrize("name", ["dcgan", "stylegan"])
def test_two_processes_train_as_one_does(pair, name):
    assert_equal_up_to_rounding(trained(name), together(pair, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.built_in)
@pytest.mark.parametrize("team", ["pair", "three", "four"])
def test_every_model_trains_on_two_three_and_four_processes_as_on_one(request, team, name):
    """Of a batch of 16, three processes have 4, 6 and 6 images."""
    assert_equal_up_to_rounding(trained(name), together(request.getfixturevalue(team), name))


def test_a_training_continues_with_another_number_of_processes(pair, tmp_path):
    whole, path = trained("dcgan"), tmp_path / "checkpoint.pt"
    together(pair, "dcgan", 3).checkpoint(path)
    assert_equal_up_to_rounding(whole, trained("dcgan", start=path))
    trained("dcgan", steps=2).checkpoint(path)
    with pair.call(train_too, "dcgan") as group:
        assert_equal_up_to_rounding(whole, trained("dcgan", group, path))


@pytest.mark.parametrize(("name", "what"), [("Coupled", "the loss"), ("Sums", "the loss"), ("Counts", "buffer 'seen'")])
def test_a_model_that_several_processes_would_train_otherwise_is_refused(pair, name, what):
    step(ALONE, name)
    with pytest.raises(CellFailure, match=rf"{what} of player 'all' in 2 processes differs by .* of the whole batch"):  # noqa: SIM117
        with pair.call(step, name) as group:
            step(group, name)


def draws(n: int, gen: torch.Generator) -> list[torch.Tensor]:
    """Random numbers in the ways of models: by shape, on the second axis, of every second image, in place, shared."""
    return [
        torch.randn(n, 3, generator=gen),
        torch.randint(17, (n,), generator=gen),
        torch.randn((2, n), generator=gen).T,
        torch.rand(n // 2, 5, generator=gen).repeat_interleave(2, 0),
        torch.empty(n, 3).normal_(generator=gen),
        torch.bernoulli(torch.full((n, 3), 0.4), generator=gen),
        torch.rand(1, 5, generator=gen).expand(n, 5),
        torch.rand((), generator=gen).expand(n),
    ]


@pytest.mark.parametrize("size", [2, 3])
def test_each_process_receives_its_rows_of_the_random_numbers(size):
    one, n = seeded(3), 24
    whole = draws(n, one)
    for rank in range(size):
        gen, (start, stop) = seeded(3), Processes(rank, size).rows(n)
        with NoiseOfTheBatch(start, stop, n):
            part = draws(stop - start, gen)
        assert all(torch.equal(mine, all_[start:stop]) for mine, all_ in zip(part, whole, strict=True))
        assert torch.equal(gen.get_state(), one.get_state())


def test_a_permutation_of_the_batch_is_refused():
    with NoiseOfTheBatch(0, 4, 8), pytest.raises(CellFailure, match="cannot be divided among processes"):
        torch.randperm(4, generator=seeded(0))


def test_alone_a_model_receives_what_it_asks_with():
    x = torch.rand(3, 2)
    assert across_processes(x) is own_rows(x) is mean_across_processes(x) is x


def test_a_mean_over_the_batch_follows_from_the_means_of_unequal_shares():
    values = torch.rand(16)
    groups = [Shares(Processes(rank, 3), 16) for rank in range(3)]
    assert [shares.own for shares in groups] == [4, 6, 6]
    means = [shares.weight * values[slice(*shares.group.rows(16))].mean() for shares in groups]
    assert torch.stack(means).mean() == pytest.approx(float(values.mean()), rel=1e-6)
    assert groups[0].bounds(32) == [(0, 8), (8, 20), (20, 32)]
    assert groups[0].bounds(8) == [(0, 2), (2, 5), (5, 8)]
    assert [Processes(rank, 3).rows(7) for rank in range(3)] == [(0, 2), (2, 4), (4, 7)]
    with pytest.raises(CellFailure, match="4 rows cannot be divided as the 16 images of the batch"):
        groups[0].bounds(4)


def test_a_batch_of_fewer_images_than_processes_is_refused():
    with pytest.raises(CellFailure, match=r"^train\.batch: found 16, allowed: at least 17, one for each process$"):
        training("gan", Processes(0, 17))


def test_processes_need_a_device_that_they_can_exchange_tensors_of():
    with pytest.raises(GenbenchError, match="found 2 with device mps, allowed: 1, or more on cpu and cuda"):
        Team(2, "mps")


def test_the_reason_of_a_member_is_that_of_the_call(pair):
    with pytest.raises(CellFailure, match=r"^no images \(in process 1 of 2\)$"), pair.call(fail, "no images"):
        pass


def test_a_group_that_did_not_form_does_not_count(monkeypatch):
    def lost(*args, **kwargs):
        raise RuntimeError("gloo: connection closed by peer")

    monkeypatch.setattr(distributed_c10d, "_new_process_group_helper", lost)
    with pytest.raises(RuntimeError, match="closed by peer"), _joined(HashStore(), 0, "cpu", Processes(0, 2)):
        pass
    assert distributed_c10d._world.group_count == 0  # the other process counts from there


def test_a_member_that_dies_fails_the_call():
    with Team(2, "cpu") as team, pytest.raises(ProcessDied, match=r"process 1 of 2 died \(exit code -9\)"):  # noqa: SIM117
        with team.call(die) as group:
            group.collected(0)
