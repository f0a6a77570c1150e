"""An exception of a user's code becomes one printable line of bounded length."""

from __future__ import annotations

import pytest

from genbench.errors import CodeError
from genbench.reasons import LONGEST_REASON, explain
from genbench.surroundings import activity_of, restored


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(("error", "reason"), [
    (StopIteration(), "StopIteration"),
    (ValueError("one\ntwo\x1b[2J\ud800"), "ValueError: one two\ufffd[2J\ufffd"),
    (ValueError("x" * 10**6), f"ValueError: {'x' * LONGEST_REASON}"),
    (SilentError(), "SilentError: its text cannot be read"),
    (type("A\nB" * 10**5, (Exception,), {})(), ("A B" * 34)[:100]),
    (ExceptionGroup("planted", [KeyError("a")]), "ExceptionGroup: planted (1 sub-exception)"),
    (MemoryError("planted"), "out of memory: planted"),
])  # fmt: skip
def test_an_exception_is_one_line(error, reason):
    assert explain(error) == reason


def test_an_exception_keeps_what_the_code_did():
    with pytest.raises(StopIteration) as caught, restored("the outer"), restored("M was built"):
        raise StopIteration
    assert activity_of(caught.value) == "M was built"
    assert not activity_of(ValueError())


def test_what_ends_a_program_is_a_failure_with_its_text_and_place():
    with pytest.raises(CodeError, match=r"^SystemExit: 3 \(test_reasons\.py:\d+, in \w+\), while M was built$"):  # noqa: SIM117
        with restored("M was built"):
            raise SystemExit(3)
