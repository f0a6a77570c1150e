"""Steps of a training in one process and in several: seconds on the clock, and CPU seconds of process 0.

    python benchmarks/parallel_training.py [PROCESSES [STEPS [MODEL ...]]]

Images are random, 1x28x28; presets, recipes and batches are the models' own. The clock shows the speed-up only on
cores that nothing else uses; the CPU seconds show what a process computes, its messages and its waiting for them.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from genbench.contract import DataSpec
from genbench.processes.group import ALONE, Processes
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded
from genbench.team import Team
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

SPEC = DataSpec(1, 28, 28)
WARM = 2  # steps that are not timed: the first one of each player is tested against the whole batch
MODELS = ("dcgan", "vae", "ddpm", "glow")


def timed(name: str, steps: int, group: Processes = ALONE) -> tuple[float, float, int]:
    """Median seconds and median CPU seconds of a step, and the images of a step."""
    pixels = torch.randint(256, (2000, *SPEC.shape), generator=seeded(0)).to(torch.uint8)
    model = build(resolve_model(name), SPEC, {}, {}, 0).train()
    recipe = model.recipe(SPEC)
    run = Training(model, Batches(pixels, None, 256, 0), recipe, FitOptions(10**9, 0), group)
    clock, cpu = [], []
    for step in range(WARM + steps):
        started = time.perf_counter(), time.process_time()
        run.step()
        if step >= WARM:
            clock.append(time.perf_counter() - started[0])
            cpu.append(time.process_time() - started[1])
    return statistics.median(clock), statistics.median(cpu), recipe.batch


def time_too(group: Processes, name: str, steps: int) -> None:
    timed(name, steps, group)


def main() -> None:
    from parallel_training import time_too  # by this name the other processes find it

    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    names = sys.argv[3:] or MODELS
    torch.set_num_threads(1)
    print(f"{'model':14}{'batch':>6}{'1: s':>9}{'CPU s':>9}{f'{processes}: s':>9}{'CPU s':>9}{'speed-up':>10}")
    with Team(processes, "cpu") as team:
        for name in names:
            one = timed(name, steps)
            with team.call(time_too, name, steps) as group:
                several = timed(name, steps, group)
            numbers = f"{one[0]:9.3f}{one[1]:9.3f}{several[0]:9.3f}{several[1]:9.3f}{one[0] / several[0]:10.2f}"
            print(f"{name:14}{one[2]:6}{numbers}", flush=True)


if __name__ == "__main__":
    main()
