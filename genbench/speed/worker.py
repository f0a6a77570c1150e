"""A process that builds models and times their drawing; it receives commands as lines of JSON (see client).

It is run as a file, with the genbench of some revision on the path, and times that revision. It therefore imports only
names that every revision has: genbench.load_model, genbench.contract and genbench.draw.draw_block. Only `profile`
imports genbench.speed, and it never runs under another revision.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

SEED = 0


class Bench:
    """Holds one model and times its drawing; each public method except draw and condition is a command."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self.model: Any = None

    def build(self, subject: dict[str, Any]) -> dict[str, Any]:
        """Builds a subject and draws one image; answers with the seconds that the image took."""
        from genbench import load_model
        from genbench.contract import DataSpec

        self.subject, self.model = subject, None
        release_memory(self.device)
        weights, (key, strip) = subject["weights"], subject.get("part", ("", ""))
        self.model = load_model(
            subject["name"], data=DataSpec(**subject["spec"]), source=subject["source"], folder=Path(subject["folder"]),
            sampler=subject["sampler"], weights=Path(weights) if weights else None, key=key, strip=strip,
            seed=SEED, **subject["config"],
        ).to(self.device)  # fmt: skip
        start = time.perf_counter()
        self.draw(1)
        return {"first_seconds": time.perf_counter() - start}

    def bind(self, cores: list[int]) -> dict[str, Any]:
        """Binds this thread, and those that it will start, to these cores; does nothing for an empty list."""
        if cores:
            os.sched_setaffinity(0, cores)
        return {}

    def draw(self, n: int) -> Any:
        """Draws n images with draw_block and returns its result; the first item is the pixels."""
        from genbench.draw import draw_block

        return draw_block(self.model, 0, SEED, n, self.subject["precision"], self.condition(n))

    def condition(self, n: int) -> Any:
        """The condition for n samples: classes or captions in turn, or noise images to translate."""
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
        """Times several calls of one batch; a call ends when its pixels are in the CPU's memory."""
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            self.draw(batch)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}

    def fingerprint(self, batch: int) -> dict[str, Any]:
        """Hashes the pixels that a call draws: equal hashes mean that two revisions draw the same images."""
        pixels = self.draw(batch)[0]
        return {"pixels": hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()}

    def profile(self, **options: Any) -> dict[str, Any]:
        """Measures the cost of the current model in detail (genbench.speed.profile)."""
        from genbench.speed.profile import profile

        return profile(self.model, self.draw, **options)


def release_memory(device: Any) -> None:
    """Frees what only reference cycles hold, and returns unused blocks to the GPU: models must not share its memory."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def serve(device: str, threads: int) -> None:
    """Answers each line of standard input with one line of standard output; the process ends with the input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a model's own output must not mix with the answers
    import torch

    if threads:
        torch.set_num_threads(threads)
    bench, lines = Bench(device), SimpleQueue[str]()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        arguments = json.loads(lines.get())
        try:
            answer = getattr(bench, arguments.pop("command"))(**arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        try:
            print(json.dumps(answer), file=answers, flush=True)
        except OSError:  # code of a model has closed the descriptor
            os._exit(1)


def _read(lines: SimpleQueue[str]) -> None:
    """Puts each line of standard input into the queue; ends the process with the input, also while a model draws."""
    try:
        for line in sys.stdin:
            lines.put(line)
    finally:
        os._exit(1)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
