"""Statistics files: genbench's are read by other tools, and other tools' by genbench."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import blots, write_inception
from scipy.linalg import sqrtm
from typer.testing import CliRunner

from genbench.cli import app
from genbench.commands.stats import write_reference
from genbench.errors import DataError, GenbenchError
from genbench.evaluate.score import score
from genbench.evaluate.statistics import mean_and_covariance, read_statistics, root_of

INCEPTION = "inception-v3-compat"
GEN = np.random.default_rng(0)
REAL = GEN.integers(0, 256, (90, 1, 5, 5), dtype=np.uint8)
FAKE = GEN.integers(0, 200, (60, 1, 5, 5), dtype=np.uint8)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    np.savez(tmp_path / "real.npz", images=REAL)
    np.savez(tmp_path / "fake.npz", images=FAKE)
    return tmp_path


def by_hand(fake: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> float:
    """As pytorch-fid's calculate_frechet_distance, on pixels in [0, 1]."""
    own, cov = mean_and_covariance(fake.reshape(len(fake), -1) / 255)
    root = np.real(np.trace(sqrtm(cov @ sigma)))
    return float(np.square(own - mu).sum() + np.trace(cov) + np.trace(sigma) - 2 * root)


def test_the_distance_to_statistics_is_the_distance_to_the_images(sets):
    line = write_reference(str(sets / "real.npz"), sets / "ref.npz", "pixels", None, "cpu", "", False)
    assert line.endswith("mean and covariance of 25 features of 90 images (pixels)")
    images = score(fake=sets / "fake.npz", reference=sets / "real.npz", features="pixels", metrics=["fid"])
    statistics = score(fake=sets / "fake.npz", reference=sets / "ref.npz", metrics=["fid"])
    assert statistics.values["fid"] == pytest.approx(images.values["fid"], rel=1e-6)
    (a,), (b,) = images.records, statistics.records
    assert (b.lo, b.hi) == pytest.approx((a.lo, a.hi), rel=1e-6)
    assert (b.n_fake, b.n_real, b.interval) == (60, 90, a.interval)
    assert b.protocol["features"] == a.protocol["features"]


def test_the_file_has_the_arrays_that_other_tools_read(sets):
    write_reference(str(sets / "real.npz"), sets / "ref.npz", "pixels", None, "cpu", "", False)
    with np.load(sets / "ref.npz") as arrays:  # as pytorch-fid does
        mu, sigma = arrays["mu"][:], arrays["sigma"][:]
    assert (mu.shape, sigma.shape, mu.dtype, sigma.dtype) == ((25,), (25, 25), np.float64, np.float64)
    rows = (REAL.reshape(90, -1) / 255).astype(np.float32).astype(np.float64)
    assert np.allclose(mu, rows.mean(0), atol=1e-7)
    assert np.allclose(sigma, np.cov(rows, rowvar=False), atol=1e-7)


def theirs(path: Path, **more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mu, sigma = mean_and_covariance(REAL.reshape(90, -1) / 255)
    np.savez(path, mu=mu, sigma=sigma, **more)
    return mu, sigma


def test_a_file_of_another_tool_gives_its_distance(sets):
    mu, sigma = theirs(sets / "ref.npz")
    found = score(
        fake=sets / "fake.npz", reference=sets / "ref.npz", metrics=["fid"], reference_extractor="pixels",
        reference_count=90,
    )  # fmt: skip
    assert found.values["fid"] == pytest.approx(by_hand(FAKE, mu, sigma), rel=1e-5)
    assert found.records[0].n_real == 90


def test_the_images_beside_statistics_are_not_the_reference(sets):
    """guided-diffusion's files hold some of the images only."""
    mu, sigma = theirs(sets / "ref.npz", arr_0=FAKE.transpose(0, 2, 3, 1))
    found = score(
        fake=sets / "fake.npz", reference=sets / "ref.npz", metrics=["fid", "kid", "sfid"],
        reference_extractor="pixels", reference_count=90,
    )  # fmt: skip
    assert found.values == pytest.approx({"fid": by_hand(FAKE, mu, sigma)}, rel=1e-5)
    reasons = {r.metric: r.reason for r in found.records if r.status == "n/a"}
    assert reasons == {
        "kid": "needs images of the reference; ref.npz holds their mean and covariance",
        "sfid": "needs mu_s and sigma_s, which ref.npz does not hold",
    }


def test_what_the_file_does_not_state_is_asked_for(sets):
    theirs(sets / "ref.npz")
    with pytest.raises(GenbenchError, match=r"ref\.npz: does not state the extractor of its 25 features; give --ref"):
        score(fake=sets / "fake.npz", reference=sets / "ref.npz")
    with pytest.raises(GenbenchError, match="does not state how many images it is of; give --reference-count"):
        score(fake=sets / "fake.npz", reference=sets / "ref.npz", reference_extractor="pixels")


def test_statistics_of_other_features_are_a_failure_with_both_sizes(sets):
    np.savez(sets / "ref.npz", mu=np.zeros(7), sigma=np.eye(7))
    found = score(
        fake=sets / "fake.npz", reference=sets / "ref.npz", metrics=["fid"], reference_extractor="pixels",
        reference_count=9,
    )  # fmt: skip
    assert found.records[0].status == "failed"
    assert "fake has 25 features a row and the reference 7" in found.records[0].reason


@pytest.mark.parametrize(
    ("mu", "sigma", "words"),
    [
        (np.zeros((1, 4)), np.eye(4), r"mu \(1, 4\) and sigma \(4, 4\), allowed: \(D,\) and \(D, D\)"),
        (np.zeros(4), np.eye(3), r"mu \(4,\) and sigma \(3, 3\)"),
        (np.full(4, np.nan), np.eye(4), "mu holds numbers that are not finite"),
    ],
)
def test_damaged_statistics_are_refused(tmp_path, mu, sigma, words):
    np.savez(tmp_path / "ref.npz", mu=mu, sigma=sigma)
    with pytest.raises(DataError, match=words):
        read_statistics(tmp_path / "ref.npz")


def test_a_pickle_is_not_read(tmp_path):
    (tmp_path / "ref.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="a pickle, which can run code"):
        read_statistics(tmp_path / "ref.pkl")


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.triu(np.ones((3, 3))), "not finite or not symmetric"),
        (np.diag([1.0, np.inf, 1.0]), "not finite or not symmetric"),
        (np.diag([1.0, -0.5, 1.0]), "smallest eigenvalue is -0.5"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(matrix, words):
    with pytest.raises(DataError, match=words):
        root_of(matrix, "sigma")


def test_the_root_of_a_singular_covariance():
    rows = GEN.normal(size=(4, 9))
    covariance = np.cov(rows, rowvar=False)
    root = root_of(covariance, "sigma")
    assert np.allclose(root.T @ root, covariance)


def test_the_command_writes_the_file(sets):
    arguments = ["stats", str(sets / "real.npz"), "--out", str(sets / "new" / "ref.npz"), "--features", "pixels"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    statistics = read_statistics(sets / "new" / "ref.npz")
    assert statistics.origin["count"] == 90
    assert statistics.origin["extractor"] == "pixels"


def test_spatial_statistics_of_a_dataset_give_its_sfid(tmp_path):
    write_reference("digits", tmp_path / "digits.npz", "classifier", None, "cpu", "", False)
    names = ["fid", "sfid"]
    images = score(fake="digits:test", reference="digits", features="classifier", metrics=names)
    statistics = score(fake="digits:test", reference=tmp_path / "digits.npz", metrics=names)
    assert statistics.values == pytest.approx(images.values, rel=1e-5)
    assert set(images.values) == set(names)


@pytest.mark.filterwarnings("ignore")  # by SciPy, of pytorch-fid
def test_pytorch_fid_computes_the_same_distance_from_the_files(sets):
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    for name in ("real", "fake"):
        write_reference(str(sets / f"{name}.npz"), sets / f"{name}-stats.npz", "pixels", None, "cpu", "", False)
    read = (
        fid_score.compute_statistics_of_path(str(sets / f"{n}-stats.npz"), None, 1, 25, "cpu") for n in ("fake", "real")
    )
    (mu, sigma), (of_real, cov) = read
    theirs_ = fid_score.calculate_frechet_distance(mu, sigma, of_real, cov)
    found = score(fake=sets / "fake.npz", reference=sets / "real-stats.npz", metrics=["fid"])
    assert found.values["fid"] == pytest.approx(theirs_, rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # by SciPy, of pytorch-fid, which computes the root of a singular matrix
def test_pytorch_fid_reads_and_writes_the_same_statistics(tmp_path, monkeypatch):
    """pytorch-fid on the same random Inception; images of its input size, as it resizes otherwise.

    It scales pixels as x / 127.5 - 1, and torch-fidelity and genbench as (x - 128) / 128: hence the tolerances.
    """
    inception, fid_score = (pytest.importorskip(f"pytorch_fid.{name}") for name in ("inception", "fid_score"))
    weights = write_inception(tmp_path / "random.pth")
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    sets = {name: blots(6, seed, side=299, channels=3) for name, seed in (("fake", 1), ("real", 2))}
    for name, pixels in sets.items():
        np.savez(tmp_path / f"{name}.npz", images=pixels.numpy())
        (tmp_path / name).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    write_reference(str(tmp_path / "real.npz"), tmp_path / "ours.npz", INCEPTION, weights, "cpu", "", False)
    fid_score.save_fid_stats([str(tmp_path / "real"), str(tmp_path / "theirs.npz")], 2, "cpu", 2048, num_workers=0)
    with np.load(tmp_path / "ours.npz") as ours, np.load(tmp_path / "theirs.npz") as theirs_:
        scale = np.abs(theirs_["mu"]).max()
        assert np.abs(ours["mu"] - theirs_["mu"]).max() < 1e-3 * scale
        assert np.abs(ours["sigma"] - theirs_["sigma"]).max() < 1e-3 * scale**2
    options = {"weights": weights, "metrics": ["fid"], "fake": tmp_path / "fake.npz"}
    by_genbench = score(reference=tmp_path / "ours.npz", **options).values["fid"]
    of_theirs = score(
        reference=tmp_path / "theirs.npz", reference_extractor=INCEPTION, reference_count=6, **options
    ).values["fid"]
    paths = [[str(tmp_path / "fake"), str(tmp_path / name)] for name in ("real", "ours.npz", "theirs.npz")]
    by_pytorch_fid = [fid_score.calculate_fid_given_paths(p, 2, "cpu", 2048, num_workers=0) for p in paths]
    assert [of_theirs, *by_pytorch_fid] == pytest.approx([by_genbench] * 4, rel=0.05)  # roots of singular matrices
