"""One thread, an artefact store of its own for every benchmark, and stored results that name the kind of machine only.

Times are CPU seconds (`--benchmark-timer=time.process_time` in the Makefile): on one thread they are the wall's on a
quiet machine, and a busy neighbour changes them far less. Where the stored run comes from another kind of machine,
nothing is judged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

DIGITS = 5  # significant digits of a stored number of seconds


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path_factory.mktemp("store")))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Leaves what times depend on: no host, no path, no kernel."""
    cpu = machine_info["cpu"]
    kind = {
        "processor": f"{cpu['brand_raw']}, family {cpu.get('family')}, model {cpu.get('model')}",
        "cores": os.cpu_count(),
        "python": machine_info["python_version"].rpartition(".")[0],
        "torch": torch.__version__,
        "timer": str(config.getoption("benchmark_timer")),
    }
    machine_info.clear()
    machine_info.update(kind)


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """Nothing: the stored file's own history says when it was made."""
    return {}


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Rounds what is stored, and drops the options, which the Makefile says."""
    for stored in output_json["benchmarks"]:
        del stored["options"], stored["params"]
        stored["stats"] = {
            name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
            for name, value in stored["stats"].items()
        }


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, benchmarksession: Any, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """On another kind of machine than the stored run's, says so and opens the gate."""
    stored = compared_benchmark["machine_info"]
    differ = [f"{name} {stored.get(name)} there, {found} here" for name, found in machine_info.items()
              if stored.get(name) != found]  # fmt: skip
    if not differ:
        return
    benchmarksession.compare_fail = []
    benchmarksession.logger.error(
        f"The stored run is another machine's ({'; '.join(differ)}): times do not compare and NOTHING IS JUDGED. "
        "`make bench-save KIND=...` stores a run of this one."
    )
    machine_info.update(stored)  # the plugin's own hook comes next and would warn, and warnings are errors here


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Images a second of every benchmark that says how many images a call is."""
    done = [found for found in config._benchmarksession.benchmarks if "images" in found.extra_info]
    if done:
        terminalreporter.section("images a second, median")
    for found in done:
        terminalreporter.write_line(f"{found.extra_info['images'] / found.stats.median:12,.1f}  {found.name}")
    show_contests([found.extra_info for found in config._benchmarksession.benchmarks if "aim" in found.extra_info],
                  terminalreporter.write_line)  # fmt: skip


def show_contests(contests: list[dict[str, Any]], write: Callable[[str], None]) -> None:
    """A table in Markdown of every contest with a peer: seconds, our time over the peer's, and the limit of that."""
    if not contests:
        return
    write("\n| what | ours, s | peer, s | ratio | limit | kept |\n|---|---:|---:|---:|---:|---|")
    for contest in contests:
        ours, theirs = contest["seconds"]
        ratio, limit = 1 / contest["ratio"], 1 / contest["aim"]
        kept = "yes" if ratio <= limit else "**no**"
        write(f"| {contest['what']} | {ours:.3g} | {theirs:.3g} | {ratio:.2f} | {limit:.2f} | {kept} |")
