import json
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from genbench import data, features, metrics
from genbench.builtin import MODEL_TABLE
from genbench.contract import Recipe
from genbench.errors import SuiteError
from genbench.options import override
from genbench.sources.scale import SCALE_ROWS
from genbench.suite.rules import SCALE_LABELS
from genbench.suite.schema import (
    ModelEntry,
    Suite,
    TrainEntry,
    check_suite_options,
    read_suite,
    suite_json_schema,
)

DIGITS = Path(__file__).parents[1] / "suites" / "digits.yaml"
NAME = Path("suites/x.yaml")
TEXT = """\
suite: digits
seeds: [0]
dataset: {name: digits}
models:
  - {name: vae}
  - name: ddpm
    config: {channels: 32}
  - {name: ddim, weights_of: ddpm}
metrics: [fid, kid]
"""
SUITE_KEYS = (
    "suite, version, seeds, dataset, datasets, features, extraction, budget, preset, samples, prompts, reference, "
    "precision, compile, block, likelihood_images, speed, trial, models, metrics"
)
MODEL_KEYS = (
    "name, label, source, config, train, sampler, weights, weights_of, samples, files, budget, preset, claims, "
    "seeds, grid"
)
TRAIN_KEYS = "lr, lrs, betas, batch, warmup, decay, clip, weight_decay, ema, flip, images"
METRICS = ", ".join(metrics.metric_names()) + ", or file.py:Object"
FEATURES = ", ".join(features.extractor_names()) + ", or file.py:Object"
DATASETS = (
    "digits, fashion-mnist, cifar10, mnist, cifar100, svhn, stl10, celeba, imagenet, edges, folder, domains, hf, npz, "
    "or file.py:Object"
)
ZOO = ", ".join(sorted(MODEL_TABLE)) + ", or file.py:Object"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()
    for name in ("theirs.npz", "flow.py", "w.safetensors", "w.pt"):
        Path("suites", name).touch()


def suite(old: str = "", new: str = "") -> Suite:
    assert old in TEXT
    NAME.write_text(TEXT.replace(old, new, 1))
    return read_suite(NAME)


def refusal(old: str, new: str) -> str:
    with pytest.raises(SuiteError) as caught:
        suite(old, new)
    return str(caught.value)


def minimal(**changes: Any) -> dict[str, Any]:
    return {"suite": "x", "dataset": {"name": "digits"}, "models": [{"name": "vae"}], "metrics": ["fid"], **changes}


def test_the_digits_suite_says_what_it_should() -> None:
    digits = read_suite(DIGITS)
    assert (digits.suite, digits.seeds, digits.samples) == ("digits", [0], 2000)
    labels = [entry.label for entry in digits.models]
    assert set(labels) >= {
        "gan",
        "dcgan",
        "cgan",
        "vae",
        "realnvp",
        "glow",
        "ddpm",
        "ddim",
        "stylegan",
        "latent_diffusion",
    }
    ddim = digits.models[labels.index("ddim")]
    assert (ddim.weights_of, ddim.sampler["steps"]) == ("ddpm", 16)
    assert set(digits.metrics) <= set(metrics.metric_names())
    assert digits.folder == DIGITS.parent


def test_defaults() -> None:
    found = Suite.model_validate(minimal())
    assert (found.version, found.seeds, found.features, found.budget, found.samples) == (
        1,
        [0],
        "classifier",
        None,
        2000,
    )
    assert (found.reference, found.precision, found.compile, found.block) == ("train", "fp32", False, 500)
    assert (found.likelihood_images, found.speed.batch, found.speed.seconds) == (None, 64, 3.0)
    assert (found.models[0].label, found.models[0].train.changes()) == ("vae", {})
    assert found.folder == Path()


def test_the_schema_completes_built_in_names_and_allows_others() -> None:
    schema = suite_json_schema()
    dataset = schema["$defs"]["DatasetEntry"]["properties"]
    named = (
        (schema["properties"]["metrics"]["items"], metrics.metric_names()),
        (schema["properties"]["features"], features.extractor_names()),
        (dataset["name"], data.names()),
    )
    for found, names in named:
        assert found["anyOf"][:2] == [{"enum": list(names)}, {"type": "string"}]
    assert {"name", "label", "of", "path", "size", "levels", "download", "captions", "direction"} <= set(dataset)


def test_train_has_the_fields_of_a_recipe() -> None:
    assert list(TrainEntry.model_fields) == [f.name for f in fields(Recipe)]


def test_train_changes_override_a_recipe() -> None:
    train = (
        suite("{name: vae}", "{name: vae, train: {lr: 1, lrs: {critic: 1e-4}, betas: [0, 0.9], flip: false}}")
        .models[0]
        .train
    )
    changed = override(Recipe(flip=True), train.changes())
    assert changed == Recipe(lr=1.0, lrs=(("critic", 1e-4),), betas=(0.0, 0.9), flip=False)


def test_reading_a_suite_is_light() -> None:
    heavy = ["torch", "numpy", "pandas", "sklearn", "scipy", "matplotlib"]
    read = (
        f"import sys, pathlib; from genbench.suite.schema import read_suite; read_suite(pathlib.Path({str(DIGITS)!r}))"
    )
    code = f"{read}; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # unknown and missing keys
        ("seeds", "sedes", f"2: sedes: unknown key; did you mean 'seeds'? allowed: {SUITE_KEYS}"),
        ("suite:", "siute:", f"1: siute: unknown key; did you mean 'suite'? allowed: {SUITE_KEYS} (and 1 more)"),
        ("name: vae", "name: vae, qqq: 3", f"5: models[0].qqq: unknown key; allowed: {MODEL_KEYS}"),
        ("config", "confg", f"7: models[1].confg: unknown key; did you mean 'config'? allowed: {MODEL_KEYS}"),
        (
            "name: vae",
            "name: vae, train: {warm_up: 3}",
            f"5: models[0].train.warm_up: unknown key; did you mean 'warmup'? allowed: {TRAIN_KEYS}",
        ),
        ("metrics: [fid, kid]", "", "1: metrics: missing key, allowed: a non-empty list of metric names"),
        # wrong types and values
        ("[0]", "a", "2: seeds: found 'a' (str), allowed: a non-empty list of integers, at least 0, below 2147483648"),
        ("[0]", "[]", "2: seeds: found [] (list), allowed: a non-empty list of integers, at least 0, below 2147483648"),
        (
            "[0]",
            "[x, -1]",
            "2: seeds[0]: found 'x' (str), allowed: an integer, at least 0, below 2147483648 (and 1 more)",
        ),
        ("seeds: [0]", "samples: true", "2: samples: found True (bool), allowed: an integer, at least 2"),
        ("seeds: [0]", "samples: 20.0", "2: samples: found 20.0 (float), allowed: an integer, at least 2"),
        ("seeds: [0]", "samples: 1", "2: samples: found 1 (int), allowed: an integer, at least 2"),
        ("seeds: [0]", "version:", "2: version: found nothing, allowed: an integer, at least 1"),
        ("seeds: [0]", "compile: 1", "2: compile: found 1 (int), allowed: true or false"),
        (  # which overflows in the decoder of a latent diffusion
            "seeds: [0]",
            "precision: fp16",
            "2: precision: found 'fp16' (str); did you mean 'bf16'? allowed: fp32, bf16, auto",
        ),
        (
            "seeds: [0]",
            "reference: tset",
            "2: reference: found 'tset' (str); did you mean 'test'? allowed: train, test",
        ),
        ("seeds: [0]", "budget: 3", "2: budget: found 3 (int), allowed: a mapping with keys images"),
        ("seeds: [0]", "budget: {images: 0}", "2: budget.images: found 0 (int), allowed: an integer, at least 1"),
        ("seeds: [0]", "speed: {seconds: .nan}", "2: speed.seconds: found nan (float), allowed: a number, above 0"),
        ("suite: digits", "suite: a/b", "1: suite: found 'a/b' (str), allowed: text of letters, digits, - and _"),
        (
            "{name: digits}",
            "digits",
            "3: dataset: found 'digits' (str); did you mean {name: digits}? allowed: a mapping with keys name, label, "
            "and options of the named object",
        ),
        (
            "{name: digits}",
            "[{name: digits}]",
            "3: dataset: found [{'name': 'digits'}] (list); did you mean `datasets:`? allowed: a mapping with keys "
            "name, label, and options of the named object",
        ),
        (
            "dataset: {name: digits}",
            "datasets: {name: digits}",
            "3: datasets: found {'name': 'digits'} (dict); did you mean `dataset:`? allowed: a list of mappings with "
            "keys name, label, and options of the named object",
        ),
        (
            "- {name: vae}",
            "- vae",
            f"5: models[0]: found 'vae' (str); did you mean {{name: vae}}? allowed: a mapping with keys {MODEL_KEYS}",
        ),
        # a key of another mapping
        (
            "seeds: [0]",
            "grid: {config.latent: [1]}",
            f"2: grid: unknown key; it is a key of models[]; allowed: {SUITE_KEYS}",
        ),
        ("seeds: [0]", "lr: 1", f"2: lr: unknown key; it is a key of models[].train; allowed: {SUITE_KEYS}"),
        (
            "name: vae",
            "name: vae, features: pixels",
            f"5: models[0].features: unknown key; it is a key of the suite; allowed: {MODEL_KEYS}",
        ),
        ("seeds: [0]", "seed: 0", f"2: seed: unknown key; did you mean 'seeds'? allowed: {SUITE_KEYS}"),
        ("32}", "32, 1.5: 2}", "7: models[1].config: found 1.5 as a key, allowed: text (put it in quotes)"),
        (
            "name: vae",
            "name: vae, train: {betas: 0.9}",
            "5: models[0].train.betas: found 0.9 (float), allowed: a list of two numbers, at least 0, below 1",
        ),
        (
            "name: vae",
            "name: vae, train: {decay: cos}",
            "5: models[0].train.decay: found 'cos' (str); did you mean 'cosine'? allowed: constant, cosine, linear",
        ),
        # unknown names
        (
            "name: vae",
            "name: vea",
            f"5: models[0].name: unknown model 'vea'; did you mean 'vae'? allowed: {ZOO}, or any with source",
        ),
        (
            "name: digits",
            "name: 8x8",
            f"3: dataset.name: unknown dataset '8x8'; allowed: {DATASETS}",
        ),
        ("kid]", "kdi]", f"9: metrics[1]: unknown metric 'kdi'; did you mean 'kid'? allowed: {METRICS}"),
        (
            "seeds: [0]",
            "features: inception",
            f"2: features: unknown features 'inception'; did you mean 'inception-v3-compat'? allowed: {FEATURES}",
        ),
        # given twice
        ("seeds: [0]", "seeds: [0]\nseeds: [1]", "3: seeds: duplicate key, first on line 2; allowed: once"),
        ("[0]", "[4, 4]", "2: seeds[1]: found 4 again, first at seeds[0]; allowed: once"),
        ("kid]", "fid]", "9: metrics[1]: found 'fid' again, first at metrics[0]; allowed: once"),
        (
            "name: vae",
            "name: ddpm",
            "6: models[1]: found 'ddpm' again, first at models[0]; allowed: once; give one of them a label",
        ),
        # the dataset's own keys
        ("name: digits", "name: digits, size: 32", "3: dataset.size: unknown key; allowed: name"),
        (
            "name: digits",
            "name: npz, path: theirs.npz, levls: 3",
            "3: dataset.levls: unknown key; did you mean 'levels'? allowed: name, path, levels",
        ),
        (
            "name: digits",
            "name: npz, path: theirs.npz, levels: 300",
            "3: dataset.levels: found 300 (int), allowed: an integer, at least 2, at most 256",
        ),
        ("name: digits", "name: edges, of: cats", "3: dataset.of: found 'cats' (str), allowed: digits, fashion-mnist"),
        ("name: digits", "name: folder", "3: dataset.path: missing key, allowed: a path"),
        ("name: digits", "name: my.py:SHAPES", "3: dataset.name: suites/my.py: not found"),
        ("name: digits", "name: npz, path: no.npz", "3: dataset.path: suites/no.npz: not found"),
        # what excludes what
        (
            "name: vae",
            "name: theirs, samples: theirs.npz, config: {a: 1}",
            "5: models[0].config: not allowed together with samples",
        ),
        (
            "name: vae",
            "name: vae, weights: w.safetensors, train: {lr: 1}",
            "5: models[0].train: not allowed together with weights",
        ),
        (
            "name: vae",
            "name: vae, weights: w.safetensors, weights_of: ddpm",
            "5: models[0].weights_of: not allowed together with weights",
        ),
        (
            "weights_of: ddpm",
            "weights_of: ddpm, budget: {images: 3}",
            "8: models[2].budget: not allowed together with weights_of",
        ),
        (
            "name: vae",
            "name: vae, budget: {images: 3}, train: {images: 4}",
            "5: models[0].train.images: not allowed together with budget, which sets the same value",
        ),
        # whose weights
        (
            "weights_of: ddpm",
            "weights_of: ddmp",
            "8: models[2].weights_of: found no model labelled 'ddmp'; did you mean 'ddpm'? allowed: vae, ddpm",
        ),
        (
            "weights_of: ddpm",
            "weights_of: ddim",
            "8: models[2].weights_of: 'ddim' has no weights of its own; allowed: vae, ddpm",
        ),
        (
            "{name: vae}",
            "{name: ddim, label: fast, weights_of: ddim}",
            "5: models[0].weights_of: 'ddim' has no weights of its own; allowed: ddpm",
        ),
        # files
        ("name: vae", "name: vae, weights: no.safetensors", "5: models[0].weights: suites/no.safetensors: not found"),
        (
            "name: vae",
            "name: vae, weights: {file: no.pt, key: ema}",
            "5: models[0].weights: suites/no.pt: not found",
        ),
        (
            "name: vae",
            "name: vae, weights: 3",
            "5: models[0].weights: found 3 (int), allowed: a path, or a mapping with keys file, key, strip",
        ),
        (
            "name: vae",
            "name: vae, weights: {file: w.pt, keys: ema}",
            "5: models[0].weights.keys: unknown key; did you mean 'key'? allowed: file, key, strip",
        ),
        (
            "name: vae",
            "name: theirs, samples: w.pt",
            "5: models[0].samples: suites/w.pt: found '.pt', allowed: .npz, .npy or a folder of pictures",
        ),
        ("name: vae", "name: m, source: no.py:Flow", "5: models[0].source: suites/no.py: not found"),
        (
            "name: vae",
            "name: m, source: flow.py",
            "5: models[0].source: found 'flow.py', allowed: module:Class, path/to/file.py:Class, or a file "
            "after one of command:, diffusers:, onnx:, torchscript:",
        ),
    ],
)
def test_refusals(old: str, new: str, message: str) -> None:
    assert refusal(old, new) == f"suites/x.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found an empty file, allowed: a mapping of keys to values"),
        ("~", f"found nothing, allowed: a mapping with keys {SUITE_KEYS}"),
        ("- 1", f"found [1] (list), allowed: a mapping with keys {SUITE_KEYS}"),
    ],
)
def test_files_that_are_no_mapping(text: str, found: str) -> None:
    NAME.write_text(text)
    with pytest.raises(SuiteError) as caught:
        read_suite(NAME)
    assert str(caught.value) == f"suites/x.yaml:1: {found}"


def test_missing_file() -> None:
    suite()
    with pytest.raises(SuiteError, match=r"^suites/xx\.yaml: not found; did you mean 'x\.yaml'\?$"):
        read_suite(Path("suites/xx.yaml"))


@pytest.mark.parametrize(
    "entry",
    [
        "{name: vae, label: big, config: {latent: 64}}",
        "{name: vae, weights: w.safetensors, sampler: {temperature: 0.7}}",
        "{name: mine, source: ./flow.py:Flow, budget: {images: 10}}",
        "{name: mine, source: somewhere.flows:Flow}",
        "{name: theirs, samples: theirs.npz}",
        "{name: theirs, samples: .}",
    ],
)
def test_entries_that_are_fine(entry: str) -> None:
    assert suite("{name: vae}", entry).models[0].name


def test_budget_is_the_most_specific_one() -> None:
    entries = [{"name": "vae", "budget": {"images": 1}}, {"name": "dcgan", "train": {"images": 2}}, {"name": "ddpm"}]
    found = Suite.model_validate(minimal(models=entries, budget={"images": 3}))
    assert [found.images(entry) for entry in found.models] == [1, 2, 3]
    assert Suite.model_validate(minimal()).images(ModelEntry(name="vae")) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {**minimal(), "models": [{"name": "vae", "levls": 3}]},
            f"models[0].levls: unknown key; did you mean 'label'? allowed: {MODEL_KEYS}",
        ),
        (
            {**minimal(), "models": [{"name": "vea"}]},
            f"models[0].name: unknown model 'vea'; did you mean 'vae'? allowed: {ZOO}, or any with source",
        ),
        ({**minimal(), 1: 2}, "suite: found 1 (int) as a key, allowed: text"),
        (
            minimal(models=[{"name": "vae", "config": {1: 2}}]),
            "models[0].config: found 1 (int) as a key, allowed: text",
        ),
        ([1], f"suite: found [1] (list), allowed: a mapping with keys {SUITE_KEYS}"),
    ],
)
def test_from_python_messages_have_no_file(value: Any, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        Suite.model_validate(value)
    assert str(caught.value) == message


def test_a_suite_validated_again_keeps_its_file() -> None:
    assert Suite.model_validate(suite()).folder == Path("suites")
    with pytest.raises(SuiteError, match=r"^models: missing key"):
        Suite(suite="x", dataset={"name": "digits"}, metrics=["fid"])


def test_later_code_can_refuse_with_file_and_line() -> None:
    error = suite().error(("models", 1, "config", "chanels"), "unknown key; allowed: channels")
    assert str(error) == "suites/x.yaml:7: models[1].config.chanels: unknown key; allowed: channels"


@dataclass(frozen=True)
class Options:
    channels: int = 32
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[float, float] = (0.0, 1.0)
    kind: Literal["linear", "cosine"] = "linear"
    either: int | tuple[int, ...] = 1
    learned: bool = False
    top: float | None = None


def test_options_come_back_ready_for_the_dataclass() -> None:
    given = {"rate": 1, "widths": [4, 8], "pair": [1, 2], "kind": "cosine", "either": [3], "top": None, "channels": 8}
    found = check_suite_options(suite(), ("models", 1, "config"), given, Options)
    assert Options(**found) == Options(8, 1.0, (4, 8), (1.0, 2.0), "cosine", (3,), False, None)
    assert list(found) == list(given)
    assert type(found["rate"]) is float


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"chanels": 3},
            ".chanels: unknown key; did you mean 'channels'? "
            "allowed: channels, rate, widths, pair, kind, either, learned, top",
        ),
        ({"channels": True}, ".channels: found True (bool), allowed: an integer"),
        ({"channels": 1.5}, ".channels: found 1.5 (float), allowed: an integer"),
        ({"channels": None}, ".channels: found nothing, allowed: an integer"),
        ({"rate": "high"}, ".rate: found 'high' (str), allowed: a number"),
        ({"rate": float("inf")}, ".rate: found inf (float), allowed: a number"),
        ({"widths": 3}, ".widths: found 3 (int), allowed: a list of integers"),
        ({"widths": [3, "a"]}, ".widths[1]: found 'a' (str), allowed: an integer"),
        ({"kind": "cos"}, ".kind: found 'cos' (str); did you mean 'cosine'? allowed: linear, cosine"),
        ({"either": "a"}, ".either: found 'a' (str), allowed: an integer or a list of integers"),
        ({"learned": 1}, ".learned: found 1 (int), allowed: true or false"),
        ({"top": "a"}, ".top: found 'a' (str), allowed: a number"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        check_suite_options(suite(), ("models", 1, "config"), options, Options)
    assert str(caught.value) == f"suites/x.yaml:7: models[1].config{message}"


def test_schema_is_plain_json_and_names_every_key() -> None:
    schema = json.loads(json.dumps(suite_json_schema()))
    assert ", ".join(schema["properties"]) == SUITE_KEYS
    assert ", ".join(schema["$defs"]["ModelEntry"]["properties"]) == MODEL_KEYS
    assert schema["additionalProperties"] is False


def outcome(text: str, path: Path) -> str:
    """What reading gives: the suite's name, or the message."""
    path.write_text(text, encoding="utf-8")
    try:
        return read_suite(path).suite
    except SuiteError as error:
        return str(error)


ODD = st.sampled_from(["vae", "ddpm", "digits", "~x", "a\0b", "a\nb", "../x", "x" * 300, "a.py:B", "fid"])
KEYS = st.sampled_from(f"{SUITE_KEYS}, {MODEL_KEYS}".split(", ")) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_suite_or_one_line(text: str) -> None:
    found = outcome(text, Path("fuzz.yaml"))
    assert found.startswith("fuzz.yaml:")
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x85", "\u2028", "\x1b[31m"])
def test_a_line_end_in_a_value_is_written_as_in_python(end):
    text = outcome(yaml.safe_dump(minimal(features=f"a{end}b")), Path("suite.yaml"))
    assert f"'a{ascii(end)[1:-1]}b'" in text
    assert text.isprintable()


@settings(deadline=None)
@given(st.sampled_from(SUITE_KEYS.split(", ")), VALUES)
def test_any_value_of_a_key_is_accepted_or_refused_in_one_line(key: str, value: Any) -> None:
    found = outcome(yaml.safe_dump(minimal(**{key: value}), allow_unicode=True), Path("fuzz.yaml"))
    assert len(found.splitlines()) == 1


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(MODEL_KEYS.split(", ")), VALUES))
def test_any_model_entry_is_accepted_or_refused_in_one_line(entry: dict[str, Any]) -> None:
    found = outcome(yaml.safe_dump(minimal(models=[{"name": "vae", **entry}])), Path("fuzz.yaml"))
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("gaussian",),
            "models[0].label: found 'gaussian', allowed: a label whose files differ from those of the scale",
        ),
        (("Gaussian",), "those of the scale row 'gaussian'"),
        (("held-out-real",), "those of the scale row 'held-out real'"),
        (("a", "A"), "models[1].label: found 'A', allowed: a label whose files differ from those of models[0], 'a'"),
        (("a_", "b", "A_"), "models[2].label: found 'A_'"),
    ],
)
def test_labels_that_would_share_files_are_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        Suite.model_validate(minimal(models=[{"name": "vae", "label": label} for label in labels]))
    assert message in str(caught.value)


def test_the_labels_that_are_taken_are_those_of_the_scale_rows() -> None:
    assert tuple(SCALE_ROWS) == SCALE_LABELS
