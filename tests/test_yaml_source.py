from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from genbench.errors import SuiteError
from genbench.options import choice
from genbench.suite.yaml_source import EXPONENT, SuiteSource, parse, read_source, spell

NAME = Path("suites/x.yaml")

TEXTS = st.text().filter(lambda text: not EXPONENT.match(text))  # safe_dump leaves '1e5' without quotes
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def refusal(text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        parse(text, NAME)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("150_000", 150_000),
        ("1e-3", 1e-3),
        ("1.5E+3", 1500.0),
        ("-2e4", -2e4),
        (".5", 0.5),
        ("2024-01-31", "2024-01-31"),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("no", False),
        ("~", None),
        ("{b: &x {p: 1}, c: *x}", {"b": {"p": 1}, "c": {"p": 1}}),
        ("{a: &x {p: 1, q: 2}, b: {<<: *x, q: 3}}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
    ],
)
def test_values(text: str, value: object) -> None:
    found = parse(f"key: {text}", NAME).data["key"]
    assert found == value
    assert type(found) is type(value)


@settings(deadline=None)
@given(PLAIN)
def test_reads_what_safe_dump_writes(data: object) -> None:
    assert parse(yaml.safe_dump({"key": data}), NAME).data == {"key": data}


TEXT = """\
suite: x
models:
  - {name: a, config: {
      levels: 3}}
  - name: &b b
    train:
      lr: 1
base: &base {p: 1,
  q: 2}
derived:
  <<: *base
  q: 3
again: *base
"""


@pytest.mark.parametrize(
    ("loc", "place"),
    [
        (("suite",), "suites/x.yaml:1: suite"),
        (("models",), "suites/x.yaml:2: models"),
        (("models", 0), "suites/x.yaml:3: models[0]"),
        (("models", 0, "config", "levels"), "suites/x.yaml:4: models[0].config.levels"),
        (("models", 1, "train", "lr"), "suites/x.yaml:7: models[1].train.lr"),
        (("models", 1, "train", "absent"), "suites/x.yaml:6: models[1].train.absent"),
        (("derived", "p"), "suites/x.yaml:8: derived.p"),
        (("derived", "q"), "suites/x.yaml:12: derived.q"),
        (("again",), "suites/x.yaml:13: again"),
        (("again", "q"), "suites/x.yaml:9: again.q"),
        ((), "suites/x.yaml:1"),
    ],
)
def test_line_of_every_key(loc: tuple[str | int, ...], place: str) -> None:
    assert parse(TEXT, NAME).where(loc) == place


def test_without_a_file_messages_start_with_the_key() -> None:
    assert SuiteSource().where(("models", 2, "levls")) == "models[2].levls"
    assert (
        str(SuiteSource().error([(("a",), "wrong"), (("b",), "wrong"), (("c",), "wrong")])) == "a: wrong (and 2 more)"
    )


def test_spelling() -> None:
    assert spell(("models", 2, "config", "a b")) == "models[2].config.a b"
    assert spell(("a\nb",)) == r"'a\nb'"
    assert choice("levls", ["name", "levels"]) == "; did you mean 'levels'? allowed: name, levels"
    assert choice("zzz", ["name", "levels"]) == "; allowed: name, levels"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "suites/x.yaml:3: a: duplicate key, first on line 1; allowed: once"),
        (
            "m:\n  - {x: 1}\n  - x: 1\n    x: 2\n",
            "suites/x.yaml:4: m[1].x: duplicate key, first on line 3; allowed: once",
        ),
        ("", "suites/x.yaml:1: found an empty file, allowed: a mapping of keys to values"),
        ("# nothing\n", "suites/x.yaml:1: found an empty file, allowed: a mapping of keys to values"),
        (
            "a: 1\nb: [1,\nc: 2\n",
            "suites/x.yaml:4: not valid YAML: while parsing a flow sequence begun on line 2, expected ',' or ']', "
            "but got '<stream end>'",
        ),
        ("a: b: c", "suites/x.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: *b", "suites/x.yaml:1: not valid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 1", None),
        ("a: !!python/name:os.system x", "suites/x.yaml:1: found a tag, allowed: plain values"),
        ("a: 1\nb: !!set {c}", "suites/x.yaml:2: found a tag, allowed: plain values"),
        ("a: &x [*x]", "suites/x.yaml:1: a[0]: found an anchor that contains itself, allowed: plain values"),
        ("a: 1\nb: &x {<<: *x}", None),
        ("a:\n  1: 2", "suites/x.yaml:2: a: found 1 as a key, allowed: text (put it in quotes)"),
        ("on: 2", "suites/x.yaml:1: found on as a key, allowed: text (put it in quotes)"),
        ("? \n: 2", "suites/x.yaml:1: found nothing as a key, allowed: text (put it in quotes)"),
        ("? [a]\n: 1", "suites/x.yaml:1: found a sequence as a key, allowed: text (put it in quotes)"),
        ("a: 0x_", "suites/x.yaml:1: found 0x_, allowed: an integer of at most 64 bits"),
        (
            "a: " + "9" * 5000,
            "suites/x.yaml:1: found 99999999999999999999, allowed: an integer of at most 64 bits",
        ),
        ("a: 1\nb: \x07", "suites/x.yaml:2: found character U+0007, allowed: printable text"),
        ("[" * 5000, "suites/x.yaml:1: found more than 50 levels of nesting, allowed: fewer"),
        ("a: =", None),
        ("a: <<", None),
        ("<<: 3", None),
    ],
)
def test_refusals(text: str, message: str | None) -> None:
    found = refusal(text)
    assert found.startswith("suites/x.yaml:")
    assert len(found.splitlines()) == 1
    assert message in (None, found)


def test_what_is_not_a_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()
    Path("suites/digits.yaml").write_text("suite: x\n")
    Path("suites/latin.yaml").write_bytes("a: 1\nb: é\n".encode("latin-1"))
    messages = {
        "suites/digit.yaml": "suites/digit.yaml: not found; did you mean 'digits.yaml'?",
        "nowhere/x.yaml": "nowhere/x.yaml: not found",
        "suites": "suites: found a folder, allowed: a YAML file",
        "suites/latin.yaml": "suites/latin.yaml:2: found a byte that is not UTF-8, allowed: UTF-8 text",
        "a" * 300: f"{'a' * 300}: cannot be read: File name too long",
    }
    for name, message in messages.items():
        with pytest.raises(SuiteError) as caught:
            read_source(Path(name))
        assert str(caught.value) == message


def test_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfsuite: x\n")
    assert read_source(path).data == {"suite": "x"}


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*<!?#|>'\"%@`,. \n\t01_exo=~\\"), max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    found = outcome(text)
    assert found.startswith("suites/x.yaml:")
    assert len(found.splitlines()) == 1


def outcome(text: str) -> str:
    try:
        return parse(text, NAME).where(())
    except SuiteError as error:
        return str(error)
