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

# The names by which labels may call a class, the first as messages show it.
CLASS_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "digits": tuple((str(number), name) for number, name in enumerate(DIGITS)),
    "fashion-mnist": (
        ("t-shirt", "T-shirt/top", "top", "tee"), ("trouser", "trousers", "pair of trousers"), ("pullover",),
        ("dress",), ("coat",), ("sandal", "sandals"), ("shirt",), ("sneaker", "sneakers"), ("bag",),
        ("ankle boot", "ankle boots", "boot"),
    ),
    "cifar10": (
        ("airplane", "aeroplane", "plane"), ("automobile", "car"), ("bird",), ("cat",), ("deer",), ("dog",),
        ("frog",), ("horse",), ("ship",), ("truck",),
    ),
}  # fmt: skip
