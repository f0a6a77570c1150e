"""Text in columns, for a terminal."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows with the same number of cells, one line each; all columns but the last are padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def printable(text: str) -> str:
    """The text without what steers a terminal: control, bidirectional and surrogate characters become U+FFFD.

    Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t" else c for c in text)


def escaped(text: str) -> str:
    """The text in one line: what is not printable, such as a line end, is written as an escape sequence of Python."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also in full width, as Excel reads them


def cell_text(text: str) -> str:
    """The text of a CSV cell; an apostrophe in front of what a spreadsheet would run as a formula."""
    start = text.lstrip()
    return f"'{text}" if start.startswith(FORMULAS) or text.startswith(("\t", "\r", "\n")) else text


LONGEST_MESSAGE = 4_000  # characters


def shortened(text: str) -> str:
    """A message with what is beyond LONGEST_MESSAGE left out: it may quote values of a file from elsewhere."""
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}... ({len(text):,} characters)"


SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)", re.IGNORECASE)
SHORTEST_SECRET = 6  # characters; a shorter value may be part of any word


def without_secrets(text: str, variables: Mapping[str, str]) -> str:
    """The text without values of environment variables whose names say that they are secret, and passwords in URLs."""
    present = {n: v for n, v in variables.items() if len(v) >= SHORTEST_SECRET and v in text}
    hidden = {v: f"${n}" for n, v in present.items() if SECRET.search(n)}
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, hidden[value])
    return re.sub(r"(?<=://)[^/\s@'\"]+@", "", text)


def without_folders(text: str, *roots: Path) -> str:
    """The text with each absolute path relative to the root that contains it; of other paths only the name stays."""
    if "/" not in text and "\\" not in text:
        return text
    for root in sorted({str(root.absolute()) for root in roots} | {os.path.realpath(root) for root in roots}, key=len)[
        ::-1
    ]:
        text = text.replace(f"{root}/", "") if root != "/" else text
    text = text.replace("file://", "")
    return re.sub(r"(?<![\w./~-])(?:/|~[\w.-]*/|[A-Za-z]:\\|\\\\)(?:[^\s'\"<>:/\\]+[/\\])+(?=[^\s/\\])", "", text)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3:05 min or 2:10 h."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 100:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
