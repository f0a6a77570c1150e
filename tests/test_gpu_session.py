"""What is prepared for a GPU: short steps rehearsed, calls continued and limited, the report of stored records."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genbench import space
from genbench.space import seeded
from tools import gpu_report
from tools.gpu import common, devices, smoke, speed, train
from tools.gpu.common import Part, Records, Setting
from tools.gpu.subjects import of_cifar10

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "gpu_records"


@pytest.fixture
def setting(tmp_path):
    return Setting("cpu", True, str(tmp_path / "out"), str(tmp_path / "work"), time.time() + 100)


def session(out: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    places = {"PYTHON": sys.executable, "OUT": str(out), "GPU_PACK": str(out / "none"), "GPU_WORK": str(out / "work")}
    command = ["bash", str(ROOT / "tools" / "gpu_session.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **places, **variables})


def rehearsed(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return session(out, "--rehearse", *arguments)


def test_without_a_gpu_it_ends_at_once_with_one_line(tmp_path):
    done = session(tmp_path, "facts", "tests", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"no GPU: torch {torch.__version__} (built")
    assert "--rehearse" in line
    assert not (tmp_path / "records.json").exists()


def test_only_a_rehearsal_has_the_simulated_device(tmp_path):
    done = session(tmp_path, "--device", "other", "facts")
    assert done.returncode == 2
    assert "--device other: found no --rehearse" in done.stdout


def test_worker_processes_have_the_simulated_device_too(setting):
    """One that genbench starts, and one that is forked from a server, as those of `genbench run` are."""
    code = """
from genbench.machine import choose_device, use_threads
from genbench.reasons import explain
from genbench.runner.launcher import Task
from genbench.runner.pool import Pool
from genbench.speed.client import Worker

def product(report):
    import torch
    x = torch.ones(2, 2, device=choose_device("other"))
    return str((x @ x).device), (x @ x).cpu().sum().item()

if __name__ == "__main__":
    subject = {"name": "gan", "label": "gan", "source": None, "folder": ".", "config": {}, "sampler": {}, "precision":
               "bf16", "spec": {"channels": 1, "height": 8, "width": 8}, "captions": [], "weights": None}
    with Worker(choose_device("other"), 1) as worker:
        assert worker.request("build", subject=subject)["first_seconds"] > 0
        assert worker.request("slice", batch=2, calls=1)["seconds"]
    import planted_task
    pool = Pool(1, 1, use_threads, explain)
    pool.run([Task("t", planted_task.product, ())], print, lambda task, outcome: print("found", outcome))
"""
    work = Path(setting.work)
    work.mkdir()
    (work / "planted_task.py").write_text(code)
    variables = common.variables(replace(setting, device="other"))
    variables["PYTHONPATH"] += f"{os.pathsep}{work}"
    done = subprocess.run([sys.executable, work / "planted_task.py"], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "found Outcome(result=('lazy:0', 8.0), failure='')" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("device", ["cpu", "other"])
def test_a_short_step_is_rehearsed_and_skipped_when_it_is_there(tmp_path, device):
    done = rehearsed(tmp_path, "--device", device, "facts")
    assert done.returncode == 0, done.stdout + done.stderr
    step = json.loads((tmp_path / "records.json").read_text())["steps"]["facts"]
    assert step["complete"]
    assert set(step["items"]) == {"card", "software", "machine", "copy", "matmul-fp32", "matmul-tf32", "matmul-bf16"}
    assert step["items"]["matmul-fp32"]["flops_per_second"] > 0
    assert "facts: recorded already, skipped" in rehearsed(tmp_path, "--device", device, "facts").stdout
    assert {path.name for path in tmp_path.iterdir()} == {"records.json", "log.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "other"])
def test_every_step_is_rehearsed(tmp_path, device):
    done = rehearsed(tmp_path, "--device", device, "--seconds", "3600", "all")
    assert done.returncode == 0, done.stdout[-3000:]
    steps = json.loads((tmp_path / "records.json").read_text())["steps"]
    assert [name for name, step in steps.items() if not step["complete"]] == []


def test_items_of_the_longer_steps(setting):
    trained = train.timed(setting, "gan-28-fp32")
    assert trained["images_per_second"] > 0
    # A product with weights takes 2 operations a weight and image, its gradients as many again for each factor.
    assert 2 * trained["parameters"] < trained["flops_per_image"] < 12 * 2 * trained["parameters"]
    drawn = speed.profiled(setting, "gan-28-fp32")
    assert drawn["images_per_second"] > 0
    assert drawn["sweep"][0][0] == 1


def test_records_of_a_rehearsal_and_of_a_gpu_do_not_mix(tmp_path):
    Records(tmp_path, "cpu", True).write()
    with pytest.raises(SystemExit, match="choose another --out"):
        Records(tmp_path, "cuda", False)


def test_missing_packages_are_one_line(tmp_path, monkeypatch):
    from tools.gpu import packages

    monkeypatch.setattr(packages, "installed", lambda name: name not in ("typer", "torch-fidelity"))
    assert packages.missing() == ["torch-fidelity", "typer"]


def steps_of(setting, names):
    return [Part((name,), "planted:items", seconds=0.0) for name in names]


def run_items(setting, monkeypatch, *names):
    module = type(sys)("tools.gpu.planted")
    module.parts = lambda setting: steps_of(setting, names)
    monkeypatch.setitem(sys.modules, "tools.gpu.planted", module)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{EXAMPLE}")
    records = Records(Path(setting.out), setting.device, setting.tiny)
    common.run("planted", setting, records)
    return json.loads(records.path.read_text())["steps"]["planted"]


def test_an_item_that_fails_or_dies_takes_no_other_with_it_and_is_tried_again(setting, monkeypatch):
    step = run_items(setting, monkeypatch, "first", "fails", "dies", "last")
    assert step["items"] == {"first": {"is": "first"}, "last": {"is": "last"}}
    assert step["failed"] == {"fails": "ValueError: no such luck", "dies": "its process ended with code 3"}
    assert not step["complete"]
    step = run_items(setting, monkeypatch, "first", "last")
    assert step["complete"]


def test_an_item_that_does_not_end_is_stopped_in_time(setting, monkeypatch):
    short = Setting(setting.device, True, setting.out, setting.work, time.time() + 4)
    step = run_items(short, monkeypatch, "first", "hangs", "last")
    assert step["items"] == {"first": {"is": "first"}}
    assert (step["failed"], step["complete"]) == ({}, False)


def test_tf32_keeps_ten_bits_and_rounds_to_the_nearest():
    step = 2.0**-10
    x = torch.tensor([1.0, 1 + step, 1 + 0.49 * step, 1 + 0.51 * step, -1 - 0.51 * step, 3.0e38, float("inf")])
    expected = torch.tensor([1.0, 1 + step, 1.0, 1 + step, -1 - step, 3.0e38, float("inf")])
    assert torch.equal(devices.tf32(x)[:5], expected[:5])
    assert torch.allclose(devices.tf32(x)[5], expected[5], rtol=2.0**-11)
    assert devices.tf32(x)[6] == float("inf")
    assert devices.tf32(x.double()).equal(x.double())


def test_products_are_rounded_in_training_and_in_inference():
    gen = seeded(0)
    layer, x = torch.nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8, generator=gen)
    exact = layer(x)
    rounded = torch.nn.functional.conv2d(devices.tf32(x), devices.tf32(layer.weight), layer.bias)
    for mode in (torch.enable_grad, torch.inference_mode):
        with devices.RoundedProducts(), mode():
            got = layer(x)
        assert 1e-5 < (got - exact).abs().max() < 1e-2
        assert torch.allclose(got, rounded, atol=3e-4)  # the bias is not rounded there


def test_random_numbers_for_a_gpu_are_drawn_by_the_cpu(monkeypatch):
    """The meta device stands for a GPU: like one, it has no generator of the CPU's kind and holds other tensors."""
    monkeypatch.setattr(devices, "GPU", "meta")
    with devices.random_numbers_of_the_cpu(torch.device("meta")):
        gen, plain = space.seeded(3, "meta"), space.seeded(3)
        assert (gen.device.type, plain.device.type) == ("meta", "cpu")
        drawn = [torch.randn(5, generator=gen, device=gen.device)]
        drawn.append(torch.randint(9, (4,), generator=gen, device=gen.device))
        host = [torch.randn(5, generator=plain)]
        host.append(torch.randint(9, (4,), generator=plain))
    assert [(x.device.type, x.shape, x.dtype) for x in drawn] == [("meta", x.shape, x.dtype) for x in host]
    assert torch.equal(gen.get_state(), plain.get_state())
    assert space.seeded(0).device.type == "cpu"


def test_a_value_beyond_its_tolerance_is_named():
    cpu = {"gan/digits/s0 fid": 100.0, "gan/digits/s0 precision": 0.5, "vae/digits/s0 bits_per_dim": 3.0}
    device = {"gan/digits/s0 fid": 100.9, "gan/digits/s0 precision": 0.45, "vae/digits/s0 bits_per_dim": 3.0}
    rows = {row["name"]: row["share"] for row in smoke.beside(cpu, device, "weights")}
    assert rows["gan/digits/s0 fid"] == pytest.approx(0.9 / 1.0005)
    assert rows["gan/digits/s0 precision"] == pytest.approx(2.5)
    assert rows["vae/digits/s0 bits_per_dim"] == 0
    missing = smoke.beside(cpu, {}, "weights")
    assert all(row["share"] > 1 for row in missing)
    assert smoke.beside(cpu, device, "plain") == []  # no scale row among them
    scale = {"scale held-out real/digits/s0 fid": 0.5}
    assert [row["share"] for row in smoke.beside(cpu | scale, device | scale, "plain")] == [0]


def test_recipes_of_cifar10_are_the_suites():
    found = of_cifar10()
    assert (found["ddpm"].images, found["ddpm"].recipe.batch) == (800_000 * 128, 128)
    assert (found["realnvp"].images, found["realnvp"].recipe.lr, found["realnvp"].config["blocks"]) == (
        25_000_000,
        1e-3,
        8,
    )
    assert all(what.images > 0 for what in found.values())


def documents(root: Path) -> None:
    for name in ("gpu.md", "suites.md"):
        (root / "docs").mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "docs" / name, root / "docs" / name)


def test_a_report_of_stored_records(tmp_path):
    documents(tmp_path)
    target = gpu_report.write(EXAMPLE, tmp_path)
    assert target == tmp_path / "reports" / "reference" / "gpu-example-card-80gb"
    text = (target / "README.md").read_text()
    assert text.startswith("# Measured on Example Card 80GB\n")
    assert "| bf16 products, TFLOP/s | 800 |" in text
    assert "| ddpm-cifar10-bf16 | 128 | 4,000 | 40 | 20.0% | 9,000 |" in text  # 4000 x 40e9 / 800e12
    assert "- failed: ddpm-cifar10-compiled: its process ended with code -9" in text
    assert "tests/zoo/test_x.py::test_y[a\\|b]" in text
    assert "gan/digits/s0 fid: 98.0 and 100.0" in text
    assert "| theirs-fp32 | 20,000 | 40 | 3.507 | 0.02 | 1.01 | 2 |" in text  # 0.007 / (1e-3 x 3.507)
    suites = (tmp_path / "docs" / "suites.md").read_text()
    assert "| ddpm | 102,400,000 | 14.2 | 7.11 | - |" in suites  # 102.4e6 / 2000 / 3600
    assert "Example Card 80GB" in (tmp_path / "docs" / "gpu.md").read_text()
    again = (tmp_path / "docs" / "gpu.md").read_text()
    gpu_report.write(EXAMPLE, tmp_path)
    assert (tmp_path / "docs" / "gpu.md").read_text() == again


def test_a_rehearsal_is_not_written_into_the_documents(tmp_path):
    Records(tmp_path, "cpu", True).write()
    with pytest.raises(SystemExit, match="a rehearsal on 'cpu', not a GPU's records"):
        gpu_report.write(tmp_path, tmp_path)
