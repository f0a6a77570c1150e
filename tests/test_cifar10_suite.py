"""The CIFAR-10 suite: the papers' sizes, what it claims, and (slow) every cell tried on a small archive on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_weights import write_inception
from small_cifar10 import write_cifar10

from genbench.data.cifar10 import SHA256, SPEC
from genbench.features.weight_files import PUBLISHED_FILES
from genbench.options import override
from genbench.plan.planner import Plan, make_plan
from genbench.registry import resolve_model
from genbench.report.aggregate import boards
from genbench.report.claims import NOT_COMPARABLE, NOT_MEASURED, read_claims, verdicts
from genbench.runner.run import run
from genbench.sources.build import build
from genbench.suite.schema import Suite, read_suite

SUITE = Path(__file__).parent.parent / "suites" / "cifar10.yaml"
PARAMETERS = {
    "ddpm": 35_746_307,  # 35.7 M, Ho et al. 2020, section 4
    "edm": 53_634_563,  # 55.7 M with DDPM++'s blocks, Karras et al. 2022
    "flow_matching": 35_746_307,  # 35.7 M, Tong et al. 2024
    "mean_flow": 53_634_563,
    "pixelcnn": 53_653_920,
    "glow": 44_052_816,  # 44 M, Kingma and Dhariwal 2018
    "realnvp": 6_356_239,
    "dcgan": 1_732_224,
    "cgan": 1_874_880,
    "stylegan": 40_668_180,
    "gan": 7_634_689,
    "vae": 2_909_990,
    "latent_diffusion": 30_805_100,
}


def on_a_small_archive(folder: Path) -> Suite:
    """The suite as it is, but on an archive of 100 + 20 images."""
    archive, suite = write_cifar10(folder / "small.tar.gz"), folder / "cifar10.yaml"
    text = SUITE.read_text(encoding="utf-8")
    assert "dataset: {name: cifar10}" in text
    suite.write_text(text.replace("{name: cifar10}", f"{{name: cifar10, path: {archive.name}}}"), encoding="utf-8")
    return read_suite(suite)


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> tuple[Plan, Plan]:
    """The suite planned whole, and with --limit-images 256."""
    folder = tmp_path_factory.mktemp("cifar10")
    (folder / "inception.pth").write_bytes(b"not read to plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENBENCH_WEIGHTS", str(folder / "inception.pth"))
        suite = on_a_small_archive(folder)
        return make_plan(suite), make_plan(suite, limit_images=256)


def test_every_model_is_trained_and_scored_as_in_the_papers(plans):
    whole, _ = plans
    assert {cell.drawing.n for cell in whole.cells} == {50_000}
    assert {cell.extractor for cell in whole.cells} == {"inception-v3-compat"}
    assert whole.data.reference == "train"  # FID against the images of the train split, as the papers have it
    fits = {fit.label: fit for fit in whole.fits}
    assert set(fits) == set(PARAMETERS)
    ddpm = fits["ddpm"]
    assert (ddpm.images, ddpm.recipe.batch, ddpm.recipe.ema, ddpm.recipe.flip) == (800_000 * 128, 128, 0.9999, True)
    assert fits["realnvp"].recipe.ema == 0  # batch statistics of averaged weights are nobody's
    steps = [cell.source.sampler["steps"] for cell in whole.cells if cell.label.startswith("ddim")]
    assert steps == [10, 20, 50, 100]
    assert all(cell.source.fit.key == ddpm.key for cell in whole.cells if cell.label.startswith("ddim"))


@pytest.mark.parametrize("label", PARAMETERS)
def test_sizes(plans, label):
    network = next(cell.source.network for cell in plans[0].cells if cell.label == label)
    model = build(resolve_model(label), SPEC, network.config, network.sampler, 0)
    assert model.config == override(type(model).preset(SPEC), network.config)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[label]


def test_a_limited_run_asks_for_no_more_than_the_trial_says(plans):
    _, limited = plans
    assert {(cell.drawing.n, cell.facts.images, cell.facts.speed["batch"]) for cell in limited.cells} == {(10, 1, 1)}
    assert {(fit.images, fit.recipe.batch) for fit in limited.fits} == {(256, 32)}
    assert all(cell.drawing.block <= cell.drawing.n for cell in limited.cells)


def test_claims_ask_for_the_published_data_and_weights():
    claims = read_claims(SUITE)
    assert {c.model for c in claims} >= {"ddpm", "ddim-10", "ddim-100", "glow", "realnvp"}
    assert {c.model for c in claims if not c.protocol} == {"gan", "vae"}  # protocols that were not published whole
    assert all(c.protocol or c.differs for c in claims)
    for claim in (c for c in claims if c.protocol):
        assert claim.protocol["data"]["fingerprint"] == SHA256
        if claim.metric in ("fid", "is"):
            assert claim.protocol["features"]["extractor_weights"] == PUBLISHED_FILES["inception-v3-compat"].sha256
            assert claim.protocol["data"]["n_fake"] == 50_000
    published = {(c.model, c.metric): (c.value, c.kind) for c in claims}
    assert published["ddpm", "fid"] == (3.17, "")
    assert published["ddpm", "bits_per_dim"] == (3.75, "bound")
    assert published["glow", "bits_per_dim"] == (3.35, "density")


@pytest.mark.slow
def test_every_cell_with_few_images_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(write_inception(tmp_path / "inception.pth")))
    result = run(on_a_small_archive(tmp_path), out=tmp_path / "out", device="cpu", limit_images=64)
    assert [f"{r.cell} {r.metric}: {r.reason}" for r in result.failed] == []
    found = {(r.model, r.metric): r for r in result.records}
    assert {found[label, "fid"].n_fake for label in PARAMETERS} == {10}
    assert all(found[label, "parameters"].value == n for label, n in PARAMETERS.items())
    assert {found[label, "bits_per_dim"].status for label in ("ddpm", "glow", "realnvp", "vae")} == {"ok"}
    judged = verdicts(boards(list(result.records))[0], read_claims(tmp_path / "out" / "suite.yaml"))
    assert {verdict.word for verdict in judged} == {NOT_COMPARABLE}
    assert NOT_MEASURED not in (tmp_path / "out" / "leaderboard.md").read_text()
    assert "n_fake is 10, published with 50000" in (tmp_path / "out" / "leaderboard.html").read_text()
