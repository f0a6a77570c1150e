"""The difference in mean brightness."""

from __future__ import annotations

from genbench.metrics import Metric, Value
from genbench.metrics.readings import PIXELS


def brightness(*, fake, real):
    """|mean of fake - mean of real|, both (N, P) in [0, 1]."""
    return Value(abs(float(fake.mean()) - float(real.mean())))


BRIGHTNESS = Metric(
    "brightness", "Brightness", 1, "lower", "grey range", PIXELS, brightness, about="difference in mean brightness"
)
