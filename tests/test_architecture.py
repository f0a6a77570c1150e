"""Imports run downward only, without cycles; public names are unique; light commands import nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    "__main__",
    "cli", "commands", "estimate", "selftest", "runner", "speed", "check", "report", "evaluate", "plan", "sources",
    "adapters", "lint",
    "metrics", "features", "data", "draw", "train", "suite", "code_hash", "code_parts", "registry", "neighbours",
    "builtin", "hub", "exported",
    "store", "records", "provenance", "halving", "team", "contention", "nvml", "protocol", "keys",
    "declared", "returned", "contract", "options", "space", "processes", "dispatch", "screen", "surroundings",
    "machine", "interruption", "supervision", "progress", "reasons", "text",
    "files", "errors",
]  # fmt: skip
ZOO_MAY_IMPORT = {"genbench.contract", "genbench.space", "genbench.errors"}
ZOO_SIBLINGS = {
    "nets": set(),
    "dcgan": {"nets", "gan"},
    "ddim": {"nets", "ddpm", "denoising", "portable"},
    "cgan": {"nets", "gan", "dcgan"},
    "ddpm": {"nets", "denoising", "portable", "probability_flow"},
    "edm": {"nets", "denoising", "portable", "probability_flow", "solvers"},
    "flow_matching": {"nets", "denoising", "portable", "probability_flow", "solvers"},
    "discrete": {"ddpm", "denoising", "probability_flow"},
    "mean_flow": {"nets", "edm", "denoising", "portable", "probability_flow", "tangents"},
    "stylegan": {"gan", "nets", "stylegan_layers"},
    "flows": {"nets"},
    "glow": {"flows", "nets", "glow_networks", "glow_step"},
    "glow_networks": {"convolution"},
    "glow_step": {"convolution", "glow_networks"},
    "realnvp": {"flows", "nets"},
    "probability_flow": {"denoising"},
    "latent_diffusion": {
        "nets",
        "gan",
        "ddim",
        "ddpm",
        "denoising",
        "attention",
        "stable_diffusion",
        "portable_latent",
    },
    "portable_latent": {"attention", "portable", "stable_diffusion"},
    "vae": {"nets", "vae_likelihoods"},
}
HEAVY = ("torch", "pandas", "sklearn", "matplotlib", "numpy", "scipy")


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT / "genbench").with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    """Every module that the file's import statements name: at its top, in functions and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_graph(texts: dict[str, str]) -> dict[str, set[str]]:
    """For each module the modules that it imports; `from package import module` imports the module alone."""
    graph = {}
    for module, text in texts.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in texts else node.module for name in inside}
        graph[module] = names & texts.keys() - {module}
    return graph


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one repeated at the end; [] where there is none."""
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished:
            return []
        circles = (visit(name, [*path, module]) for name in sorted(graph[module]))
        circle = next((circle for circle in circles if circle), [])
        finished.add(module)
        return circle

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layers_imported(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imported(path) if name.startswith("genbench.")}
    return {name for name in names if name in LAYERS}


FILES = sorted(p for p in (ROOT / "genbench").rglob("*.py") if p != ROOT / "genbench" / "__init__.py")


def test_every_module_has_a_layer():
    assert {layer(p) for p in FILES} == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: Path):
    own = layer(path)
    above = [name for name in layers_imported(path) - {own} if LAYERS.index(name) < LAYERS.index(own)]
    assert not above, f"{path}: {own} must not import {above}"


def test_the_architecture_document_has_a_row_for_every_layer_in_this_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| \w", text, re.M)[: len(LAYERS)] == LAYERS


def test_files_do_not_import_each_other_in_a_circle():
    """Imports under TYPE_CHECKING count: two files that need each other's types are not separate either."""
    assert cycle(import_graph({module_name(path): path.read_text() for path in FILES})) == []


def test_a_circle_is_found_wherever_its_imports_stand():
    texts = {
        "genbench.a": "if TYPE_CHECKING:\n    from genbench.p.b import B",
        "genbench.p": "",
        "genbench.p.b": "def f():\n    from genbench.p import c",
        "genbench.p.c": "import genbench.a",
        "genbench.d": "from genbench.p.b import B",
    }
    assert cycle(import_graph(texts)) == ["genbench.a", "genbench.p.b", "genbench.p.c", "genbench.a"]
    assert cycle(import_graph(texts | {"genbench.p.c": ""})) == []
    assert cycle(import_graph(texts | {"genbench.p": "from genbench.p.c import C", "genbench.p.c": ""})) == []


def public_names(path: Path) -> set[str]:
    """The public classes and functions that a file defines at its top level."""
    defined = (ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, defined)]
    return {node.name for node in nodes if not node.name.startswith("_")}


def test_no_public_class_or_function_has_the_same_name_in_two_packages():
    """genbench.cli is left out: typer makes the names of the commands from the names of its functions."""
    packages: dict[str, set[str]] = {}
    for path in FILES:
        for name in public_names(path) if layer(path) != "cli" else ():
            packages.setdefault(name, set()).add(layer(path))
    shared = {name: sorted(where) for name, where in packages.items() if len(where) > 1}
    assert shared == {}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_genbench_never_imports_the_zoo(path: Path):
    assert not {name for name in imported(path) if name.split(".")[0] == "zoo"}


@pytest.mark.parametrize("path", sorted((ROOT / "zoo").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_zoo_stands_on_contract_and_space_alone(path: Path):
    modules = {n for n in imported(path) if n.startswith("genbench.") and n.count(".") == 1}
    assert modules <= ZOO_MAY_IMPORT
    siblings = {n.split(".")[1] for n in imported(path) if n.startswith("zoo.")}
    assert siblings <= ZOO_SIBLINGS.get(path.stem, {"nets"})


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom genbench.cli import app\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_of_workers_begins_before_torch_is_imported():
    code = (
        "import sys\nfrom genbench.runner import early\nfrom genbench.suite.schema import read_suite\n"
        f"read_suite('digits')\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_finished_suite_is_recognised_without_libraries_of_tables():
    code = "import sys, genbench.runner.run; print([m for m in ('pandas', 'scipy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
