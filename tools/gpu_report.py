"""Turns the records of tools/gpu_session.sh into tables.

    python tools/gpu_report.py build/gpu            reports/reference/gpu-<card>/, docs/gpu.md and docs/suites.md
    python tools/gpu_report.py build/gpu --print    the tables alone; a rehearsal's can only be printed

In docs/gpu.md the text between <!-- measured --> and <!-- /measured --> is replaced, in docs/suites.md that between
<!-- hours --> and <!-- /hours -->: hours of training for each recipe of suites/cifar10.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Items = dict[str, Any]
# Relative tolerances of scores, ours against torch-fidelity's: both in float32 without TF32, with batch normalisation
# folded on one side only, which moves features by 3e-7 of their norm.
SCORES = {"fid": 1e-3, "kid": 1e-2, "is": 1e-4}
BUSY = " busy"  # after what was measured while other processes computed
RATE = {"fp32": "tf32", "bf16": "bf16", "compiled": "bf16"}  # the product rate that a training variant is held against


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; numbers to the right."""
    head, rows = list(head), [list(map(str, row)) for row in rows]
    if not rows:
        return "Nothing was recorded."
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A number with a few significant digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def rates(steps: dict[str, Any]) -> dict[str, float]:
    """Floating-point operations a second of products, by precision."""
    items = steps.get("facts", {}).get("items", {})
    return {k.removeprefix("matmul-"): v["flops_per_second"] for k, v in items.items() if k.startswith("matmul-")}


def facts(items: Items, steps: dict[str, Any]) -> str:
    """The machine, and what it can do at most."""
    card, software, machine = (items.get(key, {}) for key in ("card", "software", "machine"))
    rows = [
        ("card", card.get("name")), ("driver", card.get("driver_version")), ("memory", card.get("memory.total", "-")),
        ("clocks as found", f"SM {card.get('clocks.sm', '-')}, memory {card.get('clocks.mem', '-')}"),
        ("power limit", card.get("power.limit", "-")), ("Python", software.get("python")),
        ("torch", software.get("packages", {}).get("torch")),
        ("CUDA, cuDNN", f"{software.get('cuda')}, {software.get('cudnn')}"),
        ("host", f"{machine.get('processor')}, {machine.get('cores')} cores"),
        *((f"{k} products, TFLOP/s", number(v / 1e12)) for k, v in rates(steps).items()),
    ]  # fmt: skip
    if "copy" in items:
        rows.append(("copy, GB/s read and written", number(items["copy"]["bytes_per_second"] / 1e9)))
    return table(("", ""), rows)


def tests(items: Items, steps: dict[str, Any]) -> str:
    """Conformance checks and groups of tests."""
    rows = [(k, v["passed"], 0, "") for k, v in items.items() if k.startswith("check-")]
    for name, value in items.items():
        if name.startswith("pytest-"):
            counts, failed = value["counts"], "; ".join(value["failed"]).replace("|", "\\|")
            rows.append((name, counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0), failed))
    return table(("", "passed", "failed", "which"), rows)


def smoke(items: Items, steps: dict[str, Any]) -> str:
    """By comparison: how many values, how many beyond their tolerance, and the widest."""
    rows = []
    for name, value in items.items():
        if "beyond" in value:
            beyond = "; ".join(f"{b['name']}: {b['cpu']} and {b['device']}" for b in value["beyond"])
            used = max(value["widest"].items(), key=lambda pair: pair[1], default=("-", 0.0))
            rows.append((name, len(value["values"]), len(value["beyond"]), f"{used[0]} {used[1]:.2f}", beyond))
    return table(("", "values", "beyond tolerance", "largest share of a tolerance", "which"), rows)


def speed(items: Items, steps: dict[str, Any]) -> str:
    """Drawing: a row for each model, size and variant."""
    rows = [
        (name, f"{number(v['images_per_second'])}{BUSY if v.get('busy') else ''}", v["best_batch"],
         number(1e3 * v["latency_seconds"]),
         number(v["sweep"][-1][2]), "-" if v["network_share"] is None else f"{v['network_share']:.0%}",
         number(v["joules_per_image"]), number(v["compile_seconds"]))
        for name, v in items.items()
    ]  # fmt: skip
    return table(("", "images/s", "at batch", "one image, ms", "MiB, largest batch", "in networks", "J/image",
                  "compiling, s"), rows)  # fmt: skip


def train(items: Items, steps: dict[str, Any]) -> str:
    """Training: images a second, and the share of the measured product rate that is used."""
    measured, rows = rates(steps), []
    for name, v in items.items():
        rate = measured.get(RATE[name.rpartition("-")[2]])
        used = "-" if not rate else f"{v['flops_per_second'] / rate:.1%}"
        row = (name, v["batch"], number(v["images_per_second"]), number(v["flops_per_image"] / 1e9), used)
        rows.append((*row, number(v["peak_mib"])))
    return table(("", "batch", "images/s", "GFLOP/image", "utilisation", "MiB at peak"), rows)


def peers(items: Items, steps: dict[str, Any]) -> str:
    """Contests: images a second of both, and the ratio."""
    rows = [
        (name, v["images"], *map(number, v["images_per_second"]), f"{v['ratio'][1]:.2f}",
         f"{v['ratio'][0]:.2f} to {v['ratio'][2]:.2f}", v["rounds"])
        for name, v in items.items()
    ]  # fmt: skip
    return table(("", "images a call", "ours, images/s", "theirs", "ratio", "quartiles", "rounds"), rows)


def score(items: Items, steps: dict[str, Any]) -> str:
    """Two implementations of a score, and the set-level metrics at full size."""
    ours = items.get("ours", {}).get("values", {})
    scored = [
        (k, f"{v['images']:,}", number(v["seconds"]), *(_or_dash(v["values"].get(m)) for m in SCORES), off(ours, v, k))
        for k, v in items.items() if "values" in v
    ]  # fmt: skip
    sets = [(k, f"{v['rows']:,} x {v['width']:,}", number(v["seconds"])) for k, v in items.items() if "rows" in v]
    head = ("", "images", "s", *SCORES, "ours differ, in tolerances")
    return f"{table(head, scored)}\n\n{table(('', 'features', 's'), sets)}"


def off(ours: dict[str, float], theirs: dict[str, Any], name: str) -> str:
    """The largest difference of a value from ours, divided by its tolerance: above 1 the two disagree."""
    if name != "theirs-fp32" or not ours:
        return ""
    shares = [abs(v - ours[m]) / (SCORES[m] * abs(v)) for m, v in theirs["values"].items() if m in ours and v]
    return f"{max(shares, default=0.0):.2g}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def fashion(items: Items, steps: dict[str, Any]) -> str:
    """How far the suite came; its results are in an archive of their own."""
    failed = steps["fashion"]["failed"]
    return "\n".join([*(v["cells"] for v in items.values()), *failed.values()]) or "Nothing was recorded."


def gate(items: Items, steps: dict[str, Any]) -> str:
    """Comparisons of identical code and of a planted slowdown."""
    rows = [
        (name, f"{v['planted']:.0%}", f"{v['ratio']:.4f}", f"{v['interval'][0]:.4f} to {v['interval'][1]:.4f}",
         v["rounds"], f"refused,{BUSY}" if v.get("busy") else "closed" if v["closed"] else "open")
        for name, v in items.items()
    ]  # fmt: skip
    return table(("", "planted", "ratio", "interval", "rounds", "gate"), rows)


def hours(steps: dict[str, Any]) -> str:
    """Hours of training for each recipe of suites/cifar10.yaml, at the measured images a second."""
    items = steps.get("train", {}).get("items", {})
    names = [name.removesuffix("-cifar10-fp32") for name in items if name.endswith("-cifar10-fp32")]
    rows = []
    for name in names:
        found = {v: items.get(f"{name}-cifar10-{v}") for v in RATE}
        budget = found["fp32"]["budget_images"]
        taken = [number(budget / f["images_per_second"] / 3600) if f else "-" for f in found.values()]
        rows.append((name, f"{budget:,}", *taken))
    return table(("recipe", "images", "fp32, hours", "bf16, hours", "compiled bf16, hours"), rows)


SECTIONS: dict[str, tuple[str, Callable[[Items, dict[str, Any]], str]]] = {
    "facts": ("The machine", facts), "tests": ("Tests", tests), "smoke": ("The smoke suites beside the CPU's", smoke),
    "speed": ("Drawing", speed), "train": ("Training", train), "peers": ("Against peers", peers),
    "score": ("Scores", score), "fashion": ("Fashion-MNIST", fashion), "gate": ("The speed gate", gate),
}  # fmt: skip


def tables(data: dict[str, Any]) -> str:
    """Every step's table, with what failed and what was not reached."""
    steps, parts = data["steps"], []
    if data["rehearsal"]:
        parts.append(f"A rehearsal at a tiny size on '{data['device']}': these numbers say nothing about a GPU.")
    for name, (title, show) in SECTIONS.items():
        if name in steps:
            step = steps[name]
            failed = [f"- failed: {item}: {why}" for item, why in step["failed"].items()]
            ended = "" if step["complete"] or failed else ", not finished"
            parts += [f"## {title}", f"Step `{name}`, {step['seconds']:.0f} s{ended}.", show(step["items"], steps)]
            parts += ["\n".join(failed)] if failed else []
    return "\n\n".join(parts)


def between(path: Path, name: str, text: str) -> None:
    """Replaces what stands between two markers of a file. Raises SystemExit where they are missing."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    old = path.read_text()
    if not pattern.search(old):
        raise SystemExit(f"{path}: found no <!-- {name} --> ... <!-- /{name} -->")
    path.write_text(pattern.sub(lambda m: f"{m[1]}{text}\n{m[2]}", old))


def write(folder: Path, root: Path) -> Path:
    """Writes the report's folder and both documents. Raises SystemExit for a rehearsal."""
    data = json.loads((folder / "records.json").read_text())
    if data["rehearsal"] or data["device"] != "cuda":
        raise SystemExit(f"{folder}: a rehearsal on '{data['device']}', not a GPU's records; --print shows its tables")
    steps = data["steps"]
    card = re.sub(r"[^a-z0-9]+", "-", steps["facts"]["items"]["card"]["name"].lower()).strip("-")
    target = root / "reports" / "reference" / f"gpu-{card}"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "records.json", target / "records.json")
    text = tables(data)
    (target / "README.md").write_text(f"# Measured on {steps['facts']['items']['card']['name']}\n\n{text}\n")
    summary = [facts(steps["facts"]["items"], steps), f"All tables: [reports/reference/{target.name}]"
               f"(../reports/reference/{target.name}/README.md)."]  # fmt: skip
    between(root / "docs" / "gpu.md", "measured", "\n\n".join(summary))
    between(root / "docs" / "suites.md", "hours", hours(steps))
    return target


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with records.json")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the tables, write nothing")
    asked = parser.parse_args()
    if asked.only_print:
        data = json.loads((asked.folder / "records.json").read_text())
        print(f"{tables(data)}\n\n{hours(data['steps'])}")
        return
    print(write(asked.folder, ROOT))


if __name__ == "__main__":
    main()
