"""Figures for papers."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from genbench.errors import GenbenchError
from genbench.report import render
from genbench.report.result import read_result

DIGITS = Path(__file__).parents[2] / "reports" / "reference" / "digits"


@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("eps", b"%!PS")])
def test_a_figure_is_written_in_the_format_that_is_asked_for(tmp_path, kind, start):
    written, _ = render(DIGITS, out=tmp_path, figures=kind)
    path = tmp_path / "figures" / f"quality-cost.{kind}"
    assert path in written
    assert path.read_bytes().startswith(start)


def test_every_model_and_both_axes_are_in_the_figure(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: (drawn.append(self), save(self, *args, **options))
    )
    render(DIGITS, out=tmp_path, figures="png")
    axes = drawn[0].axes[0]
    names = set(read_result(DIGITS).leaderboard.query("role == 'model'").model)
    assert {text.get_text() for text in axes.texts} == names
    assert axes.get_xlabel() == "Images/s (higher is better)"
    assert axes.get_ylabel() == "FID (digits-classifier) (lower is better)"
    assert axes.get_xscale() == "log"
    vae = read_result(DIGITS).leaderboard.set_index("model").loc["vae"]
    assert any(line.get_xydata()[0].tolist() == [vae.images_per_second, vae.fid] for line in axes.lines)


def test_another_format_is_refused_with_those_allowed(tmp_path):
    with pytest.raises(GenbenchError, match="--figures: found 'gif', allowed: pdf, png, eps"):
        render(DIGITS, out=tmp_path, figures="gif")
