"""One caption a class: what a text-to-image model is asked for, and what its pictures are judged against."""

from __future__ import annotations

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = (
    "t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
THINGS = (
    "an airplane", "an automobile", "a bird", "a cat", "a deer", "a dog", "a frog", "a horse", "a ship", "a truck",
)  # fmt: skip

CAPTIONS = {
    "digits": tuple(f"the handwritten digit {name}" for name in DIGITS),
    "fashion-mnist": tuple(f"a picture of a {name}" for name in CLOTHES),
    "cifar10": tuple(f"a photo of {name}" for name in THINGS),
}
