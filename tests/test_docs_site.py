"""The documentation site: every link between its pages leads somewhere, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from genbench.cli import app

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([\w./-]+\.(?:md|png|html|txt))(?:#[\w-]+)?\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    subprocess.run([sys.executable, ROOT / "tools" / "docs_site.py", folder], check=True)
    return folder


def test_links_stay_inside_the_site(pages):
    links = [(page.name, link) for page in pages.glob("*.md") for link in LINK.findall(page.read_text())]
    assert ("index.md", "architecture.md") in links
    assert ("index.md", "reports/reference/digits/leaderboard.html") in links
    assert [pair for pair in links if not (pages / pair[1]).is_file()] == []


def test_every_page_is_in_the_navigation(pages):
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": ([\w/]+\.md)$", text, re.M))
    assert listed == {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert yaml.safe_load(text)["strict"] is True


PROSE = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
NAMED = re.compile(r"(?<![\w./-])((?:docs|genbench|zoo|suites|tests|tools|examples|benchmarks)/[\w./-]*\w)")
MADE_UP = ("suites/x.yaml", "zoo/NAME.py", "tests/zoo/test_NAME.py", "tests/metrics/test_NAME.py")
CALL = re.compile(r"(?:`| {4,}|&& )genbench ([a-z]\w*)([^\n`#|;]*)")


def test_files_that_the_prose_names_exist():
    named = {(page.name, path) for page in PROSE for path in NAMED.findall(page.read_text())}
    assert ("CONTRIBUTING.md", "genbench/builtin.py") in named
    assert [pair for pair in named if pair[1] not in MADE_UP and not list(ROOT.glob(f"{pair[1]}*"))] == []


def test_commands_and_options_that_the_prose_names_exist():
    commands = typer.main.get_command(app).commands
    calls = [(page.name, *call) for page in PROSE for call in CALL.findall(page.read_text())]
    assert len(calls) > 50
    for page, name, rest in calls:
        assert name in commands, (page, name)
        known = {"--help", *(option for p in commands[name].params for option in (*p.opts, *p.secondary_opts))}
        assert set(re.findall(r"(?<!\S)\[?(--[a-z][\w-]*)", rest)) <= known, (page, name, rest)


@pytest.mark.slow
def test_the_site_builds_without_warnings(pages, tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    config = tmp_path / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text().replace("build/docs", str(pages)).replace("paths: [.]", f"paths: [{ROOT}]")
    config.write_text(text.replace("build/site", str(tmp_path / "site")))
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q", "-f", config], check=True)
    assert "Runs or continues a suite" in (tmp_path / "site" / "api" / "python.html").read_text()
