"""Exported generators: they draw what the module draws, state what they need, and are refused where they are unsafe."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from genbench.adapters.graphs import GraphConfig, draw_noise
from genbench.check import check_model
from genbench.contract import Condition, DataSpec, abilities
from genbench.errors import CellFailure, ModelError
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded

SPEC = DataSpec(1, 8, 8, 17, classes=10)


class Net(nn.Module):
    def __init__(self, scale: float = 1.0, axes: tuple[int, ...] = (1, 8, 8)) -> None:
        super().__init__()
        self.linear, self.scale, self.axes = nn.Linear(6, 64), scale, axes

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (self.linear(z).tanh() * self.scale).view(-1, *self.axes)


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.embed = nn.Linear(6, 64), nn.Embedding(10, 64)

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return (self.linear(z) + self.embed(label)).tanh().view(-1, 1, 8, 8)


def net(kind=Net, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**options).eval()


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))


def program(module, path, *inputs, dynamic=True):
    axes = tuple({0: torch.export.Dim("n")} for _ in inputs) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=axes), path)


def graph(module, path, *inputs, dynamic=True):
    pytest.importorskip("onnxscript")
    axes = tuple({0: torch.export.Dim("n")} for _ in inputs) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, path, dynamic_shapes=axes, verbose=False)


WRITERS = {"torchscript:g.pt": lambda m, p, *i: script(m, p), "torchscript:g.pt2": program, "onnx:g.onnx": graph}
Z, LABEL = torch.zeros(2, 6), torch.zeros(2, dtype=torch.long)


def model(source, folder, **config):
    return build(resolve_model("any", source, folder), SPEC, config, {}, 0).eval()


@pytest.mark.parametrize("source", WRITERS)
def test_a_graph_draws_what_its_module_draws(source, tmp_path):
    WRITERS[source](net(), tmp_path / source.partition(":")[2], Z)
    drawn = model(source, tmp_path, noise=[6], batch=3).sample(5, seeded(1))
    expected = net()(torch.randn(5, 6, generator=seeded(1)))
    assert torch.allclose(drawn, expected, atol=1e-6)
    assert "Decodes" in abilities(resolve_model("any", source, tmp_path))


@pytest.mark.parametrize("source", WRITERS)
def test_a_graph_passes_check(source, tmp_path):
    WRITERS[source](net(), tmp_path / source.partition(":")[2], Z)
    results = check_model(resolve_model("any", source, tmp_path), SPEC, {"noise": [6]})
    assert [(r.name, r.message) for r in results if not r.passed] == []


@pytest.mark.parametrize("source", WRITERS)
def test_a_second_input_is_the_class(source, tmp_path):
    WRITERS[source](net(Conditional), tmp_path / source.partition(":")[2], Z, LABEL)
    kind = resolve_model("any", source, tmp_path)
    assert abilities(kind) == ("ClassConditional",)
    labels = torch.tensor([3, 1, 4, 1, 5])
    drawn = model(source, tmp_path, noise=[6]).sample(5, seeded(1), Condition(labels))
    assert torch.allclose(drawn, net(Conditional)(torch.randn(5, 6, generator=seeded(1)), labels), atol=1e-6)


@pytest.mark.parametrize(("name", "write"), [("torchscript:g.pt2", program), ("onnx:g.onnx", graph)])
def test_a_graph_of_one_batch_size_is_called_with_it(name, write, tmp_path):
    write(net(), tmp_path / name.partition(":")[2], torch.zeros(4, 6), dynamic=False)
    drawn = model(name, tmp_path).sample(6, seeded(1))
    assert torch.allclose(drawn, net()(torch.randn(6, 6, generator=seeded(1))), atol=1e-6)


def test_torchscript_must_be_told_the_shape_of_its_noise(tmp_path):
    script(net(), tmp_path / "g.pt")
    with pytest.raises(ModelError, match=r"TorchScript: config\.noise: missing, allowed: the shape of one latent"):
        model("torchscript:g.pt", tmp_path)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0)])
def test_the_declared_range_becomes_minus_one_to_one(low, high, tmp_path):
    class Scaled(Net):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return self.linear(z).sigmoid().view(-1, 1, 8, 8) * self.scale

    script(net(Scaled, scale=high), tmp_path / "g.pt")
    drawn = model("torchscript:g.pt", tmp_path, noise=[6], range=[low, high]).sample(3, seeded(0))
    assert float(drawn.abs().max()) <= 1
    assert float(drawn.abs().max()) > 0.1
    wrong = model("torchscript:g.pt", tmp_path, noise=[6], range=[-0.001, 0.001])
    with pytest.raises(CellFailure, match=r"the graph's output has values from .*, config.range is \[-0.001, 0.001\]"):
        wrong.sample(3, seeded(0))


def test_channels_last_and_flat_images_are_accepted_and_other_shapes_are_not(tmp_path):
    expected = net()(torch.randn(3, 6, generator=seeded(0)))
    for axes in ((8, 8, 1), (64,), (8, 8)):
        script(net(axes=axes), tmp_path / "g.pt")
        drawn = model("torchscript:g.pt", tmp_path, noise=[6]).sample(3, seeded(0))
        assert torch.allclose(drawn, expected, atol=1e-6)
    script(net(axes=(4, 16)), tmp_path / "g.pt")
    with pytest.raises(CellFailure, match=r"shape \(3, 4, 16\), required: images \(3, 1, 8, 8\)"):
        model("torchscript:g.pt", tmp_path, noise=[6]).sample(3, seeded(0))


def test_noise_has_the_declared_distribution():
    def numbers(**options):
        return draw_noise((100_000,), GraphConfig(noise=(1,), **options), seeded(0)).double()

    normal, uniform = numbers(), numbers(distribution="uniform", interval=(0.0, 2.0))
    assert abs(normal.std() - 1) < 0.01
    assert (uniform.min() >= 0, uniform.max() <= 2, abs(uniform.mean() - 1) < 0.01) == (True, True, True)
    cut = numbers(distribution="truncated", truncation=1.0)
    assert float(cut.abs().max()) <= 1
    assert abs(cut.std() - 0.5396) < 0.005  # of a standard normal restricted to [-1, 1]


# ---- refused files ---------------------------------------------------------------------------------------------------


class Touch:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def rewritten(path, change):
    """The archive with change(name, content) applied to its members."""
    source = path.with_suffix(".old")
    shutil.move(path, source)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def edited(pattern, edit):
    """A change of the JSON members whose name contains the pattern."""
    return lambda name, content: edit(content.decode()).encode() if pattern in name else content


@pytest.mark.parametrize("member", ["sample_inputs", "weights/weight_0"])
def test_a_program_with_a_pickle_that_runs_code_is_refused(member, tmp_path):
    program(net(), tmp_path / "g.pt2", Z)
    trap, content = tmp_path / "trap", io.BytesIO()
    torch.save(Touch(trap), content)
    rewritten(tmp_path / "g.pt2", lambda name, old: content.getvalue() if member in name else old)
    with pytest.raises(ModelError, match="holds Python objects, which are not run"):
        resolve_model("any", "torchscript:g.pt2", tmp_path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Touch(trap)))
    assert trap.exists()  # the trap works


@pytest.mark.parametrize("target", ["torch.os.system", "torch.ops.load_library", "torch.hub.load", "math.os.system"])
def test_a_program_that_calls_anything_but_operators_is_refused(target, tmp_path):
    program(net(), tmp_path / "g.pt2", Z)
    change = edited("model.json", lambda text: text.replace("torch.ops.aten.tanh.default", target))
    rewritten(tmp_path / "g.pt2", change)
    with pytest.raises(ModelError, match=f"calls '{target}', allowed: operators of torch.ops"):
        resolve_model("any", "torchscript:g.pt2", tmp_path)


@pytest.mark.parametrize("size", ["__import__('os').system('x')", "exec('1')", "S('exec(1)')", "Symbol('x').free"])
def test_a_program_with_code_for_a_size_is_refused(size, tmp_path):
    program(net(), tmp_path / "g.pt2", Z)

    def edit(text):
        tree = json.loads(text)
        stack = [tree]
        while stack:
            part = stack.pop()
            if isinstance(part, dict):
                part |= {"expr_str": size} if "expr_str" in part else {}
            stack += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        return json.dumps(tree)

    rewritten(tmp_path / "g.pt2", edited("model.json", edit))
    with pytest.raises(ModelError, match="for a size, allowed: arithmetic"):
        resolve_model("any", "torchscript:g.pt2", tmp_path)


def test_a_pickle_is_no_torchscript(tmp_path):
    trap = tmp_path / "trap"
    torch.save(Touch(trap), tmp_path / "g.pt")
    with pytest.raises(ModelError, match="cannot be read as TorchScript"):
        resolve_model("any", "torchscript:g.pt", tmp_path)
    assert not trap.exists()


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "g.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("g/data/0", bytes(10_000_000))
    with pytest.raises(ModelError, match="bytes that unpack to 10,000,000, allowed: 100 times"):
        resolve_model("any", "torchscript:g.pt", tmp_path)


def test_an_onnx_graph_reads_no_file_outside_its_folder(tmp_path):
    onnx = pytest.importorskip("onnx")
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    graph(net(), tmp_path / "inner" / "g.onnx", Z)
    loaded = onnx.load(tmp_path / "inner" / "g.onnx", load_external_data=False)
    tensor = loaded.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "inner" / "g.onnx").write_bytes(loaded.SerializeToString())
    with pytest.raises(ModelError, match=r"reads tensors from '\.\./secret', allowed: a file in its own folder"):
        resolve_model("any", "onnx:inner/g.onnx", tmp_path)


@pytest.mark.parametrize("where", ["attribute", "branch", "function"])
def test_no_tensor_of_an_onnx_graph_is_read_from_outside_its_folder(where, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    (tmp_path / "inner" / "link").symlink_to(tmp_path / "secret")
    tensor = onnx.TensorProto(data_type=1, dims=[1, 1, 8, 8], data_location=onnx.TensorProto.EXTERNAL, name="t")
    tensor.external_data.add(key="location", value="link")
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    out = helper.make_tensor_value_info("y", 1, [1, 1, 8, 8])
    functions = []
    if where == "branch":
        branch = helper.make_graph([constant], "branch", [], [out])
        always = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", 9, [], [True]))
        nodes = [always, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    elif where == "function":
        opset = helper.make_opsetid("", 18)
        functions = [helper.make_function("own", "F", [], ["y"], [constant], [opset])]
        nodes = [helper.make_node("F", [], ["y"], domain="own")]
    else:
        nodes = [constant]
    noise = helper.make_tensor_value_info("z", 1, [1, 6])
    made = helper.make_model(helper.make_graph(nodes, "g", [noise], [out]), functions=functions)
    (tmp_path / "inner" / "g.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match="reads tensors from 'link', allowed: a file in its own folder"):
        resolve_model("any", "onnx:inner/g.onnx", tmp_path)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"onnx:none\.onnx: found nothing at .*none\.onnx, allowed: a file"):
        resolve_model("any", "onnx:none.onnx", tmp_path)
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs the package onnx .*; pip install 'genbench\[onnx\]'"):
        resolve_model("any", "onnx:g.onnx", tmp_path)
