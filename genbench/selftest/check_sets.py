"""The pairs of sets of the fifteen checks (Raisa et al. 2025, appendix; sizes and settings are fewer here).

Each function yields (group, setting, fake, real): a curve of a metric is over the settings of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from genbench.metrics.arrays import Array

N = 1000
DIMS = (1, 8, 64)
SIZES = (100, 316, 1000, 3162)
Random = np.random.Generator
Sets = Iterator[tuple[str, float, Array, Array]]
SetMaker = Callable[[Random], Sets]

_REACH = {1: 6.0, 8: 3.0, 64: 1.0}  # largest shift of the mean in every dimension
_MODE_STD = {1: 1 / 6, 8: 1 / 3, 64: 1.0}
_MODES = 10
_OVERLAP = 0.2  # share of the volume of two hypercubes that they have in common


def normal(rng: Random, dims: int, n: int = N) -> Array:
    """Rows (n, dims) of N(0, I)."""
    return rng.standard_normal((n, dims))


def shifts(dims: int) -> Array:
    """Nine shifts of the mean, from one end over 0 to the other."""
    return np.linspace(-_REACH[dims], _REACH[dims], 9)


def mean_difference(rng: Random) -> Sets:
    """N(m, I) against N(0, I)."""
    for dims in DIMS:
        real = normal(rng, dims)
        yield from ((f"{dims}-D", m, normal(rng, dims) + m, real) for m in shifts(dims))


def mean_difference_with_outlier(rng: Random) -> Sets:
    """The same with one outlier, at the largest shift, in the real or in the generated set."""
    for dims in DIMS:
        real, outlier = normal(rng, dims), np.full((1, dims), _REACH[dims])
        for m in shifts(dims):
            fake = normal(rng, dims) + m
            yield f"{dims}-D, real outlier", m, fake, np.concatenate([real, outlier])
            yield f"{dims}-D, generated outlier", m, np.concatenate([fake, outlier]), real


def mean_difference_with_pareto(rng: Random) -> Sets:
    """The same in one dimension, beside one of a Pareto distribution without variance that is equal in both sets."""

    def tail() -> Array:
        return 1 + rng.pareto(1.01, (N, 1))

    real = np.concatenate([normal(rng, 1), tail()], axis=1)
    yield from (("", m, np.concatenate([normal(rng, 1) + m, tail()], axis=1), real) for m in shifts(1))


def std_difference(rng: Random) -> Sets:
    """N(0, s^2 I) against N(0, I)."""
    for dims, decades in zip(DIMS, (3.0, 1.0, 0.5), strict=True):
        real = normal(rng, dims)
        yield from ((f"{dims}-D", s, s * normal(rng, dims), real) for s in np.logspace(-decades, decades, 9))


def modes(rng: Random, centres: Array, std: float, shares: Array) -> Array:
    """Rows (N, D) of normal distributions around centres (K, D)."""
    chosen = rng.choice(len(centres), N, p=shares / shares.sum())
    return centres[chosen] + std * normal(rng, centres.shape[1])


def on_a_line(dims: int) -> Array:
    """Ten centres from 0 to 10 on the diagonal."""
    return np.tile(np.linspace(0, 10, _MODES)[:, None], (1, dims))


def modes_dropped_together(rng: Random) -> Sets:
    """The weight of all modes but the first falls to 0 in the generated set."""
    for dims in DIMS:
        real = modes(rng, on_a_line(dims), _MODE_STD[dims], np.ones(_MODES))
        for dropped in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0):
            shares = np.append(1.0, np.full(_MODES - 1, 1 - dropped))
            yield f"{dims}-D", dropped, modes(rng, on_a_line(dims), _MODE_STD[dims], shares), real


def modes_dropped_in_turn(rng: Random) -> Sets:
    """One mode after another is missing from the generated set."""
    for dims in DIMS:
        real = modes(rng, on_a_line(dims), _MODE_STD[dims], np.ones(_MODES))
        for dropped in (0, 2, 4, 6, 9):
            shares = (np.arange(_MODES) < _MODES - dropped).astype(float)
            yield f"{dims}-D", dropped, modes(rng, on_a_line(dims), _MODE_STD[dims], shares), real


def modes_dropped_and_invented(rng: Random) -> Sets:
    """Five modes in the plane; the generated set has 1 to 10, those above five invented."""
    turns = np.arange(_MODES) * 2.4
    centres = 6 * np.sqrt(np.arange(1, _MODES + 1))[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    real = modes(rng, centres, 0.25, (np.arange(_MODES) < 5).astype(float))
    for drawn in range(1, _MODES + 1):
        yield "", drawn, modes(rng, centres, 0.25, (np.arange(_MODES) < drawn).astype(float)), real


def one_mode_for_two(rng: Random) -> Sets:
    """Two modes that move apart; the generated set has one with the variance of both."""
    for dims in DIMS:
        for apart in np.linspace(0, 5, 6):
            real = modes(rng, np.array([[-apart / 2], [apart / 2]]) * np.ones(dims), 1.0, np.ones(2))
            yield f"{dims}-D", apart, np.sqrt(1 + apart**2) * normal(rng, dims), real


def sphere_surface(rng: Random) -> Sets:
    """Uniform on spheres of different radius."""

    def surface(dims: int, radius: float) -> Array:
        rows = normal(rng, dims)
        return np.asarray(radius * rows / np.linalg.norm(rows, axis=1, keepdims=True))

    for dims in (2, 16, 128):
        real = surface(dims, 1.0)
        yield from ((f"{dims}-D", r, surface(dims, r), real) for r in np.linspace(0.1, 1.9, 9))


def hypercubes(rng: Random, dims: int, n_fake: int, n_real: int) -> tuple[Array, Array]:
    """Uniform in two unit cubes with a fifth of their volume in common."""
    start = 1 - _OVERLAP ** (1 / dims)
    return start + rng.random((n_fake, dims)), rng.random((n_real, dims))


def hypercubes_of_size(rng: Random) -> Sets:
    """The same two distributions, more and more samples of both."""
    yield from ((f"{d}-D", n, *hypercubes(rng, d, n, n)) for d in DIMS for n in SIZES)


def hypercubes_of_fake_size(rng: Random) -> Sets:
    """The same two distributions, more and more generated samples."""
    yield from ((f"{d}-D", n, *hypercubes(rng, d, n, N)) for d in DIMS for n in SIZES)


def sphere_and_torus(rng: Random) -> Sets:
    """A ball in the hole of a torus, more and more generated samples; no point belongs to both."""

    def ball(n: int, dims: int = 3, radius: float = 0.8) -> Array:
        rows = normal(rng, dims, n)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(radius * rng.random((n, 1)) ** (1 / dims) * rows)

    def torus(n: int) -> Array:
        across, turn = ball(n, 2, 0.1), rng.uniform(0, 2 * np.pi, n)
        return np.stack([(1 + across[:, 0]) * np.cos(turn), (1 + across[:, 0]) * np.sin(turn), across[:, 1]], axis=1)

    for name, of_real, of_fake in (("real ball", ball, torus), ("real torus", torus, ball)):
        real = of_real(N)
        yield from ((name, n, of_fake(n), real) for n in SIZES)


def one_dimension_scaled(rng: Random) -> Sets:
    """Disjoint in the first dimension, equal in the second, whose unit changes."""
    for scale in np.logspace(-3, 3, 7):
        unit = np.array([1.0, scale])
        yield "", scale, (normal(rng, 2) + np.array([6.0, 0.0])) * unit, normal(rng, 2) * unit


def one_disjoint_dimension(rng: Random) -> Sets:
    """Disjoint in the first dimension, equal in more and more others."""
    for others in (1, 3, 10, 32, 100, 316, 1000):
        yield "", others, normal(rng, others + 1) + 6 * np.eye(1, others + 1), normal(rng, others + 1)


def discrete_and_continuous(rng: Random) -> Sets:
    """Numbers that are rounded in one of the sets, more and more finely."""
    for scale in np.logspace(0, 3, 5):
        yield "real discrete", scale, scale * normal(rng, 1), np.round(scale * normal(rng, 1))
        yield "real continuous", scale, np.round(scale * normal(rng, 1)), scale * normal(rng, 1)
