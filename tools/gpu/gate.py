"""Step `gate`: does `genbench speed --base` hold on this device? Identical code five times, then a planted slowdown.

Each item is the comparison that the command makes for a suite of one model (tools/speed_proof.py): two processes, A B B
A by chance, rounds until the question is answered. The gate must stay open for identical code and close at 5 %.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from tools.gpu.common import Part, Setting, each
from tools.gpu.devices import torch_device

PLANTED = 0.05
MODELS = {"vae": "vae:VAE", "ddim": "ddim:DDIM"}
SECONDS, TINY_SECONDS = 45.0, 1.0
SPEC = {"channels": 1, "height": 28, "width": 28, "levels": 256, "classes": 10}


def parts(setting: Setting) -> list[Part]:
    """Five comparisons of identical code and two with the slowdown."""
    names = ["vae-alike-0", "vae-planted-0"]
    if not setting.tiny:
        names += ["vae-alike-1", "ddim-alike-2", "vae-alike-3", "ddim-alike-4", "ddim-planted-1"]
    return each(names, "tools.gpu.gate:compared", seconds=SECONDS + 10)


def compared(setting: Setting, item: str) -> dict[str, Any]:
    """One comparison: the ratio B / A with its interval, rounds, verdict, and whether the gate closed."""
    from genbench.speed.paired import Options, compare_one
    from genbench.speed.subjects import TimedModel
    from tools.speed_proof import MODEL, TOLERANCE_PAIRED

    model, kind, number = item.split("-")
    module, _, name = MODELS[model].partition(":")
    share = PLANTED if kind == "planted" else 0.0
    seconds = TINY_SECONDS if setting.tiny else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        trees = Path(folder).resolve() / "a", Path(folder).resolve() / "b"
        for tree, planted in zip(trees, (0.0, share), strict=True):
            tree.mkdir()
            (tree / "model.py").write_text(MODEL.format(module=module, kind=name, share=planted))
        sampler = {"steps": 5} if model == "ddim" else {}
        subject = TimedModel("planted", "planted", "model.py:Planted", str(trees[1]), {}, sampler, "fp32", SPEC)
        options = Options(str(torch_device(setting.device)), 1, 64, TOLERANCE_PAIRED, seed=int(number), shorten=True)
        comparison = compare_one(subject, trees, options, 1, time.monotonic() + seconds, lambda line: None)
    ratio = comparison.ratio
    assert ratio is not None
    return {
        "planted": share, "tolerance": TOLERANCE_PAIRED, "batch": comparison.batch, "ratio": ratio.value,
        "interval": [ratio.lo, ratio.hi], "rounds": ratio.n, "verdict": comparison.verdict, "busy": comparison.busy,
        "closed": comparison.closes(TOLERANCE_PAIRED),
    }  # fmt: skip
