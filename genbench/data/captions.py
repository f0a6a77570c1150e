"""One caption a class: what a text-to-image model is asked for, and what its pictures are judged against."""

from __future__ import annotations

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = (
    "t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
THINGS = (
    "an airplane", "an automobile", "a bird", "a cat", "a deer", "a dog", "a frog", "a horse", "a ship", "a truck",
)  # fmt: skip

OBJECTS = (
    "an airplane", "a bird", "a car", "a cat", "a deer", "a dog", "a horse", "a monkey", "a ship", "a truck",
)  # fmt: skip
HUNDRED = tuple(
    """apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, butterfly,
    camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile, cup,
    dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn mower,
    leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom, oak tree, orange, orchid,
    otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road,
    rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower,
    sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale,
    willow tree, wolf, woman, worm""".replace("\n", " ").split(", ")
)

CAPTIONS = {
    "digits": tuple(f"the handwritten digit {name}" for name in DIGITS),
    "fashion-mnist": tuple(f"a picture of a {name}" for name in CLOTHES),
    "cifar10": tuple(f"a photo of {name}" for name in THINGS),
    "mnist": tuple(f"the handwritten digit {name}" for name in DIGITS),
    "svhn": tuple(f"a photo of the house number {name}" for name in DIGITS),
    "stl10": tuple(f"a photo of {name}" for name in OBJECTS),
    "cifar100": tuple(f"a photo of one {' '.join(name.split())}" for name in HUNDRED),
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
    "stl10": (
        ("airplane", "aeroplane", "plane"), ("bird",), ("car", "automobile"), ("cat",), ("deer",), ("dog",),
        ("horse",), ("monkey",), ("ship",), ("truck",),
    ),
    "cifar100": tuple((" ".join(name.split()),) for name in HUNDRED),
    **dict.fromkeys(("mnist", "svhn"), tuple((str(number), name) for number, name in enumerate(DIGITS))),
}  # fmt: skip
