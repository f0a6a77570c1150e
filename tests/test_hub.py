"""Repositories of a hub: taken from its cache, pinned once, downloaded only where that is allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest

from genbench import data, hub
from genbench.errors import ModelError, SuiteError
from genbench.plan.planner import make_plan
from genbench.registry import resolve_model
from genbench.sources.build import build, write_weights
from genbench.suite.schema import Suite, read_suite

pytest.importorskip("huggingface_hub", reason="an optional source")

FIRST, SECOND = "a" * 40, "b" * 40
SPEC = data.load({"name": "digits"}).spec
SUITES = Path(__file__).parent.parent / "suites"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("GENBENCH_DOWNLOAD", raising=False)
    return tmp_path / "hub"


def put(cache: Path, name: str, revision: str, files: dict[str, bytes]) -> Path:
    """A repository in the layout of the hub's cache, with this revision as main."""
    root = cache / f"models--{name.replace('/', '--')}"
    folder = root / "snapshots" / revision
    for file, content in files.items():
        blob = root / "blobs" / f"{revision}-{file.replace('/', '-')}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    return folder


def weights(tmp_path: Path, seed: int) -> bytes:
    write_weights(build(resolve_model("vae"), SPEC, {}, {}, seed), tmp_path / "w.safetensors")
    return (tmp_path / "w.safetensors").read_bytes()


def suite(weights: str) -> Suite:
    models = [{"name": "vae", "weights": weights}]
    return Suite.model_validate({"suite": "s", "dataset": {"name": "digits"}, "models": models, "metrics": ["fid"]})


def test_a_name_is_pinned_to_the_revision_that_the_cache_has(cache, tmp_path):
    put(cache, "me/vae", FIRST, {"model.safetensors": weights(tmp_path, 0)})
    first = make_plan(suite("hub:me/vae"))
    assert first.suite.models[0].weights.file == f"hub:me/vae@{FIRST}"
    put(cache, "me/vae", SECOND, {"model.safetensors": weights(tmp_path, 1)})
    keys = [make_plan(s).cells[0].samples_key for s in (first.suite, suite("hub:me/vae"))]
    assert keys[0] == first.cells[0].samples_key
    assert keys[1] != keys[0]
    source = first.cells[0].source
    assert source.revision == f"hub:me/vae@{FIRST}"
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(source.file.read_bytes())
    assert make_plan(suite(str(folder))).cells[0].source.content == source.content


def test_what_is_not_there_is_not_downloaded_without_leave(cache):
    with pytest.raises(
        SuiteError,
        match=r"models\[0\]\.weights: me/none: revision main is not in the cache .* `genbench run SUITE --download`",
    ):
        make_plan(suite("hub:me/none"))
    with pytest.raises(ModelError, match="no name of the hub, allowed: owner/name"):
        hub.hub_folder("../../etc")


def test_a_pipeline_of_the_hub_is_its_snapshot(cache, tmp_path):
    pytest.importorskip("diffusers")
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    put(cache, "me/ddpm", FIRST, {"model_index.json": json.dumps(index).encode()})
    models = [{"name": "theirs", "source": "diffusers:me/ddpm"}]
    from genbench.plan.pins import pinned_suite

    raw = {"suite": "s", "dataset": {"name": "digits"}, "models": models, "metrics": ["fid"]}
    pinned = pinned_suite(Suite.model_validate(raw)).models[0].source
    assert pinned == f"diffusers:me/ddpm@{FIRST}"
    kind = resolve_model("theirs", pinned, tmp_path)
    assert kind.beside(kind.files(None)[0]).name == FIRST


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs: repositories with a few files."""

    files = {"model.safetensors": b"tensors", "config.json": b"{}", "run.sh": b"no"}
    pipeline = {
        "model_index.json": b"{}", "all.safetensors": b"again", "unet/w.safetensors": b"tensors", "unet/c.json": b"{}",
        "safety_checker/w.safetensors": b"no",
    }  # fmt: skip

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        kept = self.pipeline if "/me/pipeline" in path else self.files
        content = kept.get(path.partition(f"/resolve/{FIRST}/")[2], b"") if "/resolve/" in path else None
        if content is None:
            files = [
                {"rfilename": name, "path": name, "type": "file", "size": len(c), "oid": name}
                for name, c in kept.items()
            ]
            about = {"id": "me/any", "sha": FIRST, "siblings": files, "lastModified": None}
            content = json.dumps(files if "/tree/" in path else about).encode()
        self.send_response(200)
        for name, value in {
            "X-Repo-Commit": FIRST,
            "ETag": f'"{hash(content)}"',
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if body else b"")

    def log_message(self, *_: object) -> None:
        pass


def test_a_download_fetches_weights_and_configs_of_the_revision_and_nothing_else(tmp_path):
    put(tmp_path, "me/net", FIRST, {"config.json": b"{}"})  # as a program that looked at the config alone leaves it
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    place = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
    }
    code = (
        "from genbench import hub; print(hub.with_revision('me/net'));"
        "print(*sorted(path.name for path in hub.hub_folder('me/net').iterdir()));"
        "folder = hub.hub_folder('me/pipeline');"
        "print(*sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()))"
    )
    environment = {**os.environ, **place, "GENBENCH_DOWNLOAD": "1", "no_proxy": "*"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    server.shutdown()
    server.server_close()
    lines = [f"me/net@{FIRST}", "config.json model.safetensors", "model_index.json unet/c.json unet/w.safetensors"]
    assert ended.stdout.splitlines() == lines, ended.stderr


# ---- suites/cifar10_pretrained.yaml ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_published_ddpm_runs_from_a_folder_of_the_same_structure(cache, tmp_path, monkeypatch):
    """35,746,307 parameters as diffusers saves them, in the old layout of the published repository; ten images.

    18 minutes of one core of an Intel Xeon and 3.9 GB of memory.
    """
    diffusers = pytest.importorskip("diffusers")
    from random_weights import write_inception
    from small_cifar10 import write_cifar10

    from genbench.evaluate.cell import evaluate
    from genbench.progress import silent
    from genbench.store import Store

    net = diffusers.UNet2DModel(
        32, block_out_channels=(128, 256, 256, 256), layers_per_block=2, attention_head_dim=None, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"), downsample_padding=0,
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), flip_sin_to_cos=False, freq_shift=1,
    )  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == 35_746_307
    net.save_pretrained(tmp_path / "net")
    files = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    put(cache, "google/ddpm-cifar10-32", FIRST, files)
    write_inception(tmp_path / "inception.pth")
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(tmp_path / "inception.pth"))
    archive = write_cifar10(tmp_path / "small.tar.gz")
    text = (SUITES / "cifar10_pretrained.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cifar10_pretrained.yaml"
    path.write_text(text.replace("{name: cifar10}", f"{{name: cifar10, path: {archive.name}}}"), encoding="utf-8")
    plan = make_plan(read_suite(path), models=["ddpm", "ddim-10"], limit_images=64)
    assert plan.suite.models[0].weights.file == f"hub:google/ddpm-cifar10-32@{FIRST}"
    store = Store()
    rows = [r for c in plan.cells[:2][::-1] for r in evaluate(c, False, store, "cpu", silent)]
    found = {(r.model, r.metric): r for r in rows}
    assert found["ddim-10", "fid"].status == "ok"
    assert found["ddpm", "bits_per_dim"].kind == "bound"
