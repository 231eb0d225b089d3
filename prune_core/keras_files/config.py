"""A Keras `model_config` as plain data: layers in dataflow order, their sources, checked fields.

Every dialect from Keras 2.2 to 3 ends up in the same `Network`; nothing is built from class names.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from prune_core.errors import InputError

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "builtins")
_MAX_INT = 2**31 - 1


@dataclass(frozen=True)
class Layer:
    """One layer of a configuration, with access to its fields that checks them."""

    path: Path
    name: str
    class_name: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]

    def refuse(self, message: str) -> NoReturn:
        """Raise the InputError that names the file and this layer."""
        raise InputError(f"{self.path}: layer {self.name!r} ({self.class_name}): {message}")

    def flag(self, key: str, default: bool) -> bool:
        """A boolean field."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.refuse(f"{key} should be true or false, not {value!r}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.config.get(key, default)
        if not _is_count(value):
            self.refuse(f"{key} should be a whole number of at least 1, not {value!r}")
        return int(value)

    def number(self, key: str, default: float, low: float = -1e6, high: float = 1e6) -> float:
        """A number within `low` .. `high`; null counts as the default, as it does in Keras."""
        value = self.config.get(key)
        value = default if value is None else value
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not low <= value <= high:
            self.refuse(f"{key} should be a number within {low:g} .. {high:g}, not {value!r}")
        return float(value)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """One of a few words."""
        value = self.config.get(key)
        value = default if value is None else value
        if value not in choices:
            self.refuse(f"{key} should be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def pair(self, key: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """(height, width), both at least 1; one number stands for both."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        pair = [value, value] if _is_count(value) else value
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_count, pair)):
            self.refuse(f"{key} should be two whole numbers of at least 1, not {value!r}")
        return pair[0], pair[1]

    def axis(self, rank: int, default: int = -1) -> int:
        """The field `axis`, counted from 0 (the batch) in a tensor of `rank` axes."""
        value = self.config.get("axis", default)
        if isinstance(value, list) and len(value) == 1:  # tf.keras wraps it
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or not -rank <= value < rank:
            self.refuse(f"axis {value!r} does not exist in its input of {rank} axes")
        return value % rank


@dataclass(frozen=True)
class Network:
    """A whole configuration.

    :ivar layers: without the input layer, each after all of its sources.
    :ivar stored: names of the layers in the configuration's own order, which weights follow.
    :ivar input_name: what the first layers give as their source.
    :ivar input_shape: without the batch, in the file's axis order.
    :ivar output_name: the layer whose result is the network's.
    :ivar channels_last: axis order of images in the file, (H, W, C) or (C, H, W).
    """

    path: Path
    layers: list[Layer]
    stored: list[str]
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    channels_last: bool


def parse_config(path: Path, model_config: Any, supported: Collection[str]) -> Network:
    """Read a `model_config`, Sequential or Functional.

    :param supported: classes of layers that may occur, besides InputLayer.
    :raises InputError: it is no such configuration, or says something that is not supported.
    """
    class_name = model_config.get("class_name") if isinstance(model_config, dict) else None
    config = model_config.get("config") if isinstance(model_config, dict) else None
    if class_name not in ("Sequential", "Functional", "Model"):
        raise InputError(
            f"{path}: the model is a {class_name!r}; Sequential and Functional models can be read"
        )
    if class_name == "Sequential" and isinstance(config, list):  # Keras before 2.2.3
        config = {"layers": config}
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise InputError(f"{path}: model_config lists no layers")
    entries = config["layers"]
    layers = [_layer(path, entry, supported) for entry in entries]
    if class_name == "Sequential":
        layers = _chain(layers, config)
        output = layers[-1].name if layers else ""
    else:
        layers = [
            replace(layer, sources=_sources(layer, entry.get("inbound_nodes")))
            for layer, entry in zip(layers, entries, strict=True)
        ]
        output = _endpoint(path, config, "output_layers")
    by_name = {layer.name: layer for layer in layers}
    if len(by_name) != len(layers):
        raise InputError(f"{path}: two layers have the same name")
    inputs = [layer for layer in layers if layer.class_name == "InputLayer"]
    if len(inputs) != 1:
        raise InputError(f"{path}: the model has {len(inputs)} inputs, one is supported")
    if len(layers) < 2:
        raise InputError(f"{path}: the model has no layers but its input")
    ordered = _in_dataflow_order(path, by_name, output)
    return Network(
        path=path,
        layers=[layer for layer in ordered if layer.class_name != "InputLayer"],
        stored=[layer.name for layer in layers],
        input_name=inputs[0].name,
        input_shape=_input_shape(inputs[0]),
        output_name=output,
        channels_last=_channels_last(layers),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_INT


def _layer(path: Path, entry: Any, supported: Collection[str]) -> Layer:
    """One entry of the list of layers, its sources still to be found."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise InputError(f"{path}: model_config has a layer without a config")
    class_name, config = entry.get("class_name"), entry["config"]
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not name or not name.isprintable() or ".." in name.split("/"):
        raise InputError(f"{path}: {name!r} is not a valid layer name")
    layer = Layer(path, name, str(class_name), config, ())
    module, registered = entry.get("module"), entry.get("registered_name")
    foreign = isinstance(module, str) and module.split(".")[0] not in _LIBRARIES
    if foreign or (isinstance(registered, str) and ">" in registered):
        layer.refuse(f"a custom class ({registered or module}); its code is not known here")
    if class_name in ("Sequential", "Functional", "Model"):
        layer.refuse("a model within the model is not supported; save it with its layers in line")
    if class_name != "InputLayer" and class_name not in supported:
        layer.refuse(f"not supported (no code of a file is run); layers are {', '.join(supported)}")
    return layer


def _chain(layers: list[Layer], config: Mapping[str, Any]) -> list[Layer]:
    """Feed each layer of a Sequential from the one before; some dialects leave the input out."""
    if layers and layers[0].class_name != "InputLayer":
        first = layers[0]
        shape = first.config.get("batch_input_shape", config.get("build_input_shape"))
        fields = {"batch_input_shape": shape}
        layers = [Layer(first.path, f"{first.name}_input", "InputLayer", fields, ()), *layers]
    return layers[:1] + [
        replace(layer, sources=(before.name,)) for before, layer in itertools.pairwise(layers)
    ]


def _sources(layer: Layer, calls: Any) -> tuple[str, ...]:
    """Names of the layers that feed this one, from `inbound_nodes` in any dialect."""
    if not isinstance(calls, list):
        layer.refuse("it has no list inbound_nodes")
    if len(calls) > 1:
        layer.refuse(f"it is used {len(calls)} times; once is supported")
    if not calls:
        return ()
    call = calls[0]
    histories: list[Any] = []
    options: list[Any] = []
    if isinstance(call, dict):  # Keras 3
        arguments = call.get("args")
        arguments = arguments if isinstance(arguments, list) else [arguments]
        if arguments and isinstance(arguments[0], list):  # layers that merge take one list
            arguments = arguments[0] + arguments[1:]
        histories = [_history(argument) for argument in arguments]
        options = [call.get("kwargs")]
    elif isinstance(call, list):  # Keras 2: [[name, node, tensor, options], ..]
        histories = [call] if call and isinstance(call[0], str) else call
        options = [item[3] for item in histories if isinstance(item, list) and len(item) > 3]
    for option in options:
        if isinstance(option, dict) and option.get("training") not in (None, False):
            layer.refuse("called with training=True, which is not supported")
        if isinstance(option, dict) and any(isinstance(v, dict | list) for v in option.values()):
            layer.refuse("called with tensors by keyword, which is not supported")
    if not histories or not all(map(_is_history, histories)):
        layer.refuse("its inbound_nodes are of an unknown form")
    return tuple(item[0] for item in histories)


def _history(argument: Any) -> Any:
    config = argument.get("config") if isinstance(argument, dict) else None
    return config.get("keras_history") if isinstance(config, dict) else None


def _is_history(item: Any) -> bool:
    """`[layer, 0, 0]`: the first result of the only call of a layer."""
    return isinstance(item, list) and len(item) >= 3 and isinstance(item[0], str) and (item[1:3] == [0, 0])


def _endpoint(path: Path, config: Mapping[str, Any], key: str) -> str:
    """The one layer named in `output_layers`: `[[name, 0, 0]]`, or flat as Keras 3 writes it."""
    ends = config.get(key)
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    if not isinstance(ends, list) or len(ends) != 1 or not _is_history(ends[0]):
        raise InputError(f"{path}: {key} is {ends!r}; one output, of one layer, is supported")
    return str(ends[0][0])


def _in_dataflow_order(path: Path, layers: Mapping[str, Layer], output: str) -> list[Layer]:
    for layer in layers.values():
        if not layer.sources and layer.class_name != "InputLayer":
            layer.refuse("nothing feeds it")
        for source in layer.sources:
            if source not in layers:
                layer.refuse(f"its source {source!r} does not exist")
    if output not in layers:
        raise InputError(f"{path}: the output layer {output!r} does not exist")
    try:
        sorter = graphlib.TopologicalSorter({k: layer.sources for k, layer in layers.items()})
        ordered = [layers[name] for name in sorter.static_order()]
    except graphlib.CycleError:
        raise InputError(f"{path}: the layers form a cycle") from None
    used = {output} | {source for layer in ordered for source in layer.sources}
    for layer in ordered:
        if layer.name not in used:
            layer.refuse("its result is not used")
    return ordered


def _input_shape(layer: Layer) -> tuple[int, ...]:
    shape = layer.config.get("batch_input_shape", layer.config.get("batch_shape"))
    sizes = shape[1:] if isinstance(shape, list) else []
    if len(sizes) not in (1, 3) or not all(map(_is_count, sizes)):
        layer.refuse(f"the input shape is {shape!r}; only the batch may vary, as in [null, 55, 47, 3]")
    return tuple(sizes)


def _channels_last(layers: list[Layer]) -> bool:
    formats = {
        layer.choice("data_format", "channels_last", ("channels_last", "channels_first"))
        for layer in layers
        # Flatten's own field says what order to flatten in, not what its input is in.
        if "data_format" in layer.config and layer.class_name != "Flatten"
    }
    if len(formats) > 1:
        layers[0].refuse("layers with channels_last and with channels_first in one model")
    return formats != {"channels_first"}
