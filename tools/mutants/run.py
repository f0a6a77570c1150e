"""Mutation testing with mutmut: which changes of the code no test notices; `make mutants`.

    python tools/mutants/run.py                                   every mutant of every file: days
    python tools/mutants/run.py zoo/vae.py --share 0.1            a tenth of the mutants of a file
    python tools/mutants/run.py zoo/*.py --again                  survivors once more, files of a folder together
    python tools/mutants/run.py zoo/*.py --quick --share 0.05     with the tests of all models alone, files together
    python tools/mutants/run.py --report                          only docs/mutants.md

Each file has a copy of the repository in build/mutants, in which mutmut works with the tests that belong to the file:
for zoo/ and metrics those that import it, or have its name. Of these a mutant is tested with the ones that call its
function, the fastest first, until one fails. Results go to tools/mutants/results.jsonl; what is there is not tested
again, so that an interrupted campaign continues. A sample is chosen by a hash of each mutant: a larger share contains
the smaller one. With --quick the files share one copy and the few tests that cover them all: functions that these do
not call have no result yet, and what survives may still be killed by --again, for which the files share one copy and
the tests of each of them. tools/mutants/equivalent.yaml has the survivors that no test can notice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from made import Mutant, mutants_of
from report import read_equivalent, read_results, reason, write_report, write_results

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutants"
COPIED = [
    "genbench", "zoo", "tests", "benchmarks", "suites", "examples", "docs", "tools", "pyproject.toml", "README.md",
]  # fmt: skip
MUTATED = ["zoo/*.py", "genbench/metrics/*.py", "genbench/space.py", "genbench/train/*.py", "genbench/draw/*.py"]
TRAIN = [
    "tests/test_train.py",
    "tests/test_curves.py",
    "tests/test_gradients.py",
    "tests/test_adam.py",
    "tests/test_presets.py",
    "tests/report/test_doubts.py",
]
# Where the tests of a file of this folder are; for zoo/ also the conformance checks of the model with the file's name.
TESTS = {
    "zoo": ["tests/zoo/test_*.py"],
    "genbench/metrics": ["tests/metrics/test_*.py", "tests/test_selftest.py"],
    "genbench": ["tests/test_space.py", "tests/test_draw.py", "tests/metrics/test_scale.py"],
    "genbench/train": [*TRAIN, "tests/test_halving.py", "tests/test_parallel.py"],
    "genbench/draw": [
        "tests/draw/test_*.py",
        "tests/test_draw.py",
        "tests/test_contention.py",
        "tests/test_gpu_paths.py",
        "tests/test_halving.py",
    ],
}
QUICK = {  # tests that cover every file of a folder
    "zoo": ["tests/zoo/test_settings.py", "tests/zoo/test_values.py"],
    "genbench/metrics": ["tests/metrics/test_metric_values.py"],
    "genbench": ["tests/test_space.py"],
    "genbench/train": TRAIN,
    "genbench/draw": [
        "tests/test_draw.py",
        "tests/draw/test_counting.py",
        "tests/draw/test_draw_cost.py",
        "tests/draw/test_memory.py",
        "tests/test_contention.py",
        "tests/test_gpu_paths.py",
        "tests/test_halving.py",
    ],
}
NOT_COVERED = 33  # no test calls the function
STATUS = {0: "survived", 5: "survived", 33: "survived", 1: "killed", 3: "killed", 24: "timeout", -24: "timeout",
          36: "timeout", 152: "timeout", 255: "timeout", -9: "crash", -11: "crash"}  # fmt: skip


def main() -> None:
    """Tests the mutants that were asked for and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="*", help="default: all of " + " ".join(MUTATED))
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each file, at random")
    parser.add_argument("--children", type=int, default=1, help="processes")
    parser.add_argument("--again", action="store_true", help="only mutants that survived, once more")
    parser.add_argument(
        "--quick", action="store_true", help="files of a folder together, with the few tests that they share"
    )
    parser.add_argument("--report", action="store_true", help="tests nothing")
    options = parser.parse_args()
    every = sorted(p.relative_to(ROOT).as_posix() for m in MUTATED for p in ROOT.glob(m))
    files = options.files or every
    os.chdir(ROOT)
    groups = [[f] for f in files]
    if options.quick or options.again:
        groups = [[f for f in files if folder_of(f) == folder] for folder in (QUICK if options.quick else TESTS)]
    failed = [] if options.report else [g for g in groups if g and not test(g, options)]
    write_report({file: mutants_of(file, ROOT) for file in every})
    if failed:
        sys.exit(f"no results of: {failed}; their output is above")


def test(files: list[str], options: argparse.Namespace) -> bool:
    """Tests mutants of files with the tests of all of them; whether mutmut could."""
    quick, shared = options.quick, "quick-" if options.quick else "again-" if options.again else ""
    name = f"{shared}{folder_of(files[0])}" if shared else files[0].removesuffix(".py")
    folder = WORK / name.replace("/", "-")
    harvest(files, folder, only_covered=quick)
    chosen = [m for file in files for m in wanted(file, options)]
    print(f"{' '.join(files)}: {len(chosen)} mutants to test", flush=True)
    if not chosen:
        return True
    lay(sorted({m.file for m in chosen}), folder, quick)
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(options.children)]
    done = subprocess.run(
        [*command, *(m.name for m in chosen)], cwd=folder, env=variables, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if harvest(files, folder, only_covered=quick) == 0:
        print(done.stdout.replace("\r", "\n")[-5000:], flush=True)
        return False
    return True


def wanted(file: str, options: argparse.Namespace) -> list[Mutant]:
    """The mutants of a file that the options ask for."""
    results, made = read_results(), mutants_of(file, ROOT)
    if options.again:
        survived = [m for m in made if results.get(m.key, {}).get("status") == "survived"]
        return [m for m in survived if reason(m, read_equivalent()) is None]
    return [m for m in made if m.rank < options.share and m.key not in results]


def folder_of(file: str) -> str:
    """The folder of a file, by which TESTS and QUICK name their tests."""
    return Path(file).parent.as_posix()


def lay(files: list[str], folder: Path, quick: bool) -> None:
    """Copies the repository into the folder, with mutmut's settings for the files; its timings of tests stay."""
    for name in COPIED:
        shutil.rmtree(folder / name, ignore_errors=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in ("genbench", "zoo", "tests"):
        shutil.rmtree(folder / "mutants" / name, ignore_errors=True)
    tests = QUICK[folder_of(files[0])] if quick else [*dict.fromkeys(t for file in files for t in tests_of(file))]
    settings = {"only_mutate": files, "pytest_add_cli_args_test_selection": tests}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as text:
        text.write(lines)


def tests_of(file: str) -> Iterator[str]:
    """The test files that belong to a file: those that name its module, or all of the folder where none does."""
    path = Path(file)
    near = sorted(p for pattern in TESTS[folder_of(file)] for p in ROOT.glob(pattern))
    module = path.with_suffix("").as_posix().replace("/", ".")
    named = re.compile(
        rf"(?m)^from {re.escape(module)} import|^from {module.rpartition('.')[0]} import.*\b{path.stem}\b"
    )
    shared = QUICK.get(folder_of(file), [])
    own = [p for p in near if p.stem == f"test_{path.stem}" or named.search(p.read_text(encoding="utf-8"))]
    yield from {p.relative_to(ROOT).as_posix(): None for p in [*(own or near), *(ROOT / t for t in shared)]}
    if path.parent.name == "zoo" and f'"{path.stem}":' in (ROOT / "genbench" / "builtin.py").read_text(
        encoding="utf-8"
    ):
        yield f"tests/test_check.py::test_zoo_models_conform[{path.stem}-8x8]"


def harvest(files: list[str], folder: Path, only_covered: bool) -> int:
    """Adds what mutmut wrote into the folder to the results, and removes it there; how many mutants it tested."""
    tested = 0
    for file in files:
        meta = folder / "mutants" / f"{file}.meta"
        if not meta.is_file():
            continue
        codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        known = {code: status for code, status in STATUS.items() if code != NOT_COVERED or not only_covered}
        rows = {m.key: row(m, known[codes[m.name]]) for m in mutants_of(file, folder) if codes.get(m.name) in known}
        meta.unlink()
        (folder / "mutants" / file).unlink(missing_ok=True)
        write_results(read_results() | rows)
        tested += sum(code is not None for code in codes.values())
    return tested


def row(mutant: Mutant, status: str) -> dict[str, str]:
    """What is kept of a result."""
    kept = {"key": mutant.key, "file": mutant.file, "function": mutant.function, "status": status}
    return kept if status == "killed" else {**kept, "change": mutant.change}


if __name__ == "__main__":
    main()
