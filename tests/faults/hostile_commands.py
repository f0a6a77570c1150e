"""Models and extractors that change or end their process, in every command that calls such code.

    PYTHONPATH=.:tests python tests/faults/hostile_commands.py                   # all commands
    PYTHONPATH=.:tests python tests/faults/hostile_commands.py run --whole       # each model at each time

Each one acts while its file is imported, while it is built, and while it draws (an extractor: while it extracts). The
command then works, or ends with one line and exit code 2, or with 1 where a cell or a check fails; it shows no
traceback, and calls nothing an internal error.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from faults.forked import ended
from faults.hostile import HOSTILE

SOURCE = Path(__file__).parent / "hostile.py"
WHEN = ("imported", "built", "drawn")
LARGEST = 10**6  # characters of a command's output
# The command ends before the limit, writes no file, needs no further module, and opens its output again.
UNAFFECTED = {"LimitsProcessor", "LimitsFiles", "ClearsModules", "ClosesAll", "LimitsDescriptors"}
# genbench calls the function of torch, and pickles the functions of the modules, that they replace in its own process.
AFFECTED = {"PatchesTorch", "ClearsModules"}
SIGNALS = {"Terminates": 143, "InterruptsItself": 130}  # as if somebody had sent them
MODEL = """
from faults.hostile import ACTIONS, Quiet

class Acting(Quiet):
    pass

ACTIONS["{name}"]()
"""
EXTRACTOR = """
from genbench.features.base import Extractor, ExtractorSource, Features
from faults.hostile import ACTIONS

def act(when):
    if when == "{when}":
        ACTIONS["{name}"]()

class Acting(Extractor):
    name, weights_hash = "acting", "none"

    def __call__(self, pixels, levels, batch=500):
        act("drawn")
        return Features(pixels.flatten(1).float().numpy())

def load(dataset, device, options):
    act("built")
    return Acting()

act("imported")
ACTING = ExtractorSource("pixels", load)
"""
SUITE = """suite: x
dataset: {{name: npz, path: data.npz}}
features: pixels
samples: 20
metrics: [fid]
models:
- {{name: quiet, source: {source}:Quiet}}
- {{name: hostile, source: {target}}}
"""
COMMANDS = {
    "show": "show {target} --shape 1x4x4",
    "sample": "sample {target} -n 2 --out {{}}/x.npz --shape 1x4x4",
    "cell": "sample hostile --suite {{}}/suite.yaml -n 2 --out {{}}/x.npz",
    "check": "check {target} --shape 1x4x4",
    "export": "export hostile {{}}/exported --suite {{}}/suite.yaml",
    "plan": "plan {{}}/suite.yaml",
    "score": "score {{}}/data.npz --reference {{}}/data.npz --features {extractor} --metrics fid --device cpu",
    "stats": "stats {{}}/data.npz --out {{}}/s.npz --features {extractor} --device cpu",
    "run": "run {{}}/suite.yaml --out {{}}/out --device cpu",
    "estimate": "plan --estimate {{}}/suite.yaml --device cpu",
    "speed": "speed {{}}/suite.yaml --models hostile --random-weights --device cpu",
}
NOT_DRAWN = {"show", "export"}
MEASURING = {"check", "speed"}  # end with 1 also where code harms itself


def prepared(folder: Path, name: str, when: str) -> dict[str, str]:
    """Writes a suite with the model, and an extractor; the targets of both."""
    (folder / "acting.py").write_text(MODEL.format(name=name))
    (folder / "extractor.py").write_text(EXTRACTOR.format(name=name, when=when))
    target = {"imported": f"{folder / 'acting.py'}:Acting", "built": f"{SOURCE}:{name}Built"}.get(when)
    target = target or f"{SOURCE}:{name}"
    np.savez(folder / "data.npz", images=np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    (folder / "suite.yaml").write_text(SUITE.format(source=SOURCE, target=target))
    return {"target": target, "extractor": f"{folder / 'extractor.py'}:ACTING"}


def fault(command: str, name: str, when: str, folder: Path) -> str:
    """What is wrong with how the command ended; "" for nothing."""
    targets = prepared(folder, name, when)
    code, output = ended(COMMANDS[command].format(**targets), folder)
    lines = [line for line in output.splitlines() if line.startswith("genbench: ")]
    fatal = HOSTILE[name] and (when != "drawn" or command not in NOT_DRAWN)
    allowed = {SIGNALS[name], 0} if name in SIGNALS else ({1, 2} if fatal else {0})
    allowed |= {0} if name in UNAFFECTED or (command, when) == ("estimate", "drawn") else set()
    allowed |= {1} if command in MEASURING else set()
    right = code in allowed | ({0, 1, 2} if name in AFFECTED else set()) and (code in (0, 1) or len(lines) == 1)
    right &= name in AFFECTED or "internal error" not in output
    if right and len(output) < LARGEST and "Traceback" not in output:
        return ""
    return f"{command}, {name}, {when}: exit code {code}: {output[-400:]}"


def cases(command: str, whole: bool = False) -> list[tuple[str, str]]:
    """Each model at one time, which differs among commands; with the whole at each time."""
    rng = random.Random(command)
    return [(name, when) for name in HOSTILE for when in (WHEN if whole else [rng.choice(WHEN)])]


def tried(command: str, chosen: Iterable[tuple[str, str]]) -> list[str]:
    """The faults of a command with these models and times, printed as they are found."""
    faults = []
    for name, when in chosen:
        with tempfile.TemporaryDirectory() as folder:
            if text := fault(command, name, when, Path(folder)):
                print(text, flush=True)
                faults.append(text)
    return faults


def main(*arguments: str) -> int:
    """Prints the faults and counts of each command; exits with 1 when there was a fault."""
    commands, failed = [name for name in arguments if name != "--whole"], 0
    for command in commands or COMMANDS:
        began, chosen = time.monotonic(), cases(command, "--whole" in arguments)
        faults = tried(command, chosen)
        failed += len(faults)
        print(f"{command}: {len(chosen)} tried, {len(faults)} failed, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
