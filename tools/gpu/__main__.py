"""`python -m tools.gpu STEP...`, `missing` and `hours`; tools/gpu_session.sh installs what is needed first."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tools.gpu.common import OTHER, ROOT, STEPS, Records, Setting, run, say
from tools.gpu.packages import missing

LIMIT = 540.0  # seconds of one call


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="tools/gpu_session.sh", description=__doc__)
    parser.add_argument("what", nargs="+", choices=(*STEPS, "all", "missing"), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--out", default=os.environ.get("OUT", str(ROOT / "build" / "gpu")), help="where records go")
    parser.add_argument("--rehearse", action="store_true", help="every step at a tiny size, on the CPU")
    parser.add_argument("--device", default="", help="cuda (default); of --rehearse: cpu (default) or other")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="time for the whole call")
    parser.add_argument("--begun", type=float, default=0.0, help="when the call began, in seconds since 1970")
    asked = parser.parse_args()
    if asked.what == ["missing"]:
        print(" ".join(missing()))
        return
    if asked.device == OTHER and not asked.rehearse:
        parser.error("--device other: found no --rehearse; only a rehearsal has the simulated device")
    setting = make_setting(asked)
    refuse_without_gpu(setting.device)
    records = Records(Path(setting.out), setting.device, setting.tiny)
    for step in STEPS if "all" in asked.what else asked.what:
        run(step, setting, records)
    failed = {step: list(record["failed"]) for step, record in records.data["steps"].items() if record["failed"]}
    say(f"records: {records.path}; failed: {failed or 'none'}; {setting.left:.0f} s left")
    sys.exit(1 if failed else 0)


def refuse_without_gpu(device: str) -> None:
    """Ends the program with code 2 and one line where torch cannot use the GPU that the steps are for."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        say(f"no GPU: torch {torch.__version__} ({built}) finds none; allowed: a machine with an NVIDIA GPU and its "
            "driver, or --rehearse, which runs every step at a tiny size on the CPU")  # fmt: skip
        sys.exit(2)


def make_setting(asked: argparse.Namespace) -> Setting:
    """The Setting of the command line."""
    device = asked.device or ("cpu" if asked.rehearse else "cuda")
    until = (asked.begun or time.time()) + asked.seconds
    work = os.environ.get("GPU_WORK", str(ROOT / "build" / f"gpu-work{'-tiny' if asked.rehearse else ''}"))
    return Setting(device, asked.rehearse, str(Path(asked.out).resolve()), work, until)


if __name__ == "__main__":
    main()
