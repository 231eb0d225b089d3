"""Graphs within a graph, taken in: functions that a model brings along, and the branch of an If whose
condition does not depend on the images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import inliner

from prune_core.errors import InputError
from prune_core.files.onnx_fold import Constants
from prune_core.files.onnx_shapes import free_of_the_count

ROUNDS = 8  # an If within the branch of an If, and so on


def count_nodes(model: onnx.ModelProto, most: int) -> int:
    """Nodes of a model, those within its nodes and its functions included, each function as often as it is
    called; more than ``most`` as soon as there are."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterator[onnx.NodeProto] | list[onnx.NodeProto], within: int) -> int:
        total = 0
        for node in nodes:
            total += 1
            key = (node.domain, node.op_type)
            if key in bodies and within < 64:
                if key not in sizes:
                    sizes[key] = size(list(bodies[key]), within + 1)
                total += sizes[key]
            elif key in bodies:
                return most + 1
            for graph in _graphs(node):
                total += size(list(graph.node), within + 1)
            if total > most:
                return most + 1
        return total

    return size(list(model.graph.node), 0)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def flat(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same network without functions, and without those Ifs whose branch is known. Other graphs within
    nodes stay. Raises InputError for a function that cannot be taken in."""
    if model.functions:
        try:
            model = inliner.inline_local_functions(model, convert_version=True)
        except Exception as error:  # whatever ONNX's own code makes of a hostile function
            said = " ".join(str(error).split())[:200]
            raise InputError(f"{name}: its functions cannot be taken in: {said}") from None
    for number in range(ROUNDS):
        if not any(node.op_type == "If" for node in model.graph.node):
            break
        same, _ = free_of_the_count(model)
        constants = Constants(model, name)
        conditions = {node.input[0] for node in model.graph.node if node.op_type == "If" and node.input}
        known = {c: constants[c] for c in conditions if c in constants} | same
        if not _take_branches(model.graph, known, number):
            break
    return model


def _take_branches(graph: onnx.GraphProto, known: dict[str, np.ndarray], number: int) -> bool:
    kept: list[onnx.NodeProto] = []
    changed = False
    for place, node in enumerate(graph.node):
        condition = known.get(node.input[0]) if node.op_type == "If" and node.input else None
        if condition is None or condition.size != 1:
            kept.append(node)
            continue
        wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        branch = next((a.g for a in node.attribute if a.name == wanted), None)
        if branch is None or len(branch.output) != len(node.output):
            kept.append(node)
            continue
        kept += _branch_nodes(graph, branch, node, f"if_{number}_{place}_")
        changed = True
    if changed:
        fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(fresh)
    return changed


def _branch_nodes(
    graph: onnx.GraphProto, branch: onnx.GraphProto, node: onnx.NodeProto, prefix: str
) -> list[onnx.NodeProto]:
    """A branch's nodes, its own values under names of their own; its constants go to ``graph``."""
    own = {value for inner in branch.node for value in inner.output if value}
    own |= {tensor.name for tensor in branch.initializer}
    names = {value: prefix + value for value in own}
    for tensor in branch.initializer:
        copy = graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
    made = []
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        copy.name = prefix + inner.name if inner.name else ""
        _rename(copy, names)
        made.append(copy)
    for inner_output, output in zip(branch.output, node.output, strict=True):
        value = names.get(inner_output.name, inner_output.name)
        made.append(onnx.helper.make_node("Identity", [value], [output], f"{prefix}{output}"))
    return made


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Values of a node, and of the graphs within it: they see those around."""
    for values in (node.input, node.output):
        for place, value in enumerate(values):
            values[place] = names.get(value, value)
    for graph in _graphs(node):
        for inner in graph.node:
            _rename(inner, names)
        for output in graph.output:
            output.name = names.get(output.name, output.name)
