"""Keras files, `.h5` and `.keras`, to ONNX by reading alone, and pruned copies back into the same form."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

from prune_core.errors import InputError
from prune_core.files.constants import Weights
from prune_core.keras_files.archive import WEIGHTS, open_archive, read_entries, written_archive
from prune_core.keras_files.container import KerasFile, open_keras
from prune_core.keras_files.translate import Translation, architecture_of, classes_of, translate
from prune_core.keras_files.weights import called_again, in_file_layout

ARCHIVE = ".keras"
KERAS_SUFFIXES = (".h5", ".hdf5", ARCHIVE)


@contextmanager
def opened(path: Path) -> Iterator[KerasFile]:
    """A Keras file of any form, by its suffix. Raises InputError."""
    with (open_archive if path.suffix.lower() == ARCHIVE else open_keras)(path) as file:
        yield file


def read_keras(path: Path, architecture: str | None = None) -> onnx.ModelProto:
    """A Keras file as ONNX: `.h5`, written by Keras 2.2 to 3, or `.keras` of Keras 3.

    The input is `images` (n, C, H, W) whatever the axis order of the file; the output (n, classes)
    is `probabilities` if the network ends in a softmax, else `logits`. A Conv node has the name of
    its Keras layer; constants are `<layer>/kernel`, `<layer>/bias`, `<layer>/gamma` and so on.

    :param architecture: for a weights-only file, a name in `ARCHITECTURES`.
    :raises InputError: the file is damaged, or holds something that is not supported.
    """
    with opened(Path(path)) as file:
        translation = translate(file, architecture)
        file.check_apart(translation.paths)
        return translation.model


def weights_only(path: Path, architecture: str | None = None) -> dict[str, Any] | None:
    """What has to be known to build the network of a weights-only Keras file: the ``architecture``
    and the number of ``classes``. None for a full model, and for a file that is none of Keras."""
    if path.suffix.lower() not in KERAS_SUFFIXES:
        return None
    with opened(path) as file:
        if file.model_config is not None:
            return None
        name = architecture or architecture_of(file)
        return {"architecture": name, "classes": classes_of(file)}


def write_pruned_keras(
    source: Path,
    destination: Path,
    pruned: Mapping[str, Sequence[int]],
    *,
    keep_bias: bool = False,
    architecture: str | None = None,
    weights: Weights | None = None,
) -> None:
    """Copy a Keras file, put changed weights in, then set the pruned channels' weights
    to zero.

    These are the kernel and, unless `keep_bias`, the bias, and what a batch normalization right
    behind the convolution (and nothing else behind it) would give such a channel: gamma and beta,
    or for want of a gamma the moving mean. The channel is then exactly zero.

    :param pruned: names of convolution layers -> output channels.
    :param architecture: for a weights-only file; by default the known one whose layers it has.
    :param weights: changed weights by name of the constant in the ONNX form that `read_keras` gives.
    :raises InputError: no such layer, channel or weights, or a file that `read_keras` refuses;
        SharedWeights, where a layer that is called more than once would differ between its calls.
    """
    with opened(Path(source)) as file:
        if file.model_config is None and architecture is None:
            architecture = architecture_of(file)
        translation = translate(file, architecture)
        edits = _edits(file, translation, pruned, keep_bias)
        changed = in_file_layout(file, architecture, weights) if weights else {}
    with _written_aside(destination) as aside:
        if source.suffix.lower() == ARCHIVE:
            stream = io.BytesIO(read_entries(source)[WEIGHTS])
            _change(stream, changed, edits, translation.depthwise_kernels)
            aside.write_bytes(written_archive(source, stream.getvalue()))
        else:
            shutil.copyfile(source, aside)
            _change(aside, changed, edits, translation.depthwise_kernels)


def _change(
    place: Path | io.BytesIO,
    changed: Mapping[str, np.ndarray],
    edits: Sequence[tuple[str, list[int]]],
    depthwise_kernels: Collection[str],
) -> None:
    with h5py.File(place, "r+") as handle:
        for name, values in changed.items():
            handle[name][...] = values
        for name, channels in edits:
            values = handle[name][()]
            # The last axis is the output channel; in a depthwise kernel the last two are.
            depthwise = name in depthwise_kernels
            flat = values.reshape(*values.shape[:2], -1) if depthwise else values
            flat[..., channels] = 0
            handle[name][...] = values


def write_keras(
    path: Path,
    model_config: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, np.ndarray]],
    keras_version: str = "2.7.0",
) -> None:
    """Save a full model as Keras 2 does, for any Keras to load.

    :param model_config: Sequential or Functional.
    :param weights: layer -> weights in Keras's own order and shape: kernel (H, W, in, out), bias;
        gamma, beta, moving_mean, moving_variance.
    """
    names = [entry.get("name") or entry["config"]["name"] for entry in model_config["config"]["layers"]]
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise InputError(f"{path}: weights for {unknown}, which are not layers of the model")
    with _written_aside(path) as aside, h5py.File(aside, "w") as handle:
        root = handle.create_group("model_weights")
        for node in (handle, root):
            node.attrs["keras_version"] = keras_version
            node.attrs["backend"] = "tensorflow"
        handle.attrs["model_config"] = json.dumps(model_config)
        root.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            group = root.create_group(name)
            stored = weights.get(name, {})
            group.attrs["weight_names"] = np.array([f"{name}/{key}:0".encode() for key in stored])
            for key, values in stored.items():
                group[f"{name}/{key}:0"] = np.asarray(values, dtype=np.float32)


def _edits(
    file: KerasFile, translation: Translation, pruned: Mapping[str, Sequence[int]], keep_bias: bool
) -> list[tuple[str, list[int]]]:
    """What to set to zero: (path of a data set, output channels)."""
    nodes = {node.name: node for node in translation.model.graph.node if node.op_type == "Conv"}
    constants = {item.name: item for item in translation.model.graph.initializer}
    edits: dict[str, list[int]] = {}  # by constant
    for layer, channels in pruned.items():
        if layer not in nodes:
            raise InputError(
                f"{file.path}: {layer!r} is not a convolution; the convolutions are {', '.join(nodes)}"
            )
        node = nodes[layer]
        count = constants[node.input[1]].dims[0]
        chosen = sorted({int(channel) for channel in channels})
        if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
            raise InputError(f"{file.path}: {layer!r} has channels 0 to {count - 1}, not {chosen}")
        if not chosen:
            continue
        edits[node.input[1]] = chosen
        if keep_bias:
            continue
        if len(node.input) > 2:
            edits[node.input[2]] = chosen
        norm = _normalization_behind(translation.model.graph, node.output[0])
        parts = {name.rpartition("/")[2]: name for name in norm.input[1:]} if norm is not None else {}
        parts = {part: name for part, name in parts.items() if name in translation.weights}
        # Without a gamma the result is (0 - mean) / deviation + beta, so the mean has to go.
        for weight in ("gamma" if "gamma" in parts else "moving_mean", "beta"):
            if weight in parts:
                edits[parts[weight]] = chosen
    by_path: dict[str, list[int]] = {}
    for name, path in translation.weights.items():
        if by_path.setdefault(path, edits.get(name, [])) != edits.get(name, []):
            raise called_again(file, name)
    return [(path, chosen) for path, chosen in by_path.items() if chosen]


def _normalization_behind(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    """The batch normalization that alone takes `value`, if that is what takes it."""
    takers = [node for node in graph.node if value in node.input]
    alone = len(takers) == 1 and takers[0].op_type == "BatchNormalization"
    return takers[0] if alone else None


@contextmanager
def _written_aside(destination: Path) -> Iterator[Path]:
    """A path beside `destination` to write to; it takes its place once the body has succeeded."""
    if not destination.parent.is_dir():
        raise InputError(f"{destination.parent}: no such folder to write {destination.name} in")
    aside = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        yield aside
        aside.replace(destination)
    finally:
        aside.unlink(missing_ok=True)
