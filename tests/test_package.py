"""What a user gets who installs the wheel: suites by name, types, the program and the Python names."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import genbench
from genbench.report.result import read_result
from genbench.runner.run import run

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "reports" / "reference" / "digits"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of an environment in which the wheel is installed, beside this environment's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    return folder / "bin" / "python"


def test_the_wheel_has_suites_models_types_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    suites = {f"genbench/suites/{path.name}" for path in (ROOT / "suites").glob("*.yaml")}
    assert suites <= set(names)
    assert {"genbench/py.typed", "zoo/py.typed", "zoo/vae.py", "genbench/report/templates/leaderboard.css"} <= set(
        names
    )
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "suites/"))]


def test_an_installed_genbench_plans_a_shipped_suite_in_any_folder(installed, tmp_path):
    def genbench(*arguments: str) -> subprocess.CompletedProcess:
        command = [str(installed), "-m", "genbench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"HOME": str(tmp_path)})

    done = genbench("plan", "smoke", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("smoke: ")
    assert "digits " in genbench("ls", "suites").stdout
    assert genbench("--version").stdout.startswith("genbench ")


@pytest.mark.slow  # mypy reads torch's types
def test_a_type_checker_sees_the_types_and_unknown_names(installed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import genbench\n"
        "reveal_type(genbench.run('digits'))\n"
        "reveal_type(genbench.read_result('x').records)\n"
        "genbench.rum('digits')\n"
        "from zoo.vae import VAE\n"
        "reveal_type(VAE.encode)\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", str(installed), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert 'script.py:2: note: Revealed type is "genbench.report.result.Result"' in done.stdout, done.stdout
    assert "genbench.records.Record" in done.stdout.splitlines()[1]
    assert 'script.py:4: error: Module has no attribute "rum"' in done.stdout
    assert re.search(r'script.py:6: note: Revealed type is "def \(.*VAE, .*Tensor\) -> .*Tensor"', done.stdout)


def test_the_public_names_exist_and_are_listed():
    assert {*genbench.__all__, "__version__"} == set(dir(genbench))
    assert all(getattr(genbench, name) is not None for name in dir(genbench))
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        genbench.rum  # noqa: B018


def test_a_result_is_read_and_shows_its_table():
    result = read_result(str(DIGITS))
    lines = repr(result).splitlines()
    assert lines[0].startswith("digits: 350 values, 0 failed; page: ")
    assert lines[1].split()[:3] == ["model", "fid", "fd_infinity"]
    vae = result.leaderboard.set_index("model").loc["vae"]
    assert any(line.split()[:2] == ["vae", f"{vae.fid:.4g}"] for line in lines)
    assert max(map(len, lines[1:])) <= 100
    assert "<td>vae</td>" in result._repr_html_()


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(genbench.GenbenchError, match="not found; `genbench run SUITE` writes it"):
        genbench.read_result(tmp_path)


def test_a_model_is_shown_in_one_line_and_run_accepts_a_shipped_name(tmp_path, monkeypatch):
    model = genbench.load_model("vae", data=genbench.DataSpec(1, 8, 8, levels=17))
    assert repr(model).startswith("VAE(1x8x8, 17 levels, ")
    assert "\n" not in repr(model)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(genbench.GenbenchError, match=r"--models: unknown 'x'.*allowed: gan, dcgan"):
        run("digits", models=["x"])
