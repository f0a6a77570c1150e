"""Several datasets, several extractors, grids, entries without a class; and the reference of all keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genbench
from genbench.errors import SuiteError
from genbench.plan.planner import make_plan
from genbench.records import column_name, metric_name
from genbench.suite.reference import explained, suite_reference
from genbench.suite.rules import SCALE_LABELS
from genbench.suite.schema import Suite, read_suite

ROOT = Path(__file__).parent.parent
SUITE = """suite: many
datasets:
  - {name: digits}
  - {name: digits, label: again}
features: [classifier, pixels]
samples: 20
budget: {images: 64}
models:
  - {name: gan, grid: {config.latent: [2, 3], train.lr: [0.001]}}
  - {label: narrow, weights_of: gan-latent2-lr0.001}
metrics: [kid, is, parameters]
"""


def suite(text: str, tmp_path: Path) -> Suite:
    (tmp_path / "s.yaml").write_text(text)
    return read_suite(tmp_path / "s.yaml")


def refusal(text: str, tmp_path: Path) -> str:
    with pytest.raises(SuiteError) as caught:
        make_plan(suite(text, tmp_path))
    return str(caught.value).replace(str(tmp_path), ".")


def test_a_grid_is_a_row_for_each_combination(tmp_path):
    found = suite(SUITE.replace("[0.001]", "[0.001, 0.01]"), tmp_path)
    rows = {e.label: (e.config, e.train.lr) for e in found.models if e.weights_of is None}
    assert rows == {f"gan-latent{k}-lr{lr}": ({"latent": k}, lr) for k in (2, 3) for lr in (0.001, 0.01)}


def test_an_entry_with_weights_of_and_label_has_the_class_of_the_other(tmp_path):
    narrow = suite(SUITE, tmp_path).models[-1]
    assert (narrow.name, narrow.label, narrow.weights_of) == ("gan", "narrow", "gan-latent2-lr0.001")
    own = SUITE.replace("name: gan,", "name: mine, source: ./m.py:Mine,").replace("gan-", "mine-")
    (tmp_path / "m.py").write_text("")
    assert suite(own, tmp_path).models[-1].source == "./m.py:Mine"


def test_each_dataset_has_its_rows_and_each_extractor_its_columns(tmp_path):
    plan = make_plan(suite(SUITE, tmp_path))
    assert plan.columns == ("kid@classifier", "kid@pixels", "is@classifier", "parameters")
    assert [data.name for data in plan.datasets] == ["digits", "again"]
    views = [c for c in plan.cells if c.id == "narrow/again/s0"]
    assert [[m.name for m in view.metrics] for view in views] == [
        ["kid@classifier", "is@classifier", "parameters"],
        ["kid@pixels"],  # pixels have no class probabilities, and the classifier has
    ]
    kid = {m.name: m.key for view in views for m in view.metrics if metric_name(m.name) == "kid"}
    assert len(set(kid.values())) == 2
    plain = make_plan(suite(SUITE.replace("[classifier, pixels]", "pixels").replace("is, ", ""), tmp_path))
    (cell,) = (c for c in plain.cells if c.id == "narrow/again/s0")
    assert cell.metrics[0].name == "kid"
    assert cell.metrics[0].key == kid["kid@pixels"]  # the same value as in a suite with one extractor
    assert len(plan.fits) == 2  # both datasets have the same images


def test_a_run_has_a_table_for_each_dataset_and_a_protocol_for_each_extractor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = "  - {name: digits}\n  - {name: edges, of: digits, label: lines}\n"
    small = SUITE.replace("  - {name: digits}\n  - {name: digits, label: again}\n", first).replace("[2, 3]", "[2]")
    result = genbench.run(suite(small.replace("[kid, is, parameters]", "[kid, parameters]"), tmp_path))
    assert not result.failed
    rows = {(r.dataset, r.metric): r for r in result.records if r.model == "narrow"}
    assert set(rows) == {(d, m) for d in ("digits", "lines") for m in ("kid@classifier", "kid@pixels", "parameters")}
    for (_, column), record in rows.items():
        extractor = record.protocol.get("features", {}).get("extractor")
        assert column == column_name(metric_name(column), {None: ""}.get(extractor, str(extractor).split("-")[-1]))
    assert (tmp_path / "reports/many/figures/samples-narrow-on-lines-s0.png").is_file()
    again = genbench.run("reports/many/suite.yaml", out="reports/many")
    assert again.measured == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label: again", "label: digits", "./s.yaml:4: datasets[1]: found 'digits' again, first at datasets[0]"),
        ("[classifier, pixels]", "[pixels, pixels]", "./s.yaml:5: features[1]: found 'pixels' again"),
        ("[classifier, pixels]", "[pixels, pixel]", "./s.yaml:5: features[1]: unknown features 'pixel'; did you mean"),
        ("datasets:", "dataset: {name: digits}\ndatasets:", "./s.yaml:2: dataset: not allowed together with datasets"),
        ("config.latent", "latent", "./s.yaml:9: models[0].grid.latent: unknown key, allowed: config.KEY, "),
        ("[0.001]", "[fast]", "./s.yaml:9: models[0].grid.train.lr: found 'fast' (str), allowed:"),
        ("[2, 3]", "[2, x]", "./s.yaml:9: models[0].config.latent: found 'x' (str), allowed:"),
        ("{label: narrow, ", "{", "./s.yaml:10: models[1]"),
        ("weights_of: gan-latent2-lr0.001", "weights_of: gan", "./s.yaml:10: models[1]"),
        ("[kid, is, parameters]", "[bits_per_dim]", "./s.yaml:11: metrics[0]: bits_per_dim: not available for any"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_at_their_place(tmp_path, old, new, message):
    found = refusal(SUITE.replace(old, new), tmp_path)
    assert found.startswith(message), found


def test_a_suite_without_data_says_what_is_missing(tmp_path):
    text = SUITE.replace("datasets:\n  - {name: digits}\n  - {name: digits, label: again}\n", "")
    assert refusal(text, tmp_path) == "./s.yaml:1: dataset: missing key, allowed: dataset or datasets"


# ---- the reference


def test_the_reference_is_current_and_explains_every_key():
    text = suite_reference()
    assert (ROOT / "docs" / "suite_reference.md").read_text() == text.rstrip() + "\n", "genbench schema --reference"
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    assert [row for row in rows if row.endswith("|  |")] == []
    assert "typing." not in text


def test_meanings_are_read_from_docstrings():
    about, keys = explained(
        "A row. Of a table.\n\n    name, label: what: it is\n    called. size: in pixels (default: 3)."
    )
    assert about == "A row. Of a table."
    assert keys == {"name": "what: it is called.", "label": "what: it is called.", "size": "in pixels (default: 3)."}


# ---- seeds of rows, and weights under a name of one's own


SEEDS = """suite: seeded
dataset: {name: digits}
seeds: [0, 1]
samples: 20
budget: {images: 64}
models:
  - {name: gan, grid: {config.latent: [2, 3], seed: [4, 5, 6]}}
  - {name: vae, seeds: [7]}
  - {name: realnvp}
metrics: [kid]
"""


def test_a_row_has_the_seeds_of_its_grid_else_its_own_else_the_suites(tmp_path):
    plan = make_plan(suite(SEEDS, tmp_path))
    found: dict[str, list[int]] = {}
    for cell in plan.cells:
        found.setdefault(cell.label, []).append(cell.seed)
    models = {label: seeds for label, seeds in found.items() if label not in SCALE_LABELS}
    assert models == {"gan-latent2": [4, 5, 6], "gan-latent3": [4, 5, 6], "vae": [7], "realnvp": [0, 1]}
    assert {cell.id for cell in plan.cells} == set(plan.rows)
    assert len(plan.fits) == 9
    chosen = make_plan(suite(SEEDS, tmp_path), seeds=[5, 7])
    assert [c.id for c in chosen.cells if c.source.ranked] == [
        "gan-latent2/digits/s5", "gan-latent3/digits/s5", "vae/digits/s7",
    ]  # fmt: skip
    with pytest.raises(SuiteError, match="--seeds: none of them is in the suite; allowed: 4, 5, 6, 7, 0, 1"):
        make_plan(suite(SEEDS, tmp_path), seeds=[9])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seed: [4, 5, 6]",
            "seed: [4, -1]",
            "./s.yaml:7: models[0].grid.seeds[1]: found -1 (int), allowed: an integer",
        ),
        ("seeds: [7]", "seeds: [7, 7]", "./s.yaml:8: models[1].seeds: found [7, 7], allowed: each seed once"),
        ("seed: [4, 5, 6]", "seed: []", "./s.yaml:7: models[0].grid.seed: found "),
    ],
)
def test_seeds_that_are_none_are_refused(tmp_path, old, new, message):
    found = refusal(SEEDS.replace(old, new), tmp_path)
    assert found.startswith(message), found


def test_an_entry_with_another_rows_weights_may_have_any_name(tmp_path):
    (tmp_path / "m.py").write_text("")
    text = SEEDS.replace("{name: realnvp}", '{name: mine, source: "./m.py:Mine"}\n  - {name: fast, weights_of: mine}')
    fast = suite(text, tmp_path).models[-1]
    assert (fast.name, fast.label, fast.source) == ("mine", "fast", "./m.py:Mine")
    stored = suite(text, tmp_path).model_dump(mode="json", exclude_unset=True)["models"][-1]
    assert stored == {"name": "mine", "label": "fast", "source": "./m.py:Mine", "weights_of": "mine"}
    own = suite(text.replace("name: fast", "name: ddim"), tmp_path).models[-1]
    assert (own.name, own.source) == ("ddim", None)  # a model of the zoo with these weights
    nearly = refusal(text.replace("name: fast", "name: ddmi"), tmp_path)
    assert "unknown model 'ddmi'; did you mean 'ddpm'?" in nearly
    assert nearly.endswith("; for a name of your own, label: ddmi in place of name")
    assert suite(text.replace("name: fast", "label: ddmi"), tmp_path).models[-1].label == "ddmi"


# ---- a model that does not fit one of the datasets

FITTING = """suite: sizes
datasets:
  - {name: digits}
  - {name: npz, path: ./odd.npz, label: odd}
features: pixels
samples: 20
budget: {images: 64}
models:
  - {name: glow}
  - {label: cold, weights_of: glow, sampler: {temperature: 0.5}}
  - {name: cgan}
  - {name: gan}
  - {name: theirs, samples: ./theirs.npz}
metrics: [kid, bits_per_dim]
"""


@pytest.fixture
def odd(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "odd.npz", images=rng.integers(0, 256, (80, 9, 7), np.uint8))
    np.savez(tmp_path / "theirs.npz", images=rng.integers(0, 17, (20, 8, 8), np.uint8))
    return tmp_path


def test_a_model_that_does_not_fit_a_dataset_is_na_there_with_the_reason(odd):
    plan = make_plan(suite(FITTING, odd))
    reasons = {c.id: {m.reason for m in c.metrics} for c in plan.cells if c.source.ranked}
    (glow,) = reasons["glow/odd/s0"]
    assert glow.startswith("Glow: ")
    assert "9x7" in glow or "sizes that work" in glow
    assert reasons["cold/odd/s0"] == {glow}
    assert reasons["cgan/odd/s0"] == {"CGAN is conditioned on classes; found dataset odd without labels"}
    (theirs,) = reasons["theirs/odd/s0"]
    assert theirs.endswith("images of (channels, height, width) (1, 8, 8), allowed: (1, 9, 7)")
    assert all("" in reasons[f"{name}/digits/s0"] for name in ("glow", "cold", "cgan", "theirs"))
    assert "" in reasons["gan/odd/s0"]
    assert {fit.label for fit in plan.fits if fit.fingerprint == plan.datasets[1].fingerprint} == {"gan"}
    family = {c.id: c.source.family for c in plan.cells}
    assert family["glow/odd/s0"] == family["glow/digits/s0"]


def test_a_model_that_fits_no_dataset_is_refused_as_with_one_dataset(odd):
    text = FITTING.replace("  - {name: digits}\n", "").replace("  - {name: theirs, samples: ./theirs.npz}\n", "")
    with pytest.raises(SuiteError, match=r"s.yaml:8: models\[0\]: Glow: .*sizes that work"):
        make_plan(suite(text.replace("  - {name: cgan}\n", ""), odd))
    with pytest.raises(SuiteError, match=r"s.yaml:9: models\[0\].config.*: unknown key"):
        make_plan(suite(FITTING.replace("{name: glow}", "{name: glow, config: {widht: 3}}"), odd))


def test_a_run_has_such_a_row_on_the_page(odd, monkeypatch):
    monkeypatch.chdir(odd)
    rows = "  - {name: cgan}\n  - {name: gan}\nmetrics: [kid]\n"
    result = genbench.run(suite(FITTING[: FITTING.index("  - {name: glow}")] + rows, odd))
    assert not result.failed
    records = {(r.model, r.dataset): r for r in result.records}
    assert records["cgan", "odd"].status == "n/a"
    assert records["cgan", "digits"].status == records["gan", "odd"].status == "ok"
    page = (odd / "reports/sizes/leaderboard.html").read_text()
    assert "is conditioned on classes; found dataset odd without labels" in page


# ---- an extractor that cannot be used with one of the datasets

TABLES = """suite: views
datasets: [{name: digits}, {name: npz, path: ./odd.npz, label: odd}]
features: [classifier, pixels]
samples: 200
models: [{name: gan}]
metrics: [kid, is]
"""


NO_CLASSIFIER = "features 'classifier': found dataset 'npz', allowed: digits, fashion-mnist; "
BESIDE = "`features: pixels` works with every dataset, and `features: [classifier, pixels]` with each of these datasets"
ODD = "dataset: {name: npz, path: ./odd.npz}"


def test_the_columns_of_an_extractor_are_na_where_it_cannot_be_used(odd):
    plan = make_plan(suite(TABLES, odd))
    planned = {(c.data.name, m.name): m.reason for c in plan.cells if c.label == "gan" for m in c.metrics}
    assert {at for at, why in planned.items() if not why} == {
        ("digits", "kid@classifier"), ("digits", "kid@pixels"), ("digits", "is@classifier"), ("odd", "kid@pixels"),
    }  # fmt: skip
    assert {at for at, why in planned.items() if why.startswith(NO_CLASSIFIER)} == {
        ("odd", "kid@classifier"), ("odd", "is@classifier"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("features", "data", "message"),
    [
        ("classifier", "", f"s.yaml:2: datasets[1]: odd: {NO_CLASSIFIER}{BESIDE}"),
        ("[classifier, pixels]", ODD, f"s.yaml:3: features[0]: {NO_CLASSIFIER}"),
        ("", ODD, f"s.yaml:2: dataset: {NO_CLASSIFIER}"),
    ],
)
def test_an_extractor_or_a_dataset_that_fits_nothing_is_refused(odd, features, data, message):
    text = TABLES.replace("features: [classifier, pixels]", f"features: {features}" if features else "")
    (odd / "s.yaml").write_text(text.replace(text.splitlines()[1], data) if data else text)
    with pytest.raises(SuiteError) as caught:
        make_plan(read_suite(odd / "s.yaml"))
    assert str(caught.value).removeprefix(f"{odd}/").startswith(message)


def test_nearest_train_images_are_shown_by_the_first_extractor_that_a_row_has(odd, monkeypatch):
    monkeypatch.chdir(odd)
    (odd / "pictures").mkdir()
    for number, levels in enumerate(np.random.default_rng(1).integers(0, 256, (300, 9, 7), np.uint8)):
        Image.fromarray(levels).save(odd / f"pictures/{number}.png")
    data = "{name: folder, path: ./pictures, label: odd, split: share, test_share: 0.4}"
    text = TABLES.replace("{name: npz, path: ./odd.npz, label: odd}", data)
    text = text.replace("[kid, is]", "[memorised]").replace("{name: gan}", "{name: gan, budget: {images: 256}}")
    assert not genbench.run(suite(text, odd)).failed
    figures = {path.name for path in (odd / "reports/views/figures").glob("neighbours-gan-*")}
    assert figures == {"neighbours-gan-on-digits-s0.png", "neighbours-gan-on-odd-s0.png"}
