"""Values and intervals of every metric for fixed arrays: values.yaml has them.

The other tests compare metrics with closed forms and with independent implementations, mostly the values themselves.
Orders of random draws, numbers of blocks, ends of intervals and ties have no such counterpart; here they must stay as
they are. A deliberate change needs a higher version of the metric and new values, which
python tests/metrics/test_metric_values.py writes.
"""

from pathlib import Path

import numpy as np
import pytest
import yaml

from genbench import metrics
from genbench.metrics.translation import Direction

FILE = Path(__file__).with_name("values.yaml")
RNG = np.random.default_rng(7)
SHAPES = {"fake": (130, 6), "real": (110, 6), "train": (140, 6), "held_out": (105, 6)}
ROWS = {name: RNG.normal(0.2 * i, 1 + 0.1 * i, shape) for i, (name, shape) in enumerate(SHAPES.items())}
ROWS["fake"][:4] = ROWS["train"][:4] + 1e-3  # copies
BUNCHED = {name: np.concatenate([rows[:60], rows[60:] + 5]) for name, rows in ROWS.items()}
BUNCHED["fake"][60::3] *= 1.5  # bad samples: without them clipped density would be 1
SOFT = np.exp(2 * RNG.normal(size=(130, 4)))
PICTURES = RNG.integers(0, 17, (7, 60, 1, 8, 8)).astype(np.uint8)
PERCEPTUAL = RNG.gamma(2.0, size=(3, 60))
PROMPTS = {"texts": RNG.normal(size=(120, 6)), "which": np.arange(130) % 120}


def pair(names, rows=ROWS):
    """The named sets."""
    return {name: rows[name] for name in names.split()}


def direction(i):
    """One direction of a translation, of random pictures and features."""
    source, translated, back, target = PICTURES[i : i + 4] / 16
    features = {"fake": ROWS["fake"][i:], "real": ROWS["real"][i:]}
    return Direction(source, translated, back, **features, target=target, perceptual=PERCEPTUAL[i])


LABELS = {"fake_labels": np.arange(130) % 2, "real_labels": np.arange(110) // 55}
ARGUMENTS = {
    "features": pair("fake real"), "clip": pair("fake real"), "neighbours": pair("fake real"),
    "spatial": pair("fake real"), "generated": pair("fake"), "memory": pair("fake train held_out"),
    "probabilities": {"probabilities": SOFT / SOFT.sum(1, keepdims=True)},
    "condition": {"probabilities": SOFT / SOFT.sum(1, keepdims=True), "labels": np.arange(130) % 4},
    "pixels": {name: 1 / (1 + np.exp(-rows)) for name, rows in pair("fake real").items()},
    "prompts": pair("fake") | PROMPTS, "by class": pair("fake real") | LABELS,
    "translation": {"a_to_b": direction(0), "b_to_a": direction(2)},
    "paths": {"distances": RNG.gamma(2.0, size=150)},
    "likelihood": {"log_probs": -RNG.gamma(90.0, size=40), "dims": 64, "kind": "mass"},
}  # fmt: skip
TOLERANCE = {"fld": 1e-5}  # relative; the fit of its variances takes hundreds of steps, which differ among processors
NAMES = [name for name, m in metrics.BUILT_IN.items() if m.reads.name in ARGUMENTS]  # others time or train something


def computed(name):
    """The value and the interval for each of the metric's arguments: plain, and in two bunches where they are rows."""
    metric = metrics.get(name)
    arguments = ARGUMENTS[metric.reads.name]
    sets = [arguments]
    if set(arguments) <= set(ROWS) and metric.reads.name != "pixels":
        sets.append(pair(" ".join(arguments), BUNCHED))
    values = [metric.compute(**a) for a in sets]
    return [number for v in values for number in (v.value, v.lo, v.hi)]


@pytest.mark.parametrize("name", NAMES)
def test_values_have_not_changed(name):
    expected = yaml.safe_load(FILE.read_text(encoding="utf-8"))[name]
    for found, number in zip(computed(name), expected, strict=True):
        assert (found is None) == (number is None)
        assert number is None or found == pytest.approx(number, rel=TOLERANCE.get(name, 1e-6), abs=1e-9)


if __name__ == "__main__":
    rows = {n: [None if x is None else float(f"{x:.10g}") for x in computed(n)] for n in NAMES}
    text = yaml.safe_dump(rows, sort_keys=False, width=120, default_flow_style=None)
    FILE.write_text("# Written by tests/metrics/test_metric_values.py.\n" + text, encoding="utf-8")
