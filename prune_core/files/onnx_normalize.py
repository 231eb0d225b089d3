"""ONNX models made ready for onnx2torch: the same function, in fewer forms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from prune_core.errors import InputError
from prune_core.files.onnx_fold import Constants
from prune_core.files.onnx_read import first_line
from prune_core.files.onnx_shapes import free_of_the_count
from prune_core.files.onnx_tail import Affine, Users, passes, tail_of

TAILS = "goodnet.tails"  # in the metadata of a normalized model


def normalized(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy that onnx2torch can take, which computes the same function for any batch size.

    Constants, and what nodes make of constants alone, become initializers; nodes that hand on what they
    get go; batch dimensions become free; of several outputs the first stays. What adds to each channel
    behind a convolution becomes its bias, and what scales and adds a batch norm behind it (see
    ``onnx_tail``). Nodes are named by position (``node_0`` ...), so that no name of the file reaches
    Python code; the ``doc_string`` of a Conv is its number among those of the file.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    del model.functions[:]
    del model.metadata_props[:]
    for number, node in enumerate([n for n in model.graph.node if n.op_type == "Conv"]):
        node.doc_string = str(number)
    for node in model.graph.node:
        _say_zeros(node, name)
    constants = Constants(model, name)
    _constants_to_initializers(model.graph, constants)
    _leave_out_passing(model.graph, constants)
    _one_output(model.graph)
    _free_the_batch(model.graph)
    _say_shapes(model)
    _take_tails_in(model, name)
    _leave_out_unused(model.graph)
    # Two initializers of one name cannot be: after renaming nodes only tensors carry names.
    for position, node in enumerate(model.graph.node):
        node.name = f"node_{position}"
    return model


def _say_zeros(node: onnx.NodeProto, name: str) -> None:
    """A number of an attribute that is left out is 0, and onnx2torch takes it for a value of its own
    kind, which counts as true; so the 0 is put in. Raises InputError for an empty list, likewise."""
    kinds = onnx.AttributeProto
    held = {kinds.INT: "i", kinds.FLOAT: "f", kinds.STRING: "s"}
    lists = {kinds.INTS: "ints", kinds.FLOATS: "floats", kinds.STRINGS: "strings"}
    for attribute in node.attribute:
        if attribute.type in held:
            field = held[attribute.type]
            setattr(attribute, field, getattr(attribute, field))
        elif attribute.type in lists and not getattr(attribute, lists[attribute.type]):
            said = first_line(ValueError(attribute.name))
            raise InputError(f"{name}: the list {said!r} of a node {node.op_type} is empty")


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(fresh)


def _constants_to_initializers(graph: onnx.GraphProto, constants: Constants) -> None:
    there = {tensor.name for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        outputs = [o for o in node.output if o]
        if node.op_type == "Identity" or not outputs or any(o not in constants for o in outputs):
            kept.append(node)
            continue
        (output,) = outputs
        if output in there:  # two of one name: the checker lets none through
            continue
        tensor = graph.initializer.add()
        if output in constants.made:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(constants[output], order="C"), output))
        else:
            tensor.CopyFrom(constants.held[output])
            tensor.name = output
    _replace_nodes(graph, kept)


def _leave_out_passing(graph: onnx.GraphProto, constants: Constants) -> None:
    put_out = {output.name for output in graph.output}
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for position, value in enumerate(node.input):
            node.input[position] = source.get(value, value)
        if passes(node, constants) and node.output[0] not in put_out:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _one_output(graph: onnx.GraphProto) -> None:
    """The first output is the classes; nodes that serve others alone go."""
    if len(graph.output) < 2:
        return
    del graph.output[1:]
    _leave_out_unread(graph)


def _leave_out_unread(graph: onnx.GraphProto) -> None:
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    _replace_nodes(graph, kept[::-1])


def _say_shapes(model: onnx.ModelProto) -> None:
    """What follows from the shape of an image alone becomes a constant, and so does the size to which
    Resize brings it: the number of images among its numbers, here 1, is not looked at."""
    graph = model.graph
    same, for_one = free_of_the_count(model)
    if not same and not for_one:
        return
    kept = [node for node in graph.node if not set(node.output) & same.keys()]
    for name, array in same.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
    for number, node in enumerate(kept):
        sizes = node.input[3] if node.op_type == "Resize" and len(node.input) > 3 else ""
        if sizes in for_one:
            node.input[3] = _new(graph, f"goodnet_sizes_{number}", for_one[sizes], np.dtype(np.int64))
    _replace_nodes(graph, kept)
    _leave_out_unread(graph)


def _free_the_batch(graph: onnx.GraphProto) -> None:
    """Exporters may freeze the batch size in the input and in Reshape targets; free both."""
    initializers = {t.name: t for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in initializers]
    if len(inputs) != 1 or not inputs[0].type.tensor_type.shape.dim:
        return
    for node in graph.node:
        # Where the target has no zero, it does not matter what one would mean.
        target = initializers.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and _zero_is_zero(node) and numpy_helper.to_array(target).all():
            kept = [a for a in node.attribute if a.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    batch = inputs[0].type.tensor_type.shape.dim[0]
    frozen = batch.dim_value if batch.HasField("dim_value") else None
    for value in (*inputs, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_param = "n"
    if frozen is None:
        return
    del graph.value_info[:]
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in initializers:
            continue
        shape = numpy_helper.to_array(initializers[node.input[1]]).copy()
        if shape.size > 1 and shape[0] == frozen and not _zero_is_zero(node):
            shape[0] = 0
            tensor = numpy_helper.from_array(shape, f"goodnet_reshape_{number}")
            graph.initializer.append(tensor)
            node.input[1] = tensor.name


def _zero_is_zero(node: onnx.NodeProto) -> bool:
    return any(a.name == "allowzero" and a.i for a in node.attribute)


def tails_were_taken_in(model: onnx.ModelProto) -> bool:
    """Whether a ``normalized`` model has biases or scales that stood in nodes behind convolutions."""
    return any(entry.key == TAILS for entry in model.metadata_props)


def _take_tails_in(model: onnx.ModelProto, name: str) -> None:
    """What belongs to a convolution moves into it: see ``normalized``."""
    graph = model.graph
    constants, users = Constants(model, name), Users(graph)
    gone: dict[int, str] = {}
    added: dict[int, onnx.NodeProto] = {}
    for number, node in enumerate(graph.node):
        kernel = node.input[1] if node.op_type == "Conv" and len(node.input) > 1 else ""
        if kernel not in constants or constants[kernel].ndim != 4:
            continue
        if len(node.input) > 2 and node.input[2] and node.input[2] not in constants:
            continue
        tail = tail_of(graph, number, constants, users)
        shifts = next((i for i, part in enumerate(tail) if not part.shifts), len(tail))
        first, rest = tail[:shifts], tail[shifts:]
        if first:
            _add_to_bias(graph, node, first, constants)
            gone |= {part.node: part.value for part in first}
        if not rest:
            continue
        norm = graph.node[rest[0].node]
        if norm.op_type == "BatchNormalization" and rest[0].direct:
            if len(rest) == 1:
                continue
            scale, shift = (np.asarray(constants[norm.input[i]], np.float64) for i in (1, 2))
            for part in rest[1:]:
                scale, shift = scale * part.factor, shift * part.factor + part.term
            norm.input[1] = _new(graph, f"goodnet_scale_{number}", scale, constants[kernel].dtype)
            norm.input[2] = _new(graph, f"goodnet_shift_{number}", shift, constants[kernel].dtype)
            gone |= {part.node: part.value for part in rest[1:]}
            continue
        factor, term = np.ones(len(constants[kernel])), np.zeros(len(constants[kernel]))
        for part in rest:
            factor, term = factor * part.factor, term * part.factor + part.term
        values = {"scale": factor, "shift": term, "mean": 0 * term, "variance": 0 * term + 1}
        names = [_new(graph, f"goodnet_{k}_{number}", v, constants[kernel].dtype) for k, v in values.items()]
        inner = f"goodnet_conv_{number}"
        outer, node.output[0] = node.output[0], inner
        added[number] = onnx.helper.make_node(
            "BatchNormalization", [inner, *names], [outer], epsilon=0.0, momentum=0.9
        )
        gone |= {part.node: part.value for part in rest}
    if gone or added:
        _without(graph, gone, added)
        model.metadata_props.add(key=TAILS, value="1")


def _add_to_bias(
    graph: onnx.GraphProto, node: onnx.NodeProto, parts: list[Affine], constants: Mapping[str, np.ndarray]
) -> None:
    own = node.input[2] if len(node.input) > 2 else ""
    kind = constants[node.input[1]].dtype
    adding = graph.node[parts[0].node]
    (position,) = parts[0].zeroed
    name = adding.input[position]
    while len(node.input) < 3:
        node.input.append("")
    uses = sum(list(other.input).count(name) for other in graph.node)
    if not own and len(parts) == 1 and adding.op_type == "Add" and uses == 1:
        # It stays what it was, in another shape, so that it is known by its name.
        tensor = next(t for t in graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(constants[name].reshape(-1).astype(kind), name))
        node.input[2] = name
        return
    total = np.asarray(constants[own], np.float64) if own else np.zeros(len(parts[0].term))
    for part in parts:
        total = total + part.term
    node.input[2] = _new(graph, f"goodnet_bias_{parts[0].node}", total, kind)


def _new(graph: onnx.GraphProto, name: str, array: np.ndarray, kind: np.dtype) -> str:
    taken = {t.name for t in graph.initializer} | {o for node in graph.node for o in node.output}
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
    return name


def _without(graph: onnx.GraphProto, gone: dict[int, str], added: dict[int, onnx.NodeProto]) -> None:
    """Leave out nodes, each of which is replaced by the value that it takes; put in others behind those
    of that number."""
    put_out = {output.name for output in graph.output}
    source: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        for position, value in enumerate(node.input):
            node.input[position] = source.get(value, value)
        if number in gone:
            value, output = source.get(gone[number], gone[number]), node.output[0]
            if output in put_out:
                kept.append(onnx.helper.make_node("Identity", [value], [output]))
            else:
                source[output] = value
            continue
        kept.append(node)
        if number in added:
            kept.append(added[number])
    _replace_nodes(graph, kept)


def _leave_out_unused(graph: onnx.GraphProto) -> None:
    used = {value for node in graph.node for value in node.input} | {o.name for o in graph.output}
    there = {t.name for t in graph.initializer}
    kept = [t for t in graph.initializer if t.name in used]
    if len(kept) == len(there):
        return
    fresh = [onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
    names = {t.name for t in kept}
    del graph.initializer[:]
    graph.initializer.extend(fresh)
    inputs = [i for i in graph.input if i.name not in there or i.name in names]
    inputs = [onnx.ValueInfoProto.FromString(i.SerializeToString()) for i in inputs]
    del graph.input[:]
    graph.input.extend(inputs)
