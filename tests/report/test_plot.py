"""Places of the plot's labels, and each family's own symbol and colour."""

import itertools
import re
from importlib.resources import files

import pytest

from genbench import load_model
from genbench.contract import DataSpec
from genbench.report.paper import MARKERS
from genbench.report.plot import HEIGHT, LEFT, SHAPES, WIDTH, Mark, family_class, family_shape, labelled

LETTER, GREY = 7, DataSpec(1, 8, 8)
NEIGHBOURS = [p for p in itertools.product((-1, 0, 1), repeat=2) if p != (0, 0)]


def mark(name, x, y, on_front=False):
    return Mark(name, "gan", SHAPES["gan"], x, y, (x, x), (y, y), on_front, name)


def boxes(marks):
    """Of each mark and of each label: left, top, right, bottom."""
    for m in marks:
        yield m.x - 7, m.y - 7, m.x + 7, m.y + 7
        if m.label:
            (x, y, anchor), width = m.label, LETTER * len(m.model)
            left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
            yield left, y - 10, left + width, y + 3


def separate(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_lone_point_has_its_label_beside_it():
    (found,) = labelled([mark("alone", 300, 200)], None)
    assert (found.label, found.leader) == ((309, 204, "start"), False)


def test_a_point_among_others_has_its_label_farther_away_with_a_line():
    around = [mark(f"model_{i}", 300 + 22 * dx, 200 + 16 * dy) for i, (dx, dy) in enumerate(NEIGHBOURS)]
    found = labelled([*around, mark("in_the_middle", 300, 200)], None)
    assert found[-1].label is not None
    assert found[-1].leader
    assert all(itertools.starmap(separate, itertools.combinations(boxes(found), 2)))
    for left, top, right, bottom in boxes(found):
        assert left > LEFT
        assert right < WIDTH
        assert top > 0
        assert bottom < HEIGHT


def test_labels_near_the_points_and_on_the_front_come_first():
    close = [mark("behind", 300, 200), mark("in_front", 300, 200, on_front=True)]
    behind, in_front = labelled(close, None)
    assert in_front.label == (309, 204, "start")
    assert behind.label == (291, 204, "end")


@pytest.mark.parametrize("name", ["gan", "vae", "realnvp", "ddpm", "flow_matching", "pixelcnn"])
def test_each_family_of_the_zoo_has_its_own_symbol_and_colour(name):
    family = load_model(name, data=GREY).family
    others = [f for f in SHAPES if f != family]
    assert family_shape(family) not in [family_shape(f) for f in [*others, "unheard of"]]
    assert MARKERS[family] not in [MARKERS[f] for f in others]
    sheets = [(files("genbench.report") / "templates" / f"{s}.css").read_text() for s in ("plot", "leaderboard")]
    themes = [
        dict(re.findall(r"--(f-[\w-]+): (#\w+)", t)) for s in sheets for t in re.findall(r":root \{[^}]*--f-[^}]*", s)
    ]
    assert len(themes) == 3  # light, dark, print
    for colours in themes:
        assert len({colours[family_class(f)] for f in [*SHAPES, "unheard of"]}) == len(SHAPES) + 1
    assert f".{family_class(family)} {{ color: var(--{family_class(family)}); }}" in sheets[0]
