"""Weights saved by other programs: read where they fit in one way only, otherwise a message with what to do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from genbench.errors import ModelError
from genbench.sources.build import read_weights
from genbench.sources.checkpoints import read_state

State = dict[str, Tensor]


class Net(nn.Module):
    """Two layers, a batch norm, and an output that starts at 0."""

    components = ()

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        nn.init.zeros_(self.last.weight)

    def adopted(self, state: State, settings: object) -> State:
        return state


def trained(seed: int = 1) -> State:
    torch.manual_seed(seed)
    state = Net().state_dict()
    return {name: torch.randn(t.shape) if t.is_floating_point() else t for name, t in state.items()}


def loaded(path: Path, **options: str) -> State:
    net = Net()
    read_weights(net, path, **options)
    return net.state_dict()


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def message(path: Path, **options: str) -> str:
    text = refusal(path, **options)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt", "safetensors"])
@pytest.mark.parametrize("how", ["torch", "old torch", "safetensors"])
def test_files_are_read_by_content_whatever_their_suffix(how, suffix, tmp_path):
    path, state = tmp_path / f"w.{suffix}", trained()
    if how == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "torch")
    assert same(loaded(path), state)


NESTS = {
    "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "_orig_mod.module.": lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    "network.": lambda s: {"state_dict": {f"network.{k}": v for k, v in s.items()}, "epoch": 3},
    "nest": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "deep nest": lambda s: {"trainer": {"ema": {"shadow": s}}, "step": torch.tensor(7)},
    "half": lambda s: {"model": {k: v.half() if v.is_floating_point() else v for k, v in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("nest", NESTS)
def test_the_only_nest_and_prefix_that_fit_are_used(nest, tmp_path):
    state = {name: t.half().float() if t.is_floating_point() else t for name, t in trained().items()}
    torch.save(NESTS[nest](state), tmp_path / "w.pt")
    assert same(loaded(tmp_path / "w.pt"), state)


def test_where_several_fit_the_caller_chooses(tmp_path):
    a, b, path = trained(1), trained(2), tmp_path / "w.pt"
    torch.save({"model": a, "ema": NESTS["module."](b), "optimizer": {}}, path)
    assert message(path) == "several sets of weights fit Net; choose one with key: 'ema', 'model'"
    assert same(loaded(path, key="model"), a)
    assert same(loaded(path, key="ema"), b)
    assert message(path, key="emma") == "key: found 'emma', allowed: 'model', 'ema'"


def test_a_prefix_is_taken_off_on_request_and_the_rest_ignored(tmp_path):
    state, path = trained(), tmp_path / "w.safetensors"
    save_file({f"generator.{k}": v for k, v in state.items()} | {"critic.weight": torch.ones(2)}, path)
    expected = "it holds other names beside those with 'generator.', which fit: strip: 'generator.' ignores the others"
    assert message(path) == f"does not fit Net: {expected}"
    assert same(loaded(path, strip="generator."), state)
    assert message(path, strip="gen.") == "strip: found 'gen.', allowed: how names begin: 'critic.', 'generator.'"


def test_weights_in_several_files_are_read_by_their_index(tmp_path):
    state, names = trained(), list(trained())
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {name: file for file, part in parts.items() for name in part}
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same(loaded(index), state)
    (tmp_path / "b.safetensors").unlink()
    assert message(index) == "names 'b.safetensors', which is not beside it"
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    assert message(index) == "names '../a.safetensors', which is not beside it"
    index.write_text(
        json.dumps({"weight_map": {**dict.fromkeys(parts["a.safetensors"], "a.safetensors"), "x": "a.safetensors"}})
    )
    assert message(index) == "'x' is in none of the files that it names"


def changed(name: str, tensor: Tensor | None) -> State:
    state = trained() | ({} if tensor is None else {name: tensor})
    return {k: v for k, v in state.items() if tensor is not None or k != name}


MISFITS = {
    "missing": (changed("last.bias", None), "does not fit Net: 'last.bias' is missing"),
    "more": (changed("x.bias", torch.ones(1)), "does not fit Net: 'x.bias' is not in the model"),
    "shape": (changed("first.weight", torch.ones(5, 3)),
              "does not fit Net: 'first.weight' has shape (5, 3), the model's has (4, 3)"),
    "type": (changed("first.weight", torch.ones(4, 3, dtype=torch.int8)),
             "does not fit Net: 'first.weight' holds int8, the model's float32"),
    "nan": (changed("first.bias", torch.tensor([1.0, float("nan"), float("inf"), 0.0])),
            "does not fit Net: 'first.bias' holds 2 of 4 values that are NaN or infinite; take weights from before the "
            "training diverged"),
    "zeros": (changed("first.weight", torch.zeros(4, 3)),
              "does not fit Net: 'first.weight' holds only zeros, unlike fresh weights; was the file written in full?"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("nest", ["", "model"])
def test_one_tensor_that_does_not_fit_is_one_line(case, nest, tmp_path):
    state, expected = MISFITS[case]
    torch.save({nest: state} if nest else state, tmp_path / "w.pt")
    text = message(tmp_path / "w.pt")
    assert text.startswith(expected)
    assert text.removeprefix(expected) in ("", f" under '{nest}'")


def test_what_differs_is_named_as_a_whole_in_few_lines(tmp_path):
    state = {name.replace("norm", "batch_norm"): tensor for name, tensor in trained().items()}
    state |= {"first.weight": torch.ones(5, 3), "last.bias": torch.ones(2, dtype=torch.int8)}
    torch.save({"ema": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt").splitlines() == [
        "does not fit Net: 2 of its 9 tensors fit under 'ema';",
        "  5 missing: 'norm.weight', 'norm.bias', 'norm.running_mean' and 2 more;",
        "  5 unknown: 'batch_norm.weight', 'batch_norm.bias', 'batch_norm.running_mean'",
        "    and 2 more;",
        "  1 of another shape: 'first.weight' (5, 3) for (4, 3);",
        "  1 of another type: 'last.bias' int8 for float32;",
        "  sizes of networks are in `config`: compare it with the one of the training;",
        "  other sets of weights in the file: 'optimizer.state.0'",
    ]


def test_the_nearest_set_of_weights_is_not_the_smallest(tmp_path):
    renamed = {f"{name}_": tensor for name, tensor in trained().items()}
    torch.save({"optimizer": {"exp_avg": torch.ones(3)}, "weights": renamed}, tmp_path / "w.pt")
    torch.save({"optimizer": {"exp_avg": torch.ones(3)}, "weights": NESTS["network."](renamed)}, tmp_path / "n.pt")
    for name in ("w.pt", "n.pt"):
        assert "under 'weights" in refusal(tmp_path / name)


def test_zeros_where_fresh_weights_are_zeros_are_no_fault(tmp_path):
    save_file(changed("last.weight", torch.zeros(2, 4)), tmp_path / "w.safetensors")
    assert not loaded(tmp_path / "w.safetensors")["last.weight"].any()


def test_other_sets_of_weights_are_named(tmp_path):
    torch.save({"encoder": {"a": torch.ones(1)}, "decoder": changed("last.bias", None)}, tmp_path / "w.pt")
    expected = "does not fit Net: 'last.bias' is missing under 'decoder'; other sets of weights in the file: 'encoder'"
    assert message(tmp_path / "w.pt") == expected


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": trained(), "args": Evil()}, tmp_path / "w.pt")
    expected = "holds Python objects besides tensors, which are not run; save the state_dict alone, as safetensors"
    assert message(tmp_path / "w.pt") == expected
    (tmp_path / "w.bin").write_bytes(pickle.dumps(Evil()))
    message(tmp_path / "w.bin")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"PK\x03\x04 nothing",
        b"PK\x05\x06" + b"\x01" * 18,
        b"\x80\x02}q\x00",
        b"version https://git-lfs",
        b"\x00" * 64,
    ],
)
def test_files_that_hold_no_weights_are_one_line(content, tmp_path):
    (tmp_path / "w.pt").write_bytes(content)
    message(tmp_path / "w.pt")
    torch.save({"epoch": 3, "names": ["a"]}, tmp_path / "empty.pt")
    assert message(tmp_path / "empty.pt") == "holds no tensors; allowed: a state_dict, or a mapping that contains one"
    assert message(tmp_path / "no.pt") == "not found"


def header(length: int, **tensors: object) -> bytes:
    return length.to_bytes(8, "little") + json.dumps(tensors).encode()


F32 = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
HEADERS = {
    "a header of 4 EiB": header(1 << 62, x=F32),
    "a header longer than the file": header(1 << 29, x=F32),
    "a tensor of 4 TiB": header(80, x={**F32, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}),
    "a size that overflows": header(99, x={**F32, "shape": [1 << 40, 1 << 40]}),
    "a tensor before the data": header(70, x={**F32, "data_offsets": [-48, 0]}),
    "two tensors in one place": header(132, x=F32, y=F32) + bytes(48),
    "nesting": (1 << 20).to_bytes(8, "little") + b'{"x":' * (1 << 17),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_malicious_header_of_safetensors_is_one_line(name, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(HEADERS[name])
    assert "cannot be read as safetensors" in message(path)


def test_an_index_that_names_itself_or_a_pickle_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": index.name}}))
    assert message(index)
    torch.save({"x": Evil()}, tmp_path / "a.bin")
    index.write_text(json.dumps({"weight_map": {"x": "a.bin"}}))
    with pytest.raises(ModelError, match="which are not run"):
        loaded(index)
    assert not (tmp_path / "evil").exists()


def test_a_damaged_file_is_one_line(tmp_path):
    for how in ("torch", "safetensors"):
        path = tmp_path / how
        torch.save(trained(), path) if how == "torch" else save_file(trained(), path)
        path.write_bytes(path.read_bytes()[:-40])
        message(path)


def test_a_state_is_read_without_a_model(tmp_path):
    save_file({"x": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    assert same(read_state(tmp_path / "w.safetensors", {"x": torch.ones(2, 2)}, "x"), {"x": torch.ones(2, 2)})


class Plain(nn.Module):
    """Layers without buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)


def test_averaged_weights_in_a_list_are_a_set_of_their_own(tmp_path):
    path, fresh = tmp_path / "w.pt", Plain().state_dict()
    raw, averaged = ({name: torch.randn(t.shape) for name, t in fresh.items()} for _ in range(2))
    torch.save({"model": raw, "ema": {"decay": 0.999, "shadow_params": list(averaged.values())}}, path)
    with pytest.raises(ModelError, match=r"several sets of weights fit Plain; .* key: 'ema.shadow_params', 'model'"):
        read_state(path, fresh, "Plain")
    assert same(read_state(path, fresh, "Plain", key="ema.shadow_params"), averaged)
    torch.save({"model": raw, "ema": list(averaged.values())[:3]}, path)
    assert same(read_state(path, fresh, "Plain"), raw)


def test_names_of_another_network_beside_the_weights_need_a_prefix(tmp_path):
    path, state = tmp_path / "w.ckpt", trained()
    beside = {"loss.net.weight": torch.zeros(2), **{f"vae.{name}": tensor for name, tensor in state.items()}}
    torch.save({"state_dict": beside, "epoch": 1}, path)
    found = message(path)
    assert found.endswith(
        "'state_dict' holds other names beside those with 'vae.', which fit: strip: 'vae.' ignores the others"
    )
    assert same(loaded(path, strip="vae."), state)
