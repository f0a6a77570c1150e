import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from genbench.errors import StoreError
from genbench.records import slug, write_records
from genbench.report import render
from genbench.report.grids import save_grid

VOID = {"meta", "img", "source", "br", "input", "path", "line"}


class Page(HTMLParser):
    """Tags with their attributes, the text outside style and script, and what was never closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def result(digits, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("result")
    write_records(tmp_path / "records.jsonl", digits)
    environment = {"processor": "A <fast> one", "cores": 2, "finished": "2026-01-02", "packages": {"torch": "2.15.0"}}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    (tmp_path / "suite.yaml").write_text("suite: digits # </pre><script>alert(2)</script>\n")
    (tmp_path / "curves").mkdir()
    rows = "".join(f"{t},{t * 100},{t},{n},{1 / (t + 1)}\n" for t in range(60) for n in ("$a_", "b"))
    (tmp_path / "curves" / "vae-s0.csv").write_text("step,images,seconds,name,value\n" + rows)
    for label in ("real", "vae"):
        save_grid(np.zeros((4, 1, 8, 8), dtype=np.uint8), 17, tmp_path / "figures" / f"samples-{label}-s0.png")
    return tmp_path


@pytest.fixture(scope="module")
def html(result):
    render(result)
    return (result / "leaderboard.html").read_text(encoding="utf-8")


def test_render_writes_everything_it_returns(result):
    names = {str(p.relative_to(result)) for p in render(result)[0]}
    assert names >= {f"leaderboard.{end}" for end in ("csv", "parquet", "md", "tex", "html")}
    assert names >= {"figures/quality-cost.svg", "scores.csv", "scores.parquet"}
    assert all((result / name).stat().st_size for name in names)


def test_the_page_is_well_formed_and_fetches_nothing(html):
    page = Page(html)
    assert page.open == []
    addresses = [a[k] for _, a in page.tags for k in ("src", "srcset", "href") if k in a]
    assert addresses
    assert all(address.startswith(("data:", "#", "https://arxiv.org/abs/")) for address in addresses)
    assert "http://" not in html
    assert html.count("https://") == sum(address.startswith("https://") for address in addresses)
    assert len({a["id"] for _, a in page.tags if "id" in a}) == sum("id" in a for _, a in page.tags)


def test_nothing_from_the_records_becomes_markup(html):
    page = Page(html)
    assert [t for t, _ in page.tags].count("script") == 1
    assert not [a for _, a in page.tags for k in a if k.startswith("on") or k == "style"]
    text = " ".join(page.text)
    assert "<script>alert('x')</script>|_" in text
    assert "loss is NaN <img src=x onerror=alert(1)>" in text
    assert "A <fast> one" in text


def test_the_security_policy_allows_just_this_style_and_script(html):
    policy = next(a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    for tag in ("style", "script"):
        source = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_links_have_their_targets(html):
    page = Page(html)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    links = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert links >= {"model-1-flow", "metric-1-fid", "scores-1", "failed-1"}
    assert links <= ids


def test_the_table_is_sorted_by_fid_with_best_marked_and_scale_rows_apart(html):
    table = html[html.index('<table class="board" data-first') :].partition("</table>")[0]
    names = re.findall(r'<th scope="row" data-order="([^"]*)"', table)
    assert names[:3] == ["flow", "gan", "vae"]
    assert names[-2:] == ["real", "noise"]
    assert table.index('<tbody class="scale">') < table.index('data-order="real"')
    assert table.count('<td class="best"') == 4  # two share FID; KID and images/s; bits/dim of two kinds all tie
    assert 'aria-sort="ascending" data-better="lower"' in table


def test_held_out_images_are_pinned_and_conditional_models_marked(digits, record, tmp_path):
    more = [
        record("held-out real", "fid", 0.5, half=0.1, role="scale"),
        record("gan", "recall", 0.9, half=0.05, given="class"),
        record("vae", "class_accuracy", 0.9, half=0.05),
    ]
    rest = [replace(r, given="class") if r.model == "gan" else r for r in digits]
    write_records(tmp_path / "records.jsonl", [*rest, *more])
    render(tmp_path)
    html = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert not re.search(r'data-order="vae"(?:(?!</th>).)*given', html), "a metric does not tell what it is given"
    assert html.index('<tbody class="pinned">') < html.index('data-order="held-out real"') < html.index('"models"')
    assert re.search(r'data-order="gan".*?<small>given the class</small>', html)


def test_the_first_sentence_is_the_finding(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "flow and gan share the lowest FID (digits-classifier), from 29.5 ± 1.2 on" in text
    assert "Next is vae with 118.0 ± 2.0." in text
    assert "1 seed: intervals do not include retraining." in text
    assert re.search(r'<meta property="og:description" content="flow and gan share', html)


def test_the_page_says_what_a_reader_must_know(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "cannot be compared with an Inception FID" in text
    assert "Not available gan: it has no likelihood" in text
    assert "Failed <script>alert('x')</script>|_: loss is NaN" in text
    assert "Scale here real 6.20 ± 0.10; noise 421.0 ± 3.0" in text
    assert "Does not detect differences beyond mean and covariance" in text
    assert "ab" * 32 in text
    assert "1 network evaluation an image" in text
    assert "1 cell failed" in text
    assert "@misc{genbench-digits-1," in text


def test_plot_and_table_agree(html):
    """Flow and gan tie in FID and gan is faster; vae is worse in both."""
    marks = re.findall(r'class="mark f-other( front)?" data-model="([^"]*)"', html)
    assert sorted(marks) == [("", "flow"), ("", "vae"), (" front", "gan")]
    data = next(a["data-plot"] for t, a in Page(html).tags if t == "svg" and "data-plot" in a)
    assert json.loads(data)["metrics"]["fid"]["ranked"] == ["flow", "gan", "vae"]


def test_columns_that_may_not_be_ranked_cannot_be_sorted_and_have_no_front(digits, record, tmp_path):
    other = record("vae", "fid", 118.0, protocol={"features": {"extractor": "digits-classifier", "resize": "32"}})
    write_records(tmp_path / "records.jsonl", [*(r for r in digits if (r.model, r.metric) != ("vae", "fid")), other])
    render(tmp_path)
    html = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert html.count('<button type="button" class="sort">') == 4
    assert "resize is none for gan and flow, 32 for vae" in html
    assert "No front is drawn, because FID is not ranked here." in html


@pytest.mark.parametrize("pair", [("a/b", "a?b"), ("\u5f62", "\u5f63"), ("\U0001f600", "\U0001f601"), ("a", "a!")])
def test_two_names_never_share_a_picture_or_an_anchor(record, tmp_path, pair):
    write_records(tmp_path / "records.jsonl", [record(m, "fid", 1.0 + i, half=0.1) for i, m in enumerate(pair)])
    for level, name in zip((0, 16), pair, strict=True):
        pixels = np.full((4, 1, 8, 8), level, dtype=np.uint8)
        save_grid(pixels, 17, tmp_path / "figures" / f"samples-{slug(name)}-s0.png")
    render(tmp_path)
    page = Page((tmp_path / "leaderboard.html").read_text(encoding="utf-8"))
    pictures = [a["src"] for t, a in page.tags if t == "img" and a["alt"].startswith("samples of") and "width" in a]
    assert len(set(pictures)) == 2
    assert len({a["id"] for t, a in page.tags if t == "article" and a["class"] == "card"}) == 2


def test_records_alone_are_enough(digits, tmp_path):
    write_records(tmp_path / "records.jsonl", digits)
    render(tmp_path)
    assert "no grid was drawn" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_two_runs_in_one_folder_are_one_line(digits, tmp_path):
    write_records(tmp_path / "records.jsonl", [*digits, replace(digits[0], value=30.0, run="other")])
    with pytest.raises(StoreError, match=r"^[^\n]*records\.jsonl:19: gan-digits-s0 fid: found a record of run other"):
        render(tmp_path)
    assert not (tmp_path / "leaderboard.html").exists()


def test_no_records_is_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"records\.jsonl: not found"):
        render(tmp_path)
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(StoreError, match=r"^[^\n]*records\.jsonl: found no records; `genbench run SUITE` writes them$"):
        render(tmp_path)


def test_a_broken_environment_is_named(digits, tmp_path):
    write_records(tmp_path / "records.jsonl", digits)
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(StoreError, match=r"environment\.json:1: not JSON"):
        render(tmp_path)


def test_rendering_does_not_import_torch(result):
    code = f"import sys, pathlib, genbench.report as r; r.render(pathlib.Path({str(result)!r}));"
    code += "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
