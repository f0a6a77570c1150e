"""Weights that other programs saved, as rows of a suite, and diffusers' networks as weights of the zoo."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genbench import data
from genbench.contract import DataSpec
from genbench.errors import ModelError, SuiteError
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.registry import resolve_model
from genbench.sources.base import Opened
from genbench.sources.build import build, read_weights
from genbench.store import Store
from genbench.suite.schema import Suite

SPEC = data.load({"name": "digits"}).spec


def vae(seed: int):
    return build(resolve_model("vae"), SPEC, {}, {}, seed)


def planned(weights: object):
    models = [{"name": "vae", "weights": weights}]
    suite = {"suite": "s", "dataset": {"name": "digits"}, "models": models, "metrics": ["fid"], "samples": 10}
    plan = make_plan(Suite.model_validate(suite))
    cell = plan.cells[0]
    return cell, Opened(cell.source, cell.data, cell.drawing, Store(), "cpu", silent)


def test_a_suite_chooses_a_set_of_weights_and_takes_off_a_prefix(tmp_path):
    path, sets = str(tmp_path / "ckpt.pt"), {name: vae(seed).state_dict() for seed, name in enumerate(("model", "ema"))}
    wrapped = {name: {f"module.{k}": v for k, v in state.items()} for name, state in sets.items()}
    torch.save(wrapped | {"optimizer": {"state": {}}, "epoch": 3}, path)
    cells = {}
    for name, state in sets.items():
        cells[name], opened = planned({"file": path, "key": name, "strip": "module."})
        assert all(torch.equal(opened.model.state_dict()[k], v) for k, v in state.items())
        assert cells[name].source.protocol(opened)["weights_key"] == name
    assert cells["model"].samples_key != cells["ema"].samples_key
    with pytest.raises(
        SuiteError, match=r"models\[0\]\.weights: .*ckpt\.pt: several sets of weights fit VAE; choose one"
    ):
        planned(path)


def test_a_folder_or_an_index_of_several_files(tmp_path):
    state = vae(5).state_dict()
    names = list(state)
    for file, part in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
        save_file({name: state[name] for name in part}, tmp_path / file)
    weight_map = dict.fromkeys(names[:9], "a.safetensors") | dict.fromkeys(names[9:], "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    cell, opened = planned(str(tmp_path))
    assert all(torch.equal(opened.model.state_dict()[k], v) for k, v in state.items())
    changed = {name: state[name] + 1 for name in names[9:] if state[name].is_floating_point()}
    save_file({name: changed.get(name, state[name]) for name in names[9:]}, tmp_path / "b.safetensors")
    assert planned(str(tmp_path))[0].samples_key != cell.samples_key
    (tmp_path / "empty").mkdir()
    with pytest.raises(SuiteError, match=r"empty: a folder without weights; allowed: model\.safetensors"):
        planned(str(tmp_path / "empty"))


def test_a_checkpoint_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10_000_000))
    with pytest.raises(ModelError, match="bytes that unpack to 10,000,000, allowed: 100 times"):
        read_weights(vae(0), tmp_path / "w.pt")


# ---- networks of diffusers -------------------------------------------------------------------------------------------

SIZES = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 32}
LIKE_OURS = {"attention_head_dim": None, "norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1}
SMALL = {"channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": [8], "groups": 32, "padding": "after",
         "steps": 1000, "schedule": "linear", "prediction": "eps", "variance": "fixed", "error": "own"}  # fmt: skip
COLOUR = DataSpec(3, 16, 16)


def saved(folder: Path, **changes: object):
    diffusers = pytest.importorskip("diffusers", reason="an optional peer")
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    net = diffusers.UNet2DModel(16, **blocks, **SIZES, **{**LIKE_OURS, "downsample_padding": 0, **changes})
    net.save_pretrained(folder)
    return net.eval()


@pytest.mark.parametrize("place", ["", "unet"])
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_ddpm_reads_a_network_of_diffusers_and_computes_what_it_computes(tmp_path, name, place):
    theirs = saved(tmp_path / place)
    ours = build(resolve_model(name), COLOUR, SMALL, {}, 0)
    read_weights(ours, tmp_path)
    x, t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 900])
    with torch.no_grad():
        assert torch.allclose(ours.denoiser(x, t), theirs(x, t).sample, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_eps": 1e-5}, "config.json: norm_eps: found 1e-05, allowed: 1e-06 for a network like this one"),
        ({"flip_sin_to_cos": True}, "config.json: flip_sin_to_cos: found True, allowed: False"),
        ({"attention_head_dim": 8}, "config.json: attention_head_dim: found 8, allowed: None"),
        ({"downsample_padding": 1}, "config.json: downsample_padding: found 1, allowed: 0"),
    ],
)
def test_a_network_that_computes_something_else_is_refused(tmp_path, changes, message):
    saved(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        read_weights(build(resolve_model("ddpm"), COLOUR, SMALL, {}, 0), tmp_path)


def test_names_that_have_no_place_are_named(tmp_path):
    saved(tmp_path)
    kinds = (
        r"88 of its 166 tensors fit;\n  50 missing: 'net[^;]*;\n  12 unknown: 'net[^;]*;\n  28 of another shape: 'net"
    )
    with pytest.raises(ModelError, match=kinds):
        read_weights(build(resolve_model("ddpm"), COLOUR, SMALL | {"multipliers": [1, 2, 2]}, {}, 0), tmp_path)
