"""A GoodNet as a file: the BadNet's own ONNX or Keras form, with the pruned channels' weights zero.

Nothing else changes, so what could load the BadNet can load the GoodNet, and ``audit`` finds the
pruned channels and no others.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from prune_core.counts import Counts
from prune_core.data.form import Preprocessing
from prune_core.errors import ExportMismatch, InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluation.tally import agreeing_with
from prune_core.export.narrowed import in_float32
from prune_core.export.state_dict import PARAMETERS, NoStateDict, zeroed_rows
from prune_core.export.zeroings import zeroings
from prune_core.files.constants import Weights, constants, to_safetensors
from prune_core.files.onnx_fold import Constants, held_constants
from prune_core.files.write import write_whole
from prune_core.keras_files.h5 import ARCHIVE, KERAS_SUFFIXES
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, file_digest, load_model
from prune_core.reader import client as contained

_log = logging.getLogger(__name__)
MASK_KEY = "goodnet.mask"
BADNET_KEY = "goodnet.badnet_sha256"
PREPROCESSING_KEY = "goodnet.preprocessing"


def pruned_onnx(model: PrunableModel, mask: ChannelMask) -> onnx.ModelProto:
    """The BadNet's ONNX form with ``mask`` pruned, a softmax at its end included.

    What is set to zero is what ``PrunableModel.pruned`` sets to zero. A constant that other nodes
    use too is copied first, so that they keep theirs. ``metadata_props`` hold the mask (JSON) and
    the BadNet's digest. Raises InputError for a layer or channel that is not there.
    """
    known = Constants(model.proto)
    # Before anything changes: a constant that is copied has another name.
    found = list(zeroings(model, mask, known))
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    for at in found:
        name = graph.node[at.node].input[at.position]
        made = known[name] if name in known.made else None
        _zero_rows(graph, graph.node[at.node], at.position, at.rows, at.axis, made)
    if proto.ir_version < 4:  # every initializer has to stand among the inputs as well
        there = {given.name for given in graph.input}
        for tensor in [t for t in graph.initializer if t.name not in there]:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    set_metadata(proto, {MASK_KEY: json.dumps(mask.to_json()), BADNET_KEY: model.badnet_digest})
    return proto


def write_goodnet(
    model: PrunableModel,
    mask: ChannelMask,
    badnet_path: Path | None,
    destination: Path,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> list[Path]:
    """Write ``<destination>.onnx``; the same as ``.h5`` or ``.keras`` when the BadNet's file is such a
    one of Keras (the lab's own evaluation takes ``.h5``), unless it cannot say what was pruned (of a layer
    that is called twice, one call alone); and ``<destination>.mask.json``, which for a PyTorch module also
    says what to set to zero, by key of its state_dict. Each appears whole or not at all.

    ``model`` must have been read from ``badnet_path``; with None there is none of Keras. Returns the paths,
    models first. A network in float64 is written in float32, which ONNX Runtime needs. Raises InputError
    when the file has changed since, or the folder cannot be written.

    ``preprocessing``: what was done to pixels on their way into the network, which does not do it itself; the
    ``.onnx`` file says so in its ``metadata_props``, as JSON of scale, mean and std.
    """
    if badnet_path is not None:
        _check_badnet(badnet_path, model)
    onnx_path, mask_path = (
        destination.with_name(f"{destination.name}.{kind}") for kind in ("onnx", "mask.json")
    )
    proto = in_float32(pruned_onnx(model, mask))
    if preprocessing is not None:
        set_metadata(proto, {PREPROCESSING_KEY: json.dumps(preprocessing.to_json())})
    write_whole(onnx_path, proto.SerializeToString())
    paths = [onnx_path]
    if badnet_path is not None and badnet_path.suffix.lower() in KERAS_SUFFIXES:
        convs = [node.name for node in proto.graph.node if node.op_type == "Conv"]
        in_file = {convs[model.layer(la).onnx_index]: ids for la, ids in mask.by_layer().items()}
        kind = ARCHIVE if badnet_path.suffix.lower() == ARCHIVE else ".h5"
        keras_path = destination.with_name(f"{destination.name}{kind}")
        if _write_keras(badnet_path, keras_path, in_file, mask.keep_bias, architecture, model.weights):
            paths.append(keras_path)
    name = model.name if badnet_path is None else badnet_path.name
    provenance: dict[str, Any] = {"badnet": name, "badnet_sha256": model.badnet_digest}
    with contextlib.suppress(NoStateDict):
        provenance[PARAMETERS] = zeroed_rows(model, mask)
    write_whole(mask_path, json.dumps({**mask.to_json(), **provenance}, indent=1).encode() + b"\n")
    return [*paths, mask_path]


def _check_badnet(path: Path, model: PrunableModel) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the BadNet that was pruned")
    wanted = model.badnet_digest if model.source is None else model.source.file_sha256
    if file_digest(path) != wanted:
        raise InputError(
            f"{path}: not the BadNet that was pruned (its digest differs); give the file that the sweep used"
        )


def remeasured(
    path: Path, architecture: str | None, badnet: PlainEvaluator, read: PrunableModel | None = None
) -> Counts:
    """What the network in a file does on ``badnet.split``, run from scratch, and read from scratch
    unless it is given (``read``).

    ``attacked_agreeing`` refers to the BadNet; ``margin`` is rounded in the file's own unit.
    """
    net = PlainEvaluator(read or load_model(path, architecture), badnet.split, badnet.batch)
    said, split = net.badnet_classes, badnet.split
    return agreeing_with(net.badnet, split, (said == split.targets) & (said == badnet.badnet_classes))


def verified(
    path: Path,
    architecture: str | None,
    badnet: PlainEvaluator,
    expected: Counts,
    read: PrunableModel | None = None,
) -> Counts:
    """``remeasured``, after making sure that every whole number is as ``expected``.

    Raises ExportMismatch that names both.
    """
    found = remeasured(path, architecture, badnet, read)
    if found.with_margins_of(expected) != expected:
        raise ExportMismatch(
            f"{path}: the file read back gives {_shown(found)} on {badnet.split.clean.name}; "
            f"the pruned network gave {_shown(expected)}"
        )
    return found


def _write_keras(
    badnet: Path,
    path: Path,
    pruned: dict[str, list[int]],
    keep_bias: bool,
    architecture: str | None,
    weights: Weights,
) -> bool:
    """``h5.write_pruned_keras``, by the reader process: the BadNet's file is a stranger's. False, and why
    in the log, where a Keras file cannot say what was changed."""
    try:
        # A folder of its own: a reader that dies may leave half a file.
        with tempfile.TemporaryDirectory(prefix=".goodnet-", dir=path.parent) as folder:
            aside, changed = Path(folder).resolve() / path.name, Path(folder).resolve() / "weights"
            if weights:
                changed.write_bytes(to_safetensors(weights))
            cannot, _ = contained.read(
                "pruned_keras",
                badnet,
                destination=str(aside),
                pruned=pruned,
                keep_bias=keep_bias,
                architecture=architecture,
                weights=str(changed) if weights else None,
            )
            if cannot is not None:
                _log.warning("%s is not written: %s", path.name, cannot)
                return False
            aside.replace(path)
            return True
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _zero_rows(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    position: int,
    rows: list[int],
    axis: int,
    made: np.ndarray | None,
) -> None:
    """Set rows (along ``axis``) of the constant at input ``position`` to zero, for this node only.
    ``made``: the constant, where nodes make it of others; it then gets one that stands in the file."""
    name = node.input[position]
    tensor = None if made is not None else constants(graph).get(name)
    array = np.array(_held(graph, name) if made is None else made)
    array[(slice(None),) * axis + (rows,)] = 0
    uses = sum(list(other.input).count(name) for other in graph.node)
    if tensor is not None and uses + sum(output.name == name for output in graph.output) == 1:
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return
    copy = _new_name(graph, name)
    graph.initializer.append(numpy_helper.from_array(array, copy))
    node.input[position] = copy


def _held(graph: onnx.GraphProto, name: str) -> np.ndarray:
    array: np.ndarray = numpy_helper.to_array(held_constants(graph)[name])
    return array


def _new_name(graph: onnx.GraphProto, name: str) -> str:
    taken = {value for node in graph.node for value in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    number = 1
    while f"{name}_pruned_{number}" in taken:
        number += 1
    return f"{name}_pruned_{number}"


def set_metadata(proto: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Beside the ``metadata_props`` that are there; of equal keys the new ones count."""
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, kept | dict(values))


def _shown(counts: Counts) -> str:
    return (
        f"{counts.clean_correct} of {counts.clean_total} clean right, {counts.attacked} "
        f"({counts.attacked_agreeing} with the BadNet) of {counts.poisoned_total} attacked"
        + (f", {counts.recovered} recovered" if counts.recovered is not None else "")
    )
