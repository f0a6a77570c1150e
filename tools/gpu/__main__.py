"""`python -m tools.gpu STEP...`, `missing` and `hours`; tools/gpu_session.sh installs what is needed first."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tools.gpu.common import ROOT, STEPS, Records, Setting, run, say
from tools.gpu.packages import missing

LIMIT = 540.0  # seconds of one call


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="tools/gpu_session.sh", description=__doc__)
    parser.add_argument("what", nargs="+", choices=(*STEPS, "all", "missing"), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--out", default=os.environ.get("OUT", str(ROOT / "build" / "gpu")), help="where records go")
    parser.add_argument("--rehearse", action="store_true", help="every step at a tiny size, on the CPU")
    parser.add_argument("--device", default="", help="cuda (default), cpu (default of --rehearse) or other")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="time for the whole call")
    parser.add_argument("--begun", type=float, default=0.0, help="when the call began, in seconds since 1970")
    asked = parser.parse_args()
    if asked.what == ["missing"]:
        print(" ".join(missing()))
        return
    setting = make_setting(asked)
    records = Records(Path(setting.out), setting.device, setting.tiny)
    for step in STEPS if "all" in asked.what else asked.what:
        run(step, setting, records)
    failed = {step: list(record["failed"]) for step, record in records.data["steps"].items() if record["failed"]}
    say(f"records: {records.path}; failed: {failed or 'none'}; {setting.left:.0f} s left")
    sys.exit(1 if failed else 0)


def make_setting(asked: argparse.Namespace) -> Setting:
    """The Setting of the command line."""
    device = asked.device or ("cpu" if asked.rehearse else "cuda")
    until = (asked.begun or time.time()) + asked.seconds
    work = os.environ.get("GPU_WORK", str(ROOT / "build" / f"gpu-work{'-tiny' if asked.rehearse else ''}"))
    return Setting(device, asked.rehearse, str(Path(asked.out).resolve()), work, until)


if __name__ == "__main__":
    main()
