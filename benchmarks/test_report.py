"""Rendering a result, tables, figures and page, from its records: `make bench`."""

from __future__ import annotations

import shutil
from pathlib import Path

from genbench.report import render

RESULT = Path(__file__).parent.parent / "reports" / "reference" / "digits"


def test_report(benchmark, tmp_path: Path):
    shutil.copytree(RESULT, tmp_path / "digits")
    benchmark.pedantic(render, args=(tmp_path / "digits",), rounds=5, warmup_rounds=1)
