"""What a decoder computes from its weights alone, computed once for its exported graph.

A flow inverts its matrices each time it decodes, for which ONNX has no operator; the inverses are constants.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.fx.node import map_arg


@torch.no_grad()
def constant_folded(module: nn.Module, *examples: Tensor) -> tuple[GraphModule, Any]:
    """The module as a graph in which every value that does not depend on its inputs is a buffer; its dynamic shapes.

    examples: its inputs (B, ...). Dynamic shapes: as torch.export takes them; None for a module that the exporter can
    only make for B inputs, as it uses `len` of one. Operators that draw random numbers stay.
    """
    axes = tuple({0: Dim.AUTO} for _ in examples)
    program = torch.export.export(module, examples, dynamic_shapes=axes).run_decompositions({})  # without in-place ones
    graph_module: GraphModule = program.module(check_guards=False)
    inputs = [node.meta["val"] for node in graph_module.graph.nodes if node.op == "placeholder"]
    fixed = any(is_concrete_int(value.shape[0]) for value in inputs)
    known = _constants(graph_module)
    for node, value in known.items():
        if isinstance(value, Tensor) and node.op != "get_attr" and any(user not in known for user in node.users):
            _replace(graph_module, node, value)
    graph_module.graph.eliminate_dead_code()
    return GraphModule(graph_module, graph_module.graph).eval(), None if fixed else axes


def _constants(module: GraphModule) -> dict[Node, Any]:
    """The value of every node that depends on no input, in the graph's order."""
    known: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            known[node] = _attribute(module, node.target)
        elif node.op == "call_function" and not _random(node) and all(n in known for n in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
    return known


def _attribute(module: nn.Module, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _replace(module: GraphModule, node: Node, value: Tensor) -> None:
    name = f"folded_{node.name}"
    module.register_buffer(name, value.detach().clone())
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.get_attr(name))
