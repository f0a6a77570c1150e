import pandas as pd
import pytest

from genbench.report.aggregate import Entry, boards, leaderboard
from genbench.report.tables import latex, markdown, merged, write_frame, written


@pytest.mark.parametrize(
    ("value", "lo", "hi", "text", "spread"),
    [
        (118.4451, 113.7, 123.19, "118.4", "± 4.7"),
        (-0.00041, -0.00102, 0.0002, "-0.00041", "± 0.00061"),
        (54131.7, 51966.0, 56297.0, "54,132", "± 2,166"),
        (0.5, 0.1, 0.6, "0.50", "0.10 to 0.60"),
        (2.4189, None, None, "2.419", ""),
        (1250000.0, None, None, "1,250,000", ""),
        (0.0, None, None, "0", ""),
        (-0.001, -0.5, 0.5, "0.00", "± 0.50"),
    ],
)
def test_numbers_are_written_to_the_digits_their_interval_supports(record, value, lo, hi, text, spread):
    entry = Entry("ok", record("a", "fid", value), value, lo, hi)
    assert (written(entry).value, written(entry).spread) == (text, spread)


def test_markdown_has_marks_kinds_footnotes_and_scale_rows(digits):
    lines = markdown(boards(digits)).splitlines()
    assert lines[2] == "| model | FID (digits-classifier) ↓ | KID ↓ | Bits/dim ↓ | Images/s ↑ |"
    assert "| gan | **31.0** ± 1.0 (1) | 0.0200 ± 0.0010 (2) | n/a[^1] | **52,000** ± 900 (1) |" in lines
    assert any(" ≤ᵈ 2.420 ± 0.020 (1) |" in line for line in lines)
    assert any(" ≤ 3.310 ± 0.010 (1) |" in line for line in lines)
    assert "[^1]: gan has no likelihood" in lines
    assert any(line.startswith("| *scale: real* | 6.20 ± 0.10 |") for line in lines)


def test_markdown_escapes_what_records_say(digits):
    text = markdown(boards(digits))
    assert "<script>" not in text.replace("\\<", "")
    assert r"\<script\>alert('x')\</script\>\|\_" in text


def test_latex_is_a_booktabs_table_with_escaped_names(digits):
    text = latex(boards(digits))
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"gan & $\mathbf{31.0} \pm 1.0$ & $0.0200 \pm 0.0010$ & n/a & $\mathbf{52{,}000} \pm 900$ \\" in text
    assert r"$\le^{\mathrm{d}} 2.420 \pm 0.020$" in text
    assert r"$\le 3.310 \pm 0.010$" in text
    assert r"\textless{}script\textgreater{}alert('x')" in text
    assert text.count(r"\midrule") == 2
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {4}


def test_csv_is_empty_where_there_is_no_value_and_parquet_is_the_same(digits, tmp_path):
    csv, parquet = write_frame(tmp_path, leaderboard(digits))
    row = next(line for line in csv.read_text().splitlines() if line.startswith("gan,"))
    assert ",,,,," in row
    texts = ("fid_kind", "kid_kind", "images_per_second_kind", "busy")
    frame = pd.read_csv(csv, dtype=dict.fromkeys(texts, "string"))
    pd.testing.assert_frame_equal(frame, pd.read_parquet(parquet), check_dtype=False)


def test_intervals_that_differ_in_numbers_alone_are_told_once():
    texts = ["slowest to fastest of 9 repeats", "slowest to fastest of 31 repeats", "bootstrap 95 %"]
    assert merged(texts) == ["bootstrap 95 %", "slowest to fastest of 9 to 31 repeats"]
