"""From an open Keras file to ONNX: every layer built from its configuration and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from prune_core.errors import InputError
from prune_core.keras_files.architectures import ARCHITECTURES
from prune_core.keras_files.binding import WEIGHTS, stored_weights
from prune_core.keras_files.config import Layer
from prune_core.keras_files.container import MAX_WEIGHT_BYTES, KerasFile
from prune_core.keras_files.layers import AUGMENTING, BUILDERS
from prune_core.keras_files.network import parse_config
from prune_core.keras_files.onnx_builder import INPUT, OnnxBuilder, Tensor
from prune_core.keras_files.windows import Call


@dataclass(frozen=True)
class Translation:
    """A file as ONNX, and where each layer's weights lie in the file.

    :ivar weights: name of the constant -> path of the data set. A layer that is called twice has two
        constants of one data set.
    :ivar paths: of all data sets that are used, each once for the layer that has it.
    :ivar depthwise_kernels: paths of data sets whose last two axes are the output channel.
    """

    model: onnx.ModelProto
    weights: Mapping[str, str]
    paths: Sequence[str]
    depthwise_kernels: frozenset[str]


def translate(file: KerasFile, architecture: str | None) -> Translation:
    """Read an open file, see `keras_h5.read_keras`."""
    config = file.model_config
    if config is None:
        if architecture not in ARCHITECTURES:
            said = f"{architecture!r} is not known" if architecture else "it needs one"
            raise InputError(
                f"{file.path}: weights without an architecture, {said};"
                f" set `architecture` to one of: {', '.join(sorted(ARCHITECTURES))}"
            )
        config = ARCHITECTURES[architecture](classes_of(file))
    network = parse_config(file.path, config, tuple(BUILDERS), (*AUGMENTING, "Resizing"))
    stored = stored_weights(file, network)
    graph = OnnxBuilder(file.path)
    shape = network.input_shape
    if len(shape) == 3 and network.channels_last:
        shape = (shape[2], shape[0], shape[1])
    tensors = {network.input_name: Tensor(INPUT, shape)}
    weights: dict[str, str] = {}
    paths: list[str] = []
    keras_2 = file.keras_version.startswith("2.")
    room = MAX_WEIGHT_BYTES
    for layer in network.layers:
        taker = _Taker(file, layer, stored.get(layer.key, []), room)
        inputs = [tensors[source] for source in layer.sources]
        call = Call(graph, layer, inputs, taker.take, network.channels_last, keras_2)
        if layer.name in tensors:
            raise InputError(f"{file.path}: {layer.name!r} names two layers; rename one of them")
        tensors[layer.name] = BUILDERS[layer.class_name](call)
        weights |= taker.taken
        paths += taker.taken.values() if layer.name == layer.key else ()
        room = taker.room
        if taker.left:
            layer.refuse(f"the file has more weights for it than it takes: {taker.left}")
    result = tensors[network.output_name]
    if result.order is not None:
        raise InputError(f"{file.path}: the model ends in a flattened image; it needs classes")
    kernels = [path for name, path in weights.items() if name.endswith("/depthwise_kernel")]
    model = graph.model(file.path.stem, shape, result)
    return Translation(model, weights, paths, frozenset(kernels))


def classes_of(file: KerasFile) -> int:
    """Units of the last Dense layer of a weights-only file: of its last kernel of two axes."""
    for _, paths in reversed(file.weights):
        for path in paths:
            shape = file.dataset(path).shape
            if len(shape) == 2 and min(shape):
                return int(shape[1])
    raise InputError(f"{file.path}: holds no weights of a Dense layer, so no number of classes")


def architecture_of(file: KerasFile) -> str | None:
    """The architecture whose layers with weights are those of the file, in the same order."""
    names = [name for name, _ in file.weights]
    for architecture, configure in ARCHITECTURES.items():
        layers = configure(1)["config"]["layers"]
        if names == [layer["name"] for layer in layers if layer["class_name"] in WEIGHTS]:
            return architecture
    return None


class _Taker:
    """Hands a layer its weights one by one, shape checked before anything is read.

    :ivar room: bytes that the network's weights may still take.
    """

    def __init__(self, file: KerasFile, layer: Layer, paths: Sequence[str], room: int) -> None:
        self._file = file
        self._layer = layer
        self.left = list(paths)
        self.taken: dict[str, str] = {}
        self.room = room

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The next weight, which should be `name` and have this shape; float32. In the graph it is the
        constant `<layer>/<name>`."""
        if not self.left:
            self._layer.refuse(f"its {name} is missing from the file")
        path = self.left.pop(0)
        if name == "count":  # how many images a Normalization has seen; nothing needs it
            return np.zeros(shape, np.float32)
        dataset = self._file.dataset(path)
        if dataset.shape != shape:
            self._layer.refuse(f"its {name} should have shape {shape}, the file has {dataset.shape} ({path})")
        self.room -= 4 * int(dataset.size)
        if self.room < 0:
            self._layer.refuse("the weights so far take 2 GB, more than an ONNX file holds")
        self.taken[f"{self._layer.name}/{name}"] = path
        return self._file.read(path)
