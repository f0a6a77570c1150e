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

import genbench
from genbench import metrics
from genbench.builtin import MODEL_TABLE

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?\)")
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
CONTRACT = ("images", "training", "models", "abilities")
PLUG_INS = ("metrics.base", "data.base", "features.base", "registry")


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
    for name, (title, objects) in _api().items():
        parts = "\n\n".join(f"::: {target}" for target in objects)
        (folder / f"{name}.md").write_text(f"# {title}\n\n{parts}\n")


def _api() -> dict[str, tuple[str, list[str]]]:
    """Title and objects of each page. What a user names comes before what it is made of."""
    public = [f"genbench.{name}" for name in genbench.__all__ if name not in ("metrics", "GenbenchError")]
    measured = [getattr(metrics, name).__module__ for name in metrics.__all__]
    models = [model.target.partition(":")[0] for model in MODEL_TABLE.values()]
    return {
        "python": ("Python", [*public, "genbench.errors"]),
        "contract": ("The model contract", [f"genbench.contract.{name}" for name in CONTRACT]),
        "plugins": ("Plug-ins", [f"genbench.{name}" for name in PLUG_INS]),
        "metrics": ("Metrics", list(dict.fromkeys(["genbench.metrics", *measured, *_modules("genbench.metrics")]))),
        "zoo": ("The zoo", list(dict.fromkeys(models + _modules("zoo")))),
    }


def _modules(package: str) -> list[str]:
    return sorted(f"{package}.{path.stem}" for path in ROOT.joinpath(*package.split(".")).glob("[a-z]*.py"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
