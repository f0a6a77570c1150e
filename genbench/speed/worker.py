"""A process that builds models and times their drawing, told what to do by lines of JSON (see client).

It is run as a file with some tree's genbench on the path, and times that tree, which may be an older revision. So it
imports nothing of genbench.speed, except to profile, and of the rest only names that do not move.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SEED = 0


class Bench:
    """One model at a time, with what its drawing needs."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self.model: Any = None

    def build(self, subject: dict[str, Any]) -> dict[str, Any]:
        """Builds a subject and draws one image, whose seconds are the answer."""
        from genbench import load_model
        from genbench.contract import DataSpec

        self.subject, self.model = subject, None
        release_memory(self.device)
        weights = subject["weights"]
        self.model = load_model(
            subject["name"], data=DataSpec(**subject["spec"]), source=subject["source"], folder=Path(subject["folder"]),
            sampler=subject["sampler"], weights=Path(weights) if weights else None, seed=SEED, **subject["config"],
        ).to(self.device)  # fmt: skip
        start = time.perf_counter()
        self.draw(1)
        return {"first_seconds": time.perf_counter() - start}

    def bind(self, cores: list[int]) -> dict[str, Any]:
        """Has this thread, and those it starts from now on, work on these cores alone; on any where none are given."""
        if cores:
            os.sched_setaffinity(0, cores)
        return {}

    def draw(self, n: int) -> Any:
        """One drawing call of n images: what draw_block returns, the first item being the pixels."""
        from genbench.draw import draw_block

        return draw_block(self.model, 0, SEED, n, self.subject["precision"], self.condition(n))

    def condition(self, n: int) -> Any:
        """What n samples are asked to show: classes or captions in turn, or images of noise to translate."""
        import torch

        from genbench.contract import ClassConditional, Condition, TextConditional, Translates

        data, captions = self.model.data, self.subject["captions"]
        if isinstance(self.model, Translates):
            noise = torch.rand(n, *data.shape, generator=torch.Generator().manual_seed(SEED))
            return Condition(images=(2 * noise - 1).to(self.device))
        if isinstance(self.model, ClassConditional):
            return Condition(torch.arange(n, device=self.device) % data.classes)
        if isinstance(self.model, TextConditional):
            return Condition(texts=tuple(captions[i % len(captions)] for i in range(n)))
        return None

    def slice(self, batch: int, calls: int) -> dict[str, Any]:
        """Seconds of each of several calls of one batch; a call ends with its pixels in the memory of the CPU."""
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            self.draw(batch)
            taken.append(time.perf_counter() - start)
        return {"seconds": taken}

    def fingerprint(self, batch: int) -> dict[str, Any]:
        """A hash of the pixels that a call draws: equal where two revisions draw the same images."""
        pixels = self.draw(batch)[0]
        return {"pixels": hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()}

    def profile(self, **options: Any) -> dict[str, Any]:
        """Everything about the cost of the model that stands built (genbench.speed.profile)."""
        from genbench.speed.profile import profile

        return profile(self.model, self.draw, **options)


def release_memory(device: Any) -> None:
    """Frees what only reference cycles hold, and returns unused blocks to the GPU: models must not share its memory."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def serve(device: str, threads: int) -> None:
    """Answers each line of standard input by one of standard output, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model's code prints must not stand between the answers
    import torch

    if threads:
        torch.set_num_threads(threads)
    bench = Bench(device)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(bench, command.pop("do"))(**command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
