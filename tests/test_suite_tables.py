"""Several datasets, several extractors, grids, entries without a class; and the reference of all keys."""

from __future__ import annotations

from pathlib import Path

import pytest

import genbench
from genbench.errors import SuiteError
from genbench.plan.planner import make_plan
from genbench.records import column_name, metric_name
from genbench.suite.reference import explained, suite_reference
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
        ("config.latent", "latent", "./s.yaml:9: models[0].grid.latent"),
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
