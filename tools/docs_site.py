"""Collects the pages of the documentation site in a folder, for `make docs`.

The site has the README as its first page, docs/, the committed results that these pages show, and API pages
that mkdocstrings fills from docstrings. Links between the files are those of the repository; they are rewritten here,
because a site contains only what is inside its own folder.

    python tools/docs_site.py build/docs
"""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?\)")
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
API = {
    "python": ("Python", ["genbench.runner.run.run", "genbench.report.result", "genbench.evaluate.score.score",
                          "genbench.evaluate.score.Scores", "genbench.sources.build.load_model", "genbench.errors"]),
    "contract": ("The model contract", ["genbench.contract", "genbench.contract.images", "genbench.contract.training",
                                     "genbench.contract.models", "genbench.contract.abilities"]),
    "plugins": ("Plug-ins", ["genbench.metrics.base", "genbench.data.base", "genbench.features.base",
                             "genbench.registry"]),
}  # fmt: skip


def main(folder: Path) -> None:
    """Writes the pages into the folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    sources = {path.name: path for path in (ROOT / "docs").glob("*.md")}
    for page, source in (sources | {PAGES[name]: ROOT / name for name in PAGES}).items():
        text = source.read_text(encoding="utf-8")
        (folder / page).write_text(LINK.sub(partial(_inside, source, folder), text), encoding="utf-8")
    _write_api(folder / "api")


def _inside(source: Path, folder: Path, link: re.Match) -> str:
    """The link with its target inside the site; what is no link to a file (such as code) stays."""
    target = (source.parent / link[2]).resolve()
    if not target.is_relative_to(ROOT) or not target.exists():
        return link[0]
    if target.is_dir():
        target /= "leaderboard.html"
    name = target.relative_to(ROOT).as_posix().removeprefix("docs/")
    if target.suffix != ".md":
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, folder / name)
    return f"{link[1]}{PAGES.get(name, name)}{link[3] or ''})"


def _write_api(folder: Path) -> None:
    folder.mkdir()
    zoo = sorted(f"zoo.{path.stem}" for path in (ROOT / "zoo").glob("[a-z]*.py"))
    metrics = sorted(f"genbench.metrics.{path.stem}" for path in (ROOT / "genbench" / "metrics").glob("[a-z]*.py"))
    pages = API | {"zoo": ("The zoo", zoo), "metrics": ("Metrics", metrics)}
    for name, (title, objects) in pages.items():
        parts = "\n\n".join(f"::: {target}" for target in objects)
        (folder / f"{name}.md").write_text(f"# {title}\n\n{parts}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
