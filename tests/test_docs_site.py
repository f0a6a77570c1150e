"""The documentation site: every link between its pages leads somewhere, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

import genbench
from genbench.cli import app

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
CODE = re.compile(r"^```[\s\S]*?^```|`[^`]+`|^(?: {4}.*\n)+", re.M)  # fenced, in a sentence, indented


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    subprocess.run([sys.executable, ROOT / "tools" / "docs_site.py", folder], check=True)
    return folder


def anchors(page: Path) -> set[str]:
    """The anchors that mkdocs gives to the headings of a page, in which `code` and *emphasis* are plain."""
    names = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in HEADING.findall(page.read_text()))
    return {re.sub(r"[-\s]+", "-", name) for name in names}


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text())


def test_links_lead_to_a_file_of_the_site_and_to_a_heading_of_it(pages):
    links = [
        (page.name, *link.partition("#")[::2]) for page in pages.glob("*.md") for link in LINK.findall(prose(page))
    ]
    inside = [link for link in links if not link[1].startswith(("https:", "http:"))]
    assert ("index.md", "architecture.md", "") in inside
    assert ("index.md", "reports/reference/digits/leaderboard.html", "") in inside
    assert any(anchor for *_, anchor in inside)
    assert [link for link in inside if not (pages / (link[1] or link[0])).is_file()] == []
    assert [link for link in inside if link[2] and link[2] not in anchors(pages / (link[1] or link[0]))] == []


def test_the_reference_has_every_public_name(pages):
    objects = {path.stem: re.findall(r"^::: (.+)$", path.read_text(), re.M) for path in (pages / "api").glob("*.md")}
    assert {f"genbench.{name}" for name in genbench.__all__} - {*objects["python"]} == {
        "genbench.metrics", "genbench.GenbenchError"  # a page of its own; in genbench.errors
    }  # fmt: skip
    assert {getattr(genbench.metrics, name).__module__ for name in genbench.metrics.__all__} <= {*objects["metrics"]}
    assert {f"zoo.{path.stem}" for path in (ROOT / "zoo").glob("[a-z]*.py")} == {*objects["zoo"]}
    assert all(len(set(names)) == len(names) for names in objects.values())


def test_every_page_is_in_the_navigation(pages):
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": ([\w/]+\.md)$", text, re.M))
    assert listed == {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert yaml.safe_load(text)["strict"] is True


PROSE = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FOLDERS = "docs|genbench|zoo|suites|tests|tools|examples|benchmarks|reports/reference"
NAMED = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w./*-]*[\w*])")
MADE_UP = {
    "suites/x.yaml", "reports/reference/x", "reports/reference/gpu", "zoo/NAME.py", "tests/zoo/test_NAME.py",
    "tests/metrics/test_NAME.py",
}  # fmt: skip
CALL = re.compile(r"(?<![\w./-])(?:\.venv/bin/)?genbench ([a-z]\w*)([^\n#|;&`]*)")


def calls(page: Path) -> list[tuple[str, str]]:
    """Command and arguments of every call of genbench in the code of a page; a backslash continues a line."""
    return [call for code in CODE.findall(page.read_text()) for call in CALL.findall(code.replace("\\\n", " "))]


def test_files_that_the_prose_names_exist():
    named = {(page.name, path) for page in PROSE for path in NAMED.findall(page.read_text())}
    assert ("CONTRIBUTING.md", "genbench/builtin.py") in named
    missing = {path for _, path in named if not any(ROOT.glob(path))}
    assert missing - MADE_UP == set()
    assert MADE_UP - missing == set(), "no longer named, or no longer made up"


def test_commands_and_options_that_the_prose_names_exist():
    commands = typer.main.get_command(app).commands
    named = [(page.name, *call) for page in PROSE for call in calls(page)]
    assert len(named) > 100
    for page, name, rest in named:
        assert name in commands, (page, name)
        known = {"--help", *(option for p in commands[name].params for option in (*p.opts, *p.secondary_opts))}
        assert set(re.findall(r"(?<!\S)\[?(--?[a-z][\w-]*)", rest)) <= known, (page, name, rest)


def test_the_readme_lists_every_command():
    listed = {name for name, _ in calls(ROOT / "README.md")}
    assert set(typer.main.get_command(app).commands) - listed == set()


@pytest.mark.slow
def test_the_site_builds_without_warnings(pages, tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    config = tmp_path / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text().replace("build/docs", str(pages)).replace("paths: [.]", f"paths: [{ROOT}]")
    config.write_text(text.replace("build/site", str(tmp_path / "site")))
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q", "-f", config], check=True)
    text = (tmp_path / "site" / "api" / "python.html").read_text()
    assert "Runs or continues a suite" in text
    assert re.search(r'<h2 id="genbench.run"', text)
