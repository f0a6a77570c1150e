"""`genbench new model NAME`: a model that trains and passes `check`, and a suite that runs it, to start from."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from genbench.errors import GenbenchError
from genbench.files import write_text
from genbench.options import nearest

KINDS = ("model",)
NAME = re.compile(r"[a-z][a-z0-9_]*")
SUITE = """# Trains and scores {file}:{kind}: `genbench run {suite}`.
suite: {name}
dataset: {{name: digits}}           # or your own images: {{name: folder, path: ./images, size: 32}}
features: classifier              # for your own images: pixels, or an extractor with weights
samples: 1_000
models:
  - {{name: {file}:{kind}}}
  - {{name: vae, budget: {{images: 100_000}}}}      # a model of genbench to compare with; `genbench ls models`
metrics: [fid, kid, precision, recall, memorised, images_per_second, parameters]
"""


def write_skeleton(what: str, name: str, folder: Path) -> str:
    """Writes NAME.py and NAME.yaml into the folder and replaces no file; returns what to do next."""
    if what not in KINDS:
        raise GenbenchError(f"new: unknown '{what}'{nearest(what, KINDS) or ';'} allowed: {', '.join(KINDS)}")
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise GenbenchError(f"new model: found '{name}', allowed: lower-case letters, digits and _, e.g. my_flow")
    kind = "".join(part.capitalize() for part in name.split("_"))
    model, suite = folder / f"{name}.py", folder / f"{name}.yaml"
    for path in (model, suite):
        if path.exists():
            raise GenbenchError(f"{path}: exists already; choose another name, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(model, skeleton(kind, model.name))
    write_text(suite, SUITE.format(name=name, kind=kind, file=model.name, suite=suite.name))
    return f"{model}, {suite}: written\nnext: genbench check {model}:{kind}\n      genbench run {suite}"


def skeleton(kind: str, file: str) -> str:
    """The text of a model file whose class has the name `kind`."""
    text = (files("genbench.commands") / "skeleton.py").read_text(encoding="utf-8")
    return text.replace("{file}", file).replace("Skeleton", kind)
