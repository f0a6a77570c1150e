"""`genbench export`: a cell's model as files that genbench, diffusers and ONNX runtimes load, with a model card.

What was written is loaded again and compared before the command ends; a form that cannot be is named with its reason.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from genbench.adapters.base import library
from genbench.adapters.onnx_graphs import open_session
from genbench.commands.folding import constant_folded
from genbench.commands.pipeline_folder import is_copied, save_parts
from genbench.commands.sample import trained_cell
from genbench.contract import ClassConditional, Condition, Decodes, Draws, TextConditional
from genbench.errors import GenbenchError
from genbench.evaluate.cell import stored_record
from genbench.exported import CONFIG_FILE, WEIGHTS_FILE
from genbench.files import delete, emptied_after_error
from genbench.plan.cells import Cell
from genbench.records import Record
from genbench.sources.base import Opened
from genbench.sources.build import write_weights
from genbench.sources.network import NetworkSource
from genbench.space import seeded
from genbench.store import make_folder
from genbench.suite.entries import ModelEntry
from genbench.suite.schema import Suite, read_suite

CARD, PIPELINE, DECODER = "README.md", "diffusers", "decoder.onnx"
TRIED, LARGEST_GAP = 4, 2e-3  # images drawn from what was written, and how much they may differ in [-1, 1]
BESIDE = "samples differ from its images of the same noise by up to {:.2g}, as they have further random numbers"
PROMPTS = ("", "a three", "a red square on the left", "0123456789" * 9)  # of as many images of a text model


def export_cell(name: str, suite: Path, out: Path) -> str:
    """Writes the model of a cell to a folder; returns a line for each part. Raises GenbenchError for no such cell."""
    if out.exists() and any(make_folder(out).iterdir()):
        raise GenbenchError(f"{out}: found a folder with files, allowed: a new or empty one")
    read = read_suite(suite)
    cell, opened = trained_cell(name, read)
    assert isinstance(cell.source, NetworkSource)
    with emptied_after_error(out):
        lines = _written(cell.source, opened.model, make_folder(out))
        (out / CARD).write_text(model_card(cell, opened, read, lines), encoding="utf-8")
    return "\n".join([*lines, f"{out / CARD}: numbers, protocol, claims, how to load"])


def _written(source: NetworkSource, model: Draws, out: Path) -> list[str]:
    """Writes weights, config and the further forms of a model; a line for each."""
    write_weights(model, out / WEIGHTS_FILE)
    (out / CONFIG_FILE).write_text(json.dumps(model_settings(source, model), indent=1), encoding="utf-8")
    lines = [f"{out / WEIGHTS_FILE}: {sum(p.numel() for p in model.parameters()):,} parameters"]
    return [*lines, *(_attempt(out / part, write, model) for part, write in _further_parts(model).items())]


def model_settings(source: NetworkSource, model: Draws) -> dict[str, Any]:
    """What a suite needs beside the weights: class, options and images."""
    network = source.network
    return {
        "genbench": metadata.version("genbench"), "name": network.name, "source": network.target,
        "config": asdict(model.config), "sampler": asdict(model.sampler), "data": asdict(model.data),
        "code": network.code,
    }  # fmt: skip


def _further_parts(model: Draws) -> dict[str, Callable[[Draws, Path], float]]:
    parts: dict[str, Callable[[Draws, Path], float]] = {}
    if type(model).for_diffusers is not Draws.for_diffusers:
        parts[PIPELINE] = write_pipeline
    if _graph(model, 1) is not None:
        parts[DECODER] = write_decoder
    return parts


def _attempt(path: Path, write: Callable[[Draws, Path], float], model: Draws) -> str:
    try:
        gap = write(model, path)
        beside = beside_noise(model) if path.name == DECODER else 0.0
    except Exception as error:  # exporters raise many types
        delete(path)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"{path}: not written: {reason}"
    if not gap <= LARGEST_GAP:
        return f"{path}: found images that differ by {gap:.3g} in [-1, 1], allowed: {LARGEST_GAP:g}; do not use it"
    text = f"{path}: loaded again, its images differ by at most {gap:.2g} in [-1, 1]"
    return f"{text}; {BESIDE.format(beside)}" if beside > LARGEST_GAP else text


@torch.no_grad()
def beside_noise(model: Draws) -> float:
    """How far samples are from the graph's images of the same noise, and classes.

    0 without a graph, and for a model that draws for classes or texts which its graph does not receive.
    """
    found = _graph(model, TRIED)
    if found is None or (len(found[1]) == 1 and isinstance(model, ClassConditional | TextConditional)):
        return 0.0
    graph, inputs = found
    samples = model.sample(TRIED, seeded(0), Condition(inputs[1]) if len(inputs) > 1 else None)
    return float((samples - graph(*inputs)).abs().max())


@torch.no_grad()
def write_pipeline(model: Draws, folder: Path) -> float:
    """A diffusers pipeline; the largest difference of images drawn with the same noise."""
    diffusers = library("diffusers", "diffusers", "export")
    parts = model.cpu().eval().for_diffusers()
    assert parts is not None
    diffusers.logging.disable_progress_bar()
    save_parts(parts, folder)
    loaded = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, trust_remote_code=True)
    loaded.set_progress_bar_config(disable=True)
    reads = isinstance(model, TextConditional)
    asked = {"prompt": list(PROMPTS)} if reads else {"batch_size": len(PROMPTS)}
    drawn = loaded(**asked, generator=seeded(0), output_type="np", **parts.call).images
    condition = Condition(texts=PROMPTS) if reads else None
    images = model.sample(len(PROMPTS), seeded(0), condition)
    return float((torch.from_numpy(drawn).permute(0, 3, 1, 2) * 2 - 1 - images).abs().max())


class _Decoder(nn.Module):
    def __init__(self, model: Draws) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        assert isinstance(self.model, Decodes)
        return self.model.decode(z)


def _graph(model: Draws, n: int, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, ...]] | None:
    """The part of a model that becomes a graph, on the CPU, and its inputs for n images; None for no such part."""
    found = model.cpu().eval().for_onnx(n, seeded(seed))
    if found is None and isinstance(model, Decodes):
        return _Decoder(model).eval(), (model.noise(n, seeded(seed)),)
    return found


@torch.no_grad()
def write_decoder(model: Draws, path: Path) -> float:
    """An ONNX graph from noise, and classes where it has them, to images; the largest difference of its images.

    A graph that the exporter can only make for one number of images is for TRIED of them.
    """
    library("onnxscript", "onnx", "export")
    found = _graph(model, TRIED)
    assert found is not None
    decoder, inputs = found
    graph, axes = constant_folded(decoder, *inputs)
    torch.onnx.export(graph, inputs, path, dynamic_shapes=axes, verbose=False, external_data=False)
    session = open_session(path, "cpu")
    names, batch = [given.name for given in session.get_inputs()], session.get_inputs()[0].shape[0]
    again = _graph(model, TRIED if isinstance(batch, int) else TRIED + 1, seed=1)
    assert again is not None
    others = again[1]
    (images,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, others, strict=True)})
    return float((torch.from_numpy(images) - decoder(*others)).abs().max())


def model_card(cell: Cell, opened: Opened, suite: Suite, parts: list[str]) -> str:
    """The text of README.md: what it is, how to load it, its numbers and claims, and the protocol."""
    entry = next(e for e in suite.models if e.label == cell.label)
    records = [r for planned in cell.metrics if (r := stored_record(cell, planned, opened.store)) is not None]
    shape = "x".join(map(str, cell.data.spec.shape))
    protocol = json.dumps(cell.source.protocol(opened), indent=1, default=str)
    sections = [
        f"# {cell.label}, trained on {cell.data.name}",
        f"{opened.model.__class__.__name__} for images of {shape} with {cell.data.spec.levels} grey levels; seed "
        f"{cell.seed} of the suite {suite.suite}, version {suite.version}.",
        _how_to_load(cell), *_in_diffusers(opened.model, parts),
        "## Files", *(f"- {Path(line).name if ':' not in line else Path(line.split(':')[0]).name}: "
        f"{line.partition(': ')[2]}" for line in parts),
        "## Numbers", *_numbers(records), *_claims(entry),
        "## Protocol of the model", textwrap.indent(protocol, "    "),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _how_to_load(cell: Cell) -> str:
    assert isinstance(cell.source, NetworkSource)
    network, spec = cell.source.network, cell.data.spec
    row = {"name": network.name, **({"source": network.target} if network.target else {}), "weights": "FOLDER"}
    flow = yaml.safe_dump(row, default_flow_style=True, sort_keys=False).strip()
    call = (
        f'genbench.load_model("{network.name}", data=genbench.DataSpec{tuple(asdict(spec).values())}, weights="FOLDER")'
    )
    return (
        f"In a suite; options are in config.json, and samples bit-identical on the same device:\n\n    - {flow}\n\n"
        f"In Python:\n\n    {call}"
    )


def _in_diffusers(model: Draws, parts: list[str]) -> list[str]:
    """How diffusers draws as the model does, where a pipeline was written."""
    if not any(f"/{PIPELINE}: loaded again" in line for line in parts):
        return []
    pipeline = model.for_diffusers()
    assert pipeline is not None
    trust = ", trust_remote_code=True" if is_copied(pipeline.pipeline) else ""
    options = ", ".join(f"{name}={value!r}" for name, value in pipeline.call.items())
    load = f'diffusers.DiffusionPipeline.from_pretrained("FOLDER/{PIPELINE}"{trust})'
    return [
        f"With diffusers, and the options of this model's sampler:\n\n    pipeline = {load}\n    pipeline({options})"
    ]


def _numbers(records: list[Record]) -> list[str]:
    rows = [f"| {r.metric} | {r.value:.5g} | {r.unit} | {r.kind} | {r.n_fake or ''} | {r.n_real or ''} |"
            for r in records if r.status == "ok" and r.value is not None]  # fmt: skip
    if not rows:
        return ["Nothing of it has been measured."]
    head = "| metric | value | unit | kind of likelihood | samples | real images |\n|---|---|---|---|---|---|"
    return ["\n".join([head, *rows])]


def _claims(entry: ModelEntry) -> list[str]:
    if not entry.claims:
        return []
    lines = [f"- {c.metric} {c.value:g} (tolerance {c.tolerance:g}): {c.source}" for c in entry.claims]
    return ["## Published figures", "\n".join(lines)]
