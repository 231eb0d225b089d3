"""A Keras `model_config` as plain data: layers in dataflow order, models within the model taken apart.

Every dialect from Keras 2.2 to 3 ends up in the same `Network`; nothing is built from class names.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prune_core.errors import InputError
from prune_core.keras_files.config import MODELS, WAY_OUT, Layer, is_count

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "builtins")
# Calls of layers in all. Models within models that are called twice each would grow without end.
MAX_CALLS = 5000
MAX_DEPTH = 20
Ref = tuple[str, int]  # a layer, and which of its calls


@dataclass(frozen=True)
class Definition:
    """A layer as a configuration lists it.

    :ivar layer: not called yet; its name is whole.
    :ivar name: within the model that lists it.
    :ivar calls: what each call of it takes.
    :ivar inner: of a model, what it is made of.
    """

    layer: Layer
    name: str
    calls: tuple[tuple[Ref, ...], ...] = ()
    inner: Model | None = None


@dataclass(frozen=True)
class Model:
    """A Sequential or Functional model. `output` is None where it has no layers."""

    definitions: tuple[Definition, ...]
    output: Ref | None


@dataclass(frozen=True)
class Network:
    """A whole configuration.

    :ivar layers: without the input layer, each after all of its sources.
    :ivar definitions: layers of the outermost model in the configuration's order, which weights follow.
    :ivar input_name: what the first layers give as their source.
    :ivar input_shape: without the batch, in the file's axis order.
    :ivar output_name: the layer whose result is the network's.
    :ivar channels_last: axis order of images in the file, (H, W, C) or (C, H, W).
    """

    path: Path
    layers: list[Layer]
    definitions: tuple[Definition, ...]
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    channels_last: bool


def parse_config(
    path: Path, model_config: Any, supported: Collection[str], augmenting: Collection[str]
) -> Network:
    """Read a `model_config`, Sequential or Functional.

    :param supported: classes of layers that may occur, besides InputLayer.
    :param augmenting: those of them that may be called with training=True, which a model in use overrides.
    :raises InputError: it is no such configuration, or says something that is not supported.
    """
    class_name = model_config.get("class_name") if isinstance(model_config, dict) else None
    if class_name not in MODELS:
        raise InputError(
            f"{path}: the model is a {class_name!r}; Sequential and Functional models can be read; {WAY_OUT}"
        )
    model = _Reader(path, supported, augmenting).model(class_name, model_config.get("config"), "", 0)
    inputs = [d for d in model.definitions if d.layer.class_name == "InputLayer"]
    if len(inputs) != 1:
        raise InputError(f"{path}: the model has {len(inputs)} inputs, one is supported")
    if len(model.definitions) < 2 or model.output is None:
        raise InputError(f"{path}: the model has no layers but its input")
    layers: list[Layer] = []
    output = _Calls(path, layers).expand(model, "", None)
    return Network(
        path=path,
        layers=layers,
        definitions=model.definitions,
        input_name=inputs[0].name,
        input_shape=_input_shape(inputs[0].layer),
        output_name=output,
        channels_last=_channels_last([inputs[0].layer, *layers]),
    )


@dataclass(frozen=True)
class _Reader:
    path: Path
    supported: Collection[str]
    augmenting: Collection[str]

    def model(self, class_name: str, config: Any, prefix: str, depth: int) -> Model:
        if depth > MAX_DEPTH:
            raise InputError(f"{self.path}: models within models, more than {MAX_DEPTH} deep")
        if class_name == "Sequential" and isinstance(config, list):  # Keras before 2.2.3
            config = {"layers": config}
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise InputError(f"{self.path}: model_config lists no layers")
        entries = config["layers"]
        if len(entries) > MAX_CALLS:
            raise InputError(f"{self.path}: {len(entries)} layers; at most {MAX_CALLS}")
        found = [self._definition(entry, prefix, depth) for entry in entries]
        if class_name == "Sequential":
            model = _chain(found, config, prefix)
        else:
            found = [
                replace(d, calls=self._calls(d, entry.get("inbound_nodes")))
                for d, entry in zip(found, entries, strict=True)
            ]
            model = Model(tuple(found), _endpoint(self.path, config, "output_layers"))
        if len({d.name for d in model.definitions}) != len(model.definitions):
            raise InputError(f"{self.path}: two layers have the same name")
        return _without_own_nodes(model)

    def _definition(self, entry: Any, prefix: str, depth: int) -> Definition:
        """One entry of the list of layers, its calls still to be found."""
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list):
            raise InputError(f"{self.path}: model_config has a layer without a config")
        class_name, config = entry.get("class_name"), entry["config"]
        fields = config if isinstance(config, dict) else {}
        name = entry.get("name", fields.get("name"))
        if not isinstance(name, str) or not name or not name.isprintable() or ".." in name.split("/"):
            raise InputError(f"{self.path}: {name!r} is not a valid layer name")
        module, registered = entry.get("module"), entry.get("registered_name")
        whole = prefix + name
        layer = Layer(self.path, whole, str(class_name), fields, (), whole, isinstance(module, str))
        foreign = isinstance(module, str) and module.split(".")[0] not in _LIBRARIES
        if foreign or (isinstance(registered, str) and ">" in registered):
            layer.refuse(f"a custom class ({registered or module}); its code is not known here; {WAY_OUT}")
        if class_name in MODELS:
            return Definition(layer, name, inner=self.model(class_name, config, f"{whole}/", depth + 1))
        if class_name != "InputLayer" and class_name not in self.supported:
            layer.refuse(
                f"not supported (no code of a file is run); {WAY_OUT}; layers are {', '.join(self.supported)}"
            )
        return Definition(layer, name)

    def _calls(self, definition: Definition, calls: Any) -> tuple[tuple[Ref, ...], ...]:
        """What feeds each call of a layer, from `inbound_nodes` in any dialect."""
        layer = definition.layer
        if not isinstance(calls, list):
            layer.refuse("it has no list inbound_nodes")
        if len(calls) > MAX_CALLS:
            layer.refuse(f"it is used {len(calls)} times; at most {MAX_CALLS}")
        return tuple(self._sources(layer, call) for call in calls)

    def _sources(self, layer: Layer, call: Any) -> tuple[Ref, ...]:
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
            if not isinstance(option, dict):
                continue
            if option.get("training") not in (None, False) and layer.class_name not in self.augmenting:
                layer.refuse("called with training=True, which is not supported")
            if any(isinstance(v, dict | list) for v in option.values()):
                layer.refuse("called with tensors by keyword, which is not supported")
        if not histories or not all(map(_is_history, histories)):
            layer.refuse(f"its inbound_nodes are of an unknown form; {WAY_OUT}")
        return tuple((item[0], item[1]) for item in histories)


@dataclass
class _Calls:
    """Takes models apart, call by call, into layers with whole names."""

    path: Path
    layers: list[Layer]

    def expand(self, model: Model, suffix: str, fed: str | None) -> str:
        """Append a model's layers.

        :param suffix: of the names of all layers within: which call of the model this is.
        :param fed: what takes the place of its input; None for the outermost.
        :returns: the name of the layer whose result is the model's.
        """
        given = {d.name: d for d in model.definitions}
        order = _in_dataflow_order(self.path, given, model.output)
        inputs = [name for name, _ in order if given[name].layer.class_name == "InputLayer"]
        if len(inputs) != 1:
            raise InputError(
                f"{self.path}: a model within the model has {len(inputs)} inputs, one is supported"
            )
        made: dict[Ref, str] = {}
        for name, number in order:
            definition = given[name]
            again = suffix + (f"#{number + 1}" if number else "")
            if definition.layer.class_name == "InputLayer":
                made[name, number] = name if fed is None else fed
                continue
            sources = tuple(made[ref] for ref in definition.calls[number])
            if definition.inner is not None:
                if len(sources) != 1:
                    definition.layer.refuse(f"a model within the model with {len(sources)} inputs, not one")
                made[name, number] = self.expand(definition.inner, again, sources[0])
                continue
            layer = replace(definition.layer, name=definition.layer.name + again, sources=sources)
            made[name, number] = layer.name
            self.layers.append(layer)
            if len(self.layers) > MAX_CALLS:
                raise InputError(f"{self.path}: its layers are called more than {MAX_CALLS} times")
        assert model.output is not None
        return made[model.output]


def _chain(definitions: list[Definition], config: Mapping[str, Any], prefix: str) -> Model:
    """Feed each layer of a Sequential from the one before; some dialects leave the input out."""
    if definitions and definitions[0].layer.class_name != "InputLayer":
        first = definitions[0].layer
        shape = first.config.get("batch_input_shape", config.get("build_input_shape"))
        inner = definitions[0].inner
        if shape is None and inner is not None and inner.definitions:
            fields = inner.definitions[0].layer.config
            shape = fields.get("batch_input_shape", fields.get("batch_shape"))
        name = f"{definitions[0].name}_input"
        layer = Layer(first.path, f"{prefix}{name}", "InputLayer", {"batch_input_shape": shape})
        definitions = [Definition(layer, name), *definitions]
    chained = definitions[:1] + [
        replace(d, calls=(((before.name, 0),),)) for before, d in itertools.pairwise(definitions)
    ]
    return Model(tuple(chained), (chained[-1].name, 0) if chained else None)


def _without_own_nodes(model: Model) -> Model:
    """References to the calls of models within, counted from 0. Such a model has a call of its own, that on
    its own input; Keras 2 counts it everywhere, Keras 3 where the output is named, and a Sequential may
    have none."""
    given = {d.name: d for d in model.definitions}
    seen: dict[str, set[int]] = {}
    for definition in model.definitions:
        for name, number in itertools.chain.from_iterable(definition.calls):
            seen.setdefault(name, set()).add(number)

    def counted(ref: Ref, numbers: set[int]) -> Ref:
        name, number = ref
        if name not in given or given[name].inner is None:
            return ref
        times = len(given[name].calls)
        shift = 1 if (times in numbers or (times == 1 and 1 in numbers)) and 0 not in numbers else 0
        return name, number - shift

    fixed = [
        replace(d, calls=tuple(tuple(counted(r, seen[r[0]]) for r in call) for call in d.calls))
        for d in model.definitions
    ]
    output = model.output
    if output is not None and output[0] in given and given[output[0]].layer.class_name != "Sequential":
        output = counted(output, {output[1]} | ({len(given[output[0]].calls)} if output[1] else set()))
    elif output is not None:
        output = counted(output, seen.get(output[0], {output[1]}))
    return Model(tuple(fixed), output)


def _history(argument: Any) -> Any:
    config = argument.get("config") if isinstance(argument, dict) else None
    return config.get("keras_history") if isinstance(config, dict) else None


def _is_history(item: Any) -> bool:
    """`[layer, call, 0]`: the first result of a call of a layer."""
    if not isinstance(item, list) or len(item) < 3 or not isinstance(item[0], str):
        return False
    return type(item[1]) is int and 0 <= item[1] <= MAX_CALLS and item[2] == 0


def _endpoint(path: Path, config: Mapping[str, Any], key: str) -> Ref:
    """The one layer named in `output_layers`: `[[name, 0, 0]]`, or flat as Keras 3 writes it."""
    ends = config.get(key)
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    if not isinstance(ends, list) or len(ends) != 1 or not _is_history(ends[0]):
        raise InputError(f"{path}: {key} is {ends!r:.200}; one output, of one layer, is supported")
    return str(ends[0][0]), int(ends[0][1])


def _in_dataflow_order(path: Path, given: Mapping[str, Definition], output: Ref | None) -> list[Ref]:
    """All calls, each after those that it takes."""
    sources: dict[Ref, tuple[Ref, ...]] = {}
    for name, definition in given.items():
        entry = definition.layer.class_name == "InputLayer"
        if not definition.calls and not entry:
            definition.layer.refuse("nothing feeds it")
        for number, call in enumerate(((),) if entry else definition.calls):
            sources[name, number] = call
    for (name, _), call in sources.items():
        for source in call:
            if source not in sources:
                given[name].layer.refuse(f"its source {source[0]!r} does not exist")
    if output not in sources:
        raise InputError(f"{path}: the output layer {output and output[0]!r} does not exist")
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError:
        raise InputError(f"{path}: the layers form a cycle") from None
    used = {output} | {source for call in sources.values() for source in call}
    for name, number in order:
        if (name, number) not in used:
            given[name].layer.refuse("its result is not used")
    return order


def _input_shape(layer: Layer) -> tuple[int, ...]:
    shape = layer.config.get("batch_input_shape", layer.config.get("batch_shape"))
    sizes = shape[1:] if isinstance(shape, list) else []
    if len(sizes) not in (1, 3) or not all(map(is_count, sizes)):
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
