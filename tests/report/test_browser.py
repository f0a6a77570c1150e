"""The page in a browser: `make page-test`. Skipped where Chromium is not installed.

axe-core's rules run too where GENBENCH_AXE is the path of its axe.min.js.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, find_chromium

from genbench.records import slug, write_records
from genbench.report import render
from genbench.report.grids import save_grid
from genbench.report.result import read_result

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")]
REFERENCE = Path(__file__).parent.parent.parent / "reports" / "reference"
HOSTILE = [
    "<script>alert(1)</script>", "</style><b>", '" onload="x', "\u05e9\u05dc\u05d5\u05dd", "\u202eevil", "\U0001f600",
    "\U0001f601", "\u5f62\u614b", "a b", "x" * 200, "a&b;=#?/..", "{{ 7 * 7 }}",
]  # fmt: skip
RANKED = 20


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def copied(name, folder):
    """A committed result with its page written again: the address of the page."""
    shutil.copytree(REFERENCE / name, folder / name)
    render(folder / name)
    return (folder / name / "leaderboard.html").as_uri()


@pytest.fixture(scope="module")
def digits_page(tmp_path_factory):
    return copied("digits", tmp_path_factory.mktemp("digits"))


def page_of(folder, records, names=()):
    write_records(folder / "records.jsonl", records)
    for place, name in enumerate(names):
        pixels = np.full((20, 1, 8, 8), place % 17, dtype=np.uint8)
        save_grid(pixels, 17, folder / "figures" / f"samples-{slug(name)}-s0.png")
    render(folder)
    return (folder / "leaderboard.html").as_uri()


METRICS = (
    "fid",
    "kid",
    "precision",
    "recall",
    "coverage",
    "memorised",
    "bits_per_dim",
    "images_per_second",
    "parameters",
)


def many(record, count):
    rng = np.random.default_rng(0)
    families = ("gan", "vae", "flow", "diffusion", "other")
    return [
        record(
            f"model-{i}", m, float(v), half=0.01, family=families[i % 5], kind="bound" if m == "bits_per_dim" else ""
        )
        for i in range(count)
        for m, v in zip(METRICS, rng.random(len(METRICS)) + 0.1, strict=True)
    ]


@pytest.fixture(scope="module")
def pages(record, digits, digits_page, tmp_path_factory):
    """Pages of every kind by name."""
    hostile = [
        r
        for i, m in enumerate(HOSTILE)
        for r in (record(m, "fid", 1.0 + i, half=0.2), record(m, "parameters", 2.0 + i))
    ]
    failed = [record(m, "fid", status="failed", reason="out of memory") for m in ("a", "b")]
    cases = {
        "simulated": (digits, ()),
        "200 models": (many(record, 200), [f"model-{i}" for i in range(200)]),
        "hostile names": (hostile, HOSTILE),
        "one model": ([record("a", "fid", 1.0, half=0.2), record("a", "parameters", 5.0)], ()),
        "all failed": (failed, ()),
        "two datasets": (
            [*digits, *many(record, 3), *(record("a", "fid", 2.0 + s, dataset="mnist", seed=s) for s in (0, 1))],
            (),
        ),
    }
    made = {name: page_of(tmp_path_factory.mktemp("page"), *case) for name, case in cases.items()}
    return made | {"digits": digits_page}


CASES = ("digits", "simulated", "200 models", "hostile names", "one model", "all failed", "two datasets")


@pytest.mark.parametrize("case", CASES)
def test_a_page_asks_for_nothing_says_nothing_and_does_not_overflow(browser, pages, case):
    for width in (1440, 400):
        browser.open(pages[case], width, 900)
        assert browser.messages == []
        assert [r for r in browser.requests if not r.startswith(("data:", "file:"))] == []
        assert len([r for r in browser.requests if r.startswith("file:")]) <= 1
        assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_nothing(browser, pages, case, scheme):
    rules = os.environ.get("GENBENCH_AXE")
    if not rules:
        pytest.skip("GENBENCH_AXE is not set")
    browser.media(prefers_color_scheme=scheme)
    browser.open(pages[case])
    browser.run(Path(rules).read_text(encoding="utf-8") + ";0")
    found = browser.run("axe.run({resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))")
    browser.media()
    told = [
        (v["id"], len(v["nodes"]), v["nodes"][0]["html"][:150], v["nodes"][0].get("failureSummary"))
        for v in json.loads(found)
    ]
    assert told == []


FIRST = "document.querySelector('tbody.models').rows[0].cells[0].dataset.order"
SORTED = "document.querySelector('th[aria-sort$=ending]').dataset.metric"


def test_sorting_columns_and_filter_are_kept_in_the_address(browser, digits_page):
    models = read_result(REFERENCE / "digits").leaderboard.query("role == 'model'").set_index("model")
    lowest_fid, highest_recall = models.fid.idxmin(), models.recall.idxmax()
    browser.open(digits_page)
    assert browser.run(FIRST) == lowest_fid
    browser.run("document.querySelector('th[data-metric=recall] button.sort').click()")
    assert (browser.run(SORTED), browser.run(FIRST)) == ("recall", highest_recall)
    browser.run("document.querySelector('.columns input[value=vendi]').click()")
    typing = "const f = document.querySelector('.filter'); f.value = 'gan'; f.dispatchEvent(new Event('input'));"
    browser.run(f"(() => {{ {typing} }})()")
    browser.run("document.querySelector('.families input[value=vae]').click()")
    address = browser.run("location.href")
    browser.open(address)
    assert browser.run("location.href") == address
    assert (browser.run(SORTED), browser.run(FIRST)) == ("recall", highest_recall)
    rows = "Array.from(document.querySelector('tbody.models').rows)"
    shown = f"{rows}.filter((r) => !r.hidden).map((r) => r.cells[0].dataset.order)"
    assert sorted(browser.run(shown)) == ["cgan", "dcgan", "gan", "stylegan"]
    assert browser.run("document.querySelector('th[data-metric=vendi]').hidden") is False
    assert browser.run("document.querySelector('th[data-metric=density]').hidden") is True


def test_a_link_to_a_model_or_metric_scrolls_to_it_and_stays_in_the_address(browser, digits_page):
    for part in ("model-1-glow", "metric-1-recall"):
        browser.open(f"{digits_page}#{part}")
        assert browser.run("location.hash") == f"#{part}"
        assert abs(browser.run(f"document.getElementById('{part}').getBoundingClientRect().top")) < 100


def test_eight_columns_and_the_whole_first_screen_are_shown_first(browser, digits_page):
    browser.open(digits_page)
    heads = "Array.from(document.querySelectorAll('table.board[data-first] thead th')).filter((h) => !h.hidden).length"
    assert browser.run(heads) == 9
    for selector in (".finding", ".strip", "svg.plot", "table.board[data-first] thead"):
        bottom = browser.run(f"document.querySelector('{selector}').getBoundingClientRect().bottom")
        assert bottom <= 900, selector


def test_the_head_and_the_first_column_stay_in_sight(browser, digits_page):
    browser.open(digits_page)
    browser.run("document.querySelectorAll('.columns .whole').forEach((b) => { if (!b.checked) b.click(); })")
    browser.run("document.querySelector('.scroll').scrollTo(600, 300)")
    head = "document.querySelector('table.board[data-first] thead th').getBoundingClientRect()"
    frame = "document.querySelector('.scroll').getBoundingClientRect()"
    assert abs(browser.run(f"{head}.top - {frame}.top")) < 2
    assert abs(browser.run(f"{head}.left - {frame}.left")) < 2


def test_names_are_readable_on_a_small_screen(browser, digits_page):
    browser.open(digits_page, 400, 900)
    for selector in (".strip .who", "table.board[data-first] .who"):
        widths = browser.run(f"Array.from(document.querySelectorAll('{selector}')).map((w) => w.offsetWidth)")
        assert min(widths) > 80, selector


def test_forced_colours_keep_hollow_points_hollow(browser, pages):
    browser.media(forced_colors="active")
    browser.open(pages["simulated"])
    fill = "getComputedStyle(document.querySelector('.mark{} path')).fill"
    assert browser.run(fill.format(".front")) != browser.run(fill.format(":not(.front)"))
    browser.media()


def test_help_opens_on_focus_and_on_click_and_closes_with_escape(browser, digits_page):
    browser.open(digits_page, 400, 900)
    is_open = "document.getElementById('help').matches(':popover-open')"
    browser.run("document.querySelector('th[data-metric=fid] a.help').focus()")
    assert browser.run(is_open)
    text = browser.run("document.getElementById('help').textContent")
    for part in ("lower is better", "Does not detect", "held-out real", "uniform noise", "1.96 standard errors"):
        assert part in text
    browser.press("Escape", 27)
    assert not browser.run(is_open)
    browser.run("document.activeElement.blur()")
    browser.run("document.querySelector('th[data-metric=recall] a.help').click()")
    assert browser.run(is_open)
    box = browser.run("(({left, right}) => [left, right])(document.getElementById('help').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= 400


def test_other_axes_move_the_points_and_the_front_follows_the_ranks(browser, pages):
    browser.open(pages["simulated"])
    front = "Array.from(document.querySelectorAll('.mark.front')).map((m) => m.dataset.model)"
    assert browser.run(front) == ["gan"]
    set_kid = "s = document.querySelector('select.y'); s.value = 'kid'; s.dispatchEvent(new Event('change'));"
    browser.run(f"(() => {{ const {set_kid} }})()")
    assert sorted(browser.run(front)) == ["flow", "gan"]
    address = browser.run("location.href")
    browser.open(address)
    assert browser.run("document.querySelector('select.y').value") == "kid"
    assert browser.run("document.querySelectorAll('.tick.y text').length") > 2


def test_arrow_keys_go_from_point_to_point(browser, pages):
    browser.open(pages["simulated"])
    browser.run("document.querySelector('.mark').focus()")
    first = browser.run("document.activeElement.dataset.model")
    browser.press("ArrowRight", 39)
    assert browser.run("document.activeElement.dataset.model") != first
    assert browser.run("document.querySelector('.said').textContent").startswith(
        browser.run("document.activeElement.dataset.model")
    )
    assert browser.run("document.querySelectorAll('.mark[tabindex=\"0\"]').length") == 1


def test_two_models_side_by_side_have_the_same_scale(browser, digits_page):
    browser.open(digits_page)
    browser.run("document.querySelector('.compare .show').click()")
    widths = browser.run("Array.from(document.querySelectorAll('.side img')).map((i) => i.width / i.naturalWidth)")
    assert len(widths) >= 2  # a model with prompts has a picture for each
    assert len(set(widths)) == 1
    assert browser.run("document.querySelectorAll('.side table tr').length") > RANKED


def test_two_hundred_models_are_sorted_at_once(browser, pages):
    browser.open(pages["200 models"])
    seconds = browser.run(
        "(() => { const t = performance.now(); document.querySelector('th[data-metric=recall] button.sort').click();"
        "document.body.offsetHeight; return (performance.now() - t) / 1000; })()"
    )
    order = browser.run(
        "Array.from(document.querySelector('tbody.models').rows, (r) => Number(r.cells[4].dataset.order))"
    )
    assert order == sorted(order, reverse=True)
    print(f"sorted in {seconds:.3f} s")


def test_datasets_are_tabs(browser, pages):
    browser.open(pages["two datasets"])
    hidden = "Array.from(document.querySelectorAll('.dataset')).map((d) => d.hidden)"
    assert browser.run(hidden) == [False, True]
    browser.run("document.querySelectorAll('[role=tab]')[1].click()")
    assert browser.run(hidden) == [True, False]
    browser.open(browser.run("location.href"))
    assert browser.run(hidden) == [True, False]


def test_paper_has_every_column_and_nothing_is_clipped(browser, digits_page):
    browser.media("print")
    browser.open(digits_page, 1010, 800)
    heads = browser.run("Array.from(document.querySelectorAll('.paper thead th')).map((h) => h.textContent)")
    columns = browser.run("document.querySelectorAll('table.board[data-first] thead th').length")
    tables = browser.run("document.querySelectorAll('.paper table').length")
    assert len(heads) - tables == columns - 1
    ends = "Array.from(document.querySelectorAll('.paper table')).map((t) => t.getBoundingClientRect().right)"
    assert max(browser.run(ends)) <= 1010
    assert browser.run("document.querySelector('section[id^=scores] > .scroll').getBoundingClientRect().height") == 0
    browser.media()


def test_few_stops_of_the_tab_key(browser, digits_page):
    """Links of rows and heads, and controls; no stop for a value that is not available."""
    browser.open(digits_page)
    stops = browser.run(
        "Array.from(document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]'))"
        ".filter((e) => e.tabIndex >= 0 && e.checkVisibility()).length"
    )
    assert stops < 160
    assert browser.run("document.querySelectorAll('td a').length") == 0


def test_without_a_script_everything_is_there(browser, digits_page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(digits_page)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelectorAll('table.board[data-first] thead th:not([hidden])').length") > RANKED
    assert browser.run("document.querySelector('.tools').checkVisibility()") is False
