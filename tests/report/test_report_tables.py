import shutil
import subprocess

import pandas as pd
import pytest

from genbench.errors import GenbenchError
from genbench.metrics import metric_names
from genbench.records import write_records
from genbench.report import render
from genbench.report.aggregate import Entry, boards, leaderboard
from genbench.report.data_files import scores, write_frame
from genbench.report.groups import group_of
from genbench.report.latex import latex
from genbench.report.markdown import markdown
from genbench.report.parts import parts
from genbench.report.tables import merged, written


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
    assert lines[2].startswith("flow and gan share the lowest FID")
    assert lines[4] == "| model | FID (digits-classifier) ↓ | KID ↓ | Bits/dim ↓ | Images/s ↑ |"
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
    assert r"gan & $\mathbf{31.0} \pm 1.0\,^{(1)}$ & $0.0200 \pm 0.0010\,^{(2)}$ & n/a &" in text
    assert r"& n/a & $\mathbf{52{,}000} \pm 900\,^{(1)}$ \\" in text
    assert r"$\le^{\mathrm{d}} 2.420 \pm 0.020\,^{(1)}$" in text
    assert r"$\le 3.310 \pm 0.010\,^{(1)}$" in text
    assert r"\textless{}script\textgreater{}alert('x')" in text
    assert text.count("\n\\midrule") == 2
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {line.count(" & ") for line in body} == {4}


def test_csv_is_empty_where_there_is_no_value_and_parquet_is_the_same(digits, tmp_path):
    csv, parquet = write_frame(tmp_path, "leaderboard", leaderboard(digits))
    row = next(line for line in csv.read_text().splitlines() if line.startswith("gan,"))
    assert ",,,,," in row
    texts = ("fid_kind", "kid_kind", "images_per_second_kind", "busy")
    frame = pd.read_csv(csv, dtype=dict.fromkeys(texts, "string"))
    pd.testing.assert_frame_equal(frame, pd.read_parquet(parquet), check_dtype=False)


def test_intervals_that_differ_in_numbers_alone_are_told_once():
    texts = ["slowest to fastest of 9 repeats", "slowest to fastest of 31 repeats", "bootstrap 95 %"]
    assert merged(texts) == ["bootstrap 95 %", "slowest to fastest of 9 to 31 repeats"]


def wide(record, count=30):
    names = ("fid", "kid", "precision", "recall", "memorised", "bits_per_dim", "images_per_second", "coverage", "vendi")
    more = [f"plugin_{i}" for i in range(count - len(names))]
    return [record(m, n, 0.1 + i + j, half=0.1) for i, m in enumerate("abc") for j, n in enumerate([*names, *more])]


def test_no_table_has_more_than_eight_columns_and_none_is_lost(record):
    board = boards(wide(record))[0]
    found = parts(board)
    assert max(len(p.board.columns) for p in found) <= 8
    assert sorted(c.metric for p in found for c in p.board.columns) == sorted(c.metric for c in board.columns)
    assert [p.group for p in found][:2] == ["", "diversity"]
    tables = [line for line in markdown([board]).splitlines() if line.startswith("| model")]
    assert max(line.count("|") for line in tables) <= 10


def test_every_metric_that_genbench_ships_has_a_group():
    assert [m for m in metric_names() if group_of(m) == "other"] == []
    assert group_of("plugin") == "other"


def test_columns_are_chosen_in_the_order_asked_for(record, tmp_path):
    write_records(tmp_path / "records.jsonl", wide(record))
    render(tmp_path, columns=("recall", "fid"))
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| model | Recall ↑ | FID (digits-classifier) ↓ |" in text
    assert "KID" not in text
    with pytest.raises(GenbenchError, match=r"--columns: unknown 'recal'; did you mean 'recall'\? allowed: fid, kid"):
        render(tmp_path, columns=("recal",))


def test_tidy_scores_have_one_row_for_each_measurement_and_tell_failed_from_not_applicable(digits, tmp_path):
    frame = scores(digits)
    assert len(frame) == len(digits)
    assert not frame.duplicated(["dataset", "model", "seed", "metric"]).any()
    gan = frame[(frame.model == "gan") & (frame.metric == "bits_per_dim")].iloc[0]
    assert (gan.status, gan.reason, pd.isna(gan.value)) == ("n/a", "gan has no likelihood", True)
    assert set(frame[frame.status == "failed"].reason) == {"loss is NaN <img src=x onerror=alert(1)>"}
    _, parquet = write_frame(tmp_path, "scores", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame)


def test_the_wide_table_has_the_order_of_the_page(digits):
    assert leaderboard(digits)["model"].tolist()[:3] == ["flow", "gan", "vae"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("case", ["digits", "wide", "hostile", "input"])
def test_the_tex_file_compiles_and_fits_the_page(digits, record, tmp_path, case):
    hostile = [
        record(m, "fid", 1.0, half=0.1) for m in ('\\x{&%$#_}~^<>|"', "\u5f62", "\U0001f600", "caf\u00e9", "\u202e")
    ]
    records = {"digits": digits, "wide": wide(record), "hostile": hostile, "input": digits}[case]
    write_records(tmp_path / "records.jsonl", records)
    render(tmp_path)
    name = "leaderboard"
    if case == "input":
        name = "paper"
        (tmp_path / "paper.tex").write_text(
            r"\documentclass{article}\begin{document}A\input{leaderboard}B\end{document}"
        )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
    if case != "input":
        assert "Overfull \\hbox" not in done.stdout
