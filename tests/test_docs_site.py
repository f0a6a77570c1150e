"""The documentation site: every link between its pages leads somewhere, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.slow
def test_the_site_builds_without_warnings(pages, tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    config = tmp_path / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text().replace("build/docs", str(pages)).replace("paths: [.]", f"paths: [{ROOT}]")
    config.write_text(text.replace("build/site", str(tmp_path / "site")))
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q", "-f", config], check=True)
    assert "Runs or continues a suite" in (tmp_path / "site" / "api" / "python.html").read_text()
