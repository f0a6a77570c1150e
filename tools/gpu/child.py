"""A process that computes items of a step: told what by its argument, it answers one line of JSON for each."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from tools.gpu.common import SHOWN, Setting, rounded


def main() -> None:
    """The program."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    order = json.loads(sys.argv[1])
    module, _, name = order["function"].partition(":")
    setting = Setting(**order["setting"])
    function = getattr(import_module(module), name)
    for item in order["names"]:
        try:
            answer = {"name": item, "value": rounded(function(setting, item, **order["options"]))}
            line = json.dumps(answer, allow_nan=False)
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            line = json.dumps({"name": item, "failure": text[:SHOWN]})
        print(line, file=answers, flush=True)


if __name__ == "__main__":
    main()
