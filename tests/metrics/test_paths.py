"""Perceptual path length: torch-fidelity's on the same generator, a linear one's closed form, the trimmed mean."""

import numpy as np
import pytest
import torch
from torch import nn

from genbench.contract import DataSpec, Decodes, Loss, Model
from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.paths import (
    MODES,
    N_PATHS,
    PPL,
    lerp,
    path_distances,
    perceptual_path_length,
    slerp,
    squared_difference,
)
from genbench.metrics.readings import PATHS

Z = 6
PIXELS = squared_difference(lambda x: x)


class Generator(Model, Decodes):
    """A small smooth network; with linear=True images are 0.02 W z. Latents from torch, or from `rng` when given."""

    def __init__(self, linear=False, rng=None):
        super().__init__(DataSpec(3, 4, 4))
        self.linear, self.rng = linear, rng
        gen = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(Z, 48, generator=gen, dtype=torch.float64).to(torch.float32))

    def loss(self, batch, player, step, gen):
        return Loss(self.w.sum())

    def sample(self, n, gen, condition=None):
        return self.decode(self.noise(n, gen))

    def noise(self, n, gen):
        if self.rng is not None:
            return torch.from_numpy(self.rng.randn(n, Z)).float()
        return torch.randn(n, Z, generator=gen)

    def decode(self, z):
        x = 0.02 * z @ self.w if self.linear else (0.3 * z @ self.w).sin()
        return x.view(-1, 3, 4, 4)


@pytest.mark.parametrize("mode", ["lerp", "slerp_any"])
@pytest.mark.parametrize("percentiles", [(None, None), (1, 99), (5, 90)])
def test_agrees_with_torch_fidelity(mode, percentiles, monkeypatch):
    import torch_fidelity
    from torch_fidelity import metric_ppl, registry
    from torch_fidelity.sample_similarity_base import SampleSimilarityBase

    class Distance(SampleSimilarityBase):
        def __init__(self, name, **kwargs):
            super().__init__(name)

        def forward(self, a, b):
            return PIXELS((a + 1) / 2, (b + 1) / 2)

    class OldNumpy:  # torch-fidelity asks np.percentile for `interpolation`, which NumPy 2.4 calls `method`
        def __getattr__(self, name):
            return getattr(np, name)

        def percentile(self, a, q, interpolation):
            return np.percentile(a, q, method=interpolation)

    monkeypatch.setattr(metric_ppl, "np", OldNumpy())
    monkeypatch.setattr(registry, "SAMPLE_SIMILARITY_REGISTRY", dict(registry.SAMPLE_SIMILARITY_REGISTRY))
    monkeypatch.setattr("torch_fidelity.utils.SAMPLE_SIMILARITY_REGISTRY", registry.SAMPLE_SIMILARITY_REGISTRY)
    torch_fidelity.register_sample_similarity("pixels", Distance)

    class Decoder(nn.Module):
        def forward(self, z):
            return Generator().decode(z)

    theirs = metric_ppl.calculate_ppl(
        1,
        input1=torch_fidelity.GenerativeModelModuleWrapper(Decoder(), Z, "normal", 0),
        input1_model_num_samples=300, batch_size=70, cuda=False, verbose=False, rng_seed=3,
        ppl_sample_similarity="pixels", ppl_epsilon=1e-2, ppl_z_interp_mode=mode, ppl_reduction="none",
        ppl_discard_percentile_lower=percentiles[0], ppl_discard_percentile_higher=percentiles[1],
    )  # fmt: skip
    ours = path_distances(
        Generator(rng=np.random.RandomState(3)), PIXELS, 300, epsilon=1e-2, mode=mode.removesuffix("_any"), batch=70
    )
    mean = perceptual_path_length(distances=ours, lower=percentiles[0] or 0, upper=percentiles[1] or 100)
    assert mean == pytest.approx(theirs["perceptual_path_length_mean"], rel=1e-6)
    if percentiles == (None, None):
        assert ours == pytest.approx(
            theirs["perceptual_path_length_raw"].astype(float), rel=1e-6 if mode == "lerp" else 1e-4
        )


def test_linear_generator_has_its_closed_form():
    """x = 0.02 z W in [-1, 1], half of it in [0, 1]: E |0.01 (z_1 - z_0) W|^2 = 2 |0.01 W|^2, whatever epsilon."""
    model = Generator(linear=True)
    expected = 2 * (0.01 * model.w.detach().double()).square().sum().item()
    for epsilon in (0.5, 1e-3):
        found = path_distances(model, PIXELS, 4000, epsilon=epsilon)
        error = found.std() / len(found) ** 0.5
        assert error < 0.02 * expected
        assert found.mean() == pytest.approx(expected, abs=4 * error)


def test_same_seed_same_distances_whatever_the_batch():
    model = Generator()
    first = path_distances(model, PIXELS, 60, seed=4, epsilon=1e-2)
    assert first.dtype == np.float64
    assert path_distances(model, PIXELS, 60, seed=4, epsilon=1e-2, batch=7) == pytest.approx(first, rel=1e-3)
    assert not np.array_equal(first, path_distances(model, PIXELS, 60, seed=5, epsilon=1e-2))


def test_slerp_moves_along_the_great_circle():
    a, b = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = (v / v.flatten(1).norm(dim=1).view(-1, 1, 1) for v in (a, b))
    c = slerp(a, b, 0.3)
    angle = (a * b).sum((1, 2)).acos()
    assert torch.allclose(c.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose((a * c).sum((1, 2)).acos(), 0.3 * angle)
    assert torch.allclose((b * c).sum((1, 2)).acos(), 0.7 * angle)
    assert torch.equal(slerp(a, a, 0.3), lerp(a, a, 0.3))


def test_percentiles_are_distances_that_occur():
    d = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    assert perceptual_path_length(distances=d, lower=0, upper=100) == 100.5
    assert perceptual_path_length(distances=d, lower=1, upper=99) == np.arange(2.0, 200.0).mean()  # ranks 1.99, 197.01
    d[d == 200] = 1e9
    assert perceptual_path_length(distances=d) == 100.5
    assert perceptual_path_length(distances=[3.0]) == 3.0


def test_interval_of_the_trimmed_mean_covers_its_population_value():
    """Exponential distances: the mean between percentiles 1 and 99 of the law."""
    low, high = -np.log(0.99), -np.log(0.01)
    true = ((low + 1) * np.exp(-low) - (high + 1) * np.exp(-high)) / 0.98
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        found = PPL.compute(distances=rng.exponential(size=500))
        hits += found.lo <= true <= found.hi
    assert hits / 600 == pytest.approx(0.95, abs=0.03)


def test_declaration():
    assert PPL.reads == PATHS
    assert PPL.abilities == ("Decodes",)
    assert PPL.protocol["paths"] == N_PATHS
    assert PPL.protocol["interpolation"] in MODES


def test_refusals():
    with pytest.raises(GenbenchError, match=r"mode='walk'; allowed: n of at least 1, .* mode lerp or slerp"):
        path_distances(Generator(), PIXELS, 5, mode="walk")
    with pytest.raises(GenbenchError, match="epsilon=0"):
        path_distances(Generator(), PIXELS, 5, epsilon=0)
    with pytest.raises(GenbenchError, match=r"found distances of shape \(0,\)"):
        perceptual_path_length(distances=[])
    with pytest.raises(GenbenchError, match="0 <= lower < upper <= 100"):
        perceptual_path_length(distances=[1.0], lower=99, upper=1)
    with pytest.raises(GenbenchError, match=r"percentiles 1\.\.100\.5; allowed"):
        perceptual_path_length(distances=[1.0], lower=1, upper=100.5)
    with pytest.raises(CellFailure, match="1 of 2 distances are not finite"):
        perceptual_path_length(distances=[1.0, np.inf])
