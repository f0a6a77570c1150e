"""What sites that link to the page show: its address and a picture, where it is known where the page will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from genbench.errors import GenbenchError
from genbench.report.aggregate import Board
from genbench.report.combined import PARTS
from genbench.report.finding import champions
from genbench.report.folders import Folder
from genbench.report.pictures import sample_grids

PAGE = "leaderboard.html"


def check_url(url: str) -> None:
    """Raises GenbenchError for what is not the address of a page or folder on the web."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise GenbenchError(f"--url: found '{url}', allowed: the address of the folder, such as https://example.org/a/")


def open_graph(url: str, target: Path, folders: Sequence[Folder], boards: Sequence[Board]) -> list[tuple[str, str]]:
    """Properties of Open Graph that need an address; none without a url.

    url: of the folder `target`, or of the page in it. The picture is the samples of the best model of the first
    dataset.
    """
    if not url:
        return []
    base = url if url.endswith(("/", ".html")) else f"{url}/"
    found = [("og:url", base if base.endswith(".html") else urljoin(base, PAGE))]
    picture = _picture(target, folders, boards)
    return [*found, ("og:image", urljoin(base, quote(picture)))] if picture else found


def _picture(target: Path, folders: Sequence[Folder], boards: Sequence[Board]) -> str:
    """The path below `target` of the samples of the best model; "" where there are none."""
    rows = [c.row for board in boards for c in champions(board)] + [row for board in boards for row in board.models]
    for row in rows:
        for folder in folders:
            label = folder.label(row.model, row.dataset)
            name = folder.file_name(label, row.dataset) if label is not None else ""
            grid = sample_grids(folder.directory).get(name)
            if grid is not None:
                path = (
                    f"{PARTS}/{folder.name}/figures/{grid[1].name}" if len(folders) > 1 else f"figures/{grid[1].name}"
                )
                return path if (target / path).is_file() else ""
    return ""
