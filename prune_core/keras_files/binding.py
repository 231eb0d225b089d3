"""Which data sets of a Keras file belong to which layer, in the three ways in which Keras lays them out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from prune_core.errors import InputError
from prune_core.keras_files.config import WAY_OUT, Layer
from prune_core.keras_files.container import KerasFile
from prune_core.keras_files.network import Definition, Network

Weight = tuple[str, bool]
"""Name, as Keras gives it, and whether training changes it."""

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Where a `.keras` file has the layers of a model: Keras 3, and tf.keras before it."""


def _with_bias(*kernels: str) -> Callable[[Layer], list[Weight]]:
    def weights(layer: Layer) -> list[Weight]:
        bias = ["bias"] if layer.flag("use_bias", True) else []
        return [(name, True) for name in (*kernels, *bias)]

    return weights


def _scaled(layer: Layer) -> list[Weight]:
    names = [("gamma", layer.flag("scale", True)), ("beta", layer.flag("center", True))]
    return [(name, True) for name, there in names if there]


def _normalization(layer: Layer) -> list[Weight]:
    if layer.config.get("mean") is not None:  # told in the configuration
        return []
    return [("mean", False), ("variance", False), ("count", False)]


WEIGHTS: dict[str, Callable[[Layer], list[Weight]]] = {
    "Conv2D": _with_bias("kernel"),
    "DepthwiseConv2D": _with_bias("depthwise_kernel"),
    "SeparableConv2D": _with_bias("depthwise_kernel", "pointwise_kernel"),
    "Dense": _with_bias("kernel"),
    "BatchNormalization": lambda layer: [
        *_scaled(layer),
        ("moving_mean", False),
        ("moving_variance", False),
    ],
    "LayerNormalization": _scaled,
    "GroupNormalization": _scaled,
    "Normalization": _normalization,
    "PReLU": lambda layer: [("alpha", True)],
}
"""What a layer of a class has in a file, in the order in which it takes it."""


def weights_of(layer: Layer) -> list[Weight]:
    """The weights that a file has for a layer."""
    return WEIGHTS[layer.class_name](layer) if layer.class_name in WEIGHTS else []


def stored_weights(file: KerasFile, network: Network) -> dict[str, list[str]]:
    """Layer (by `Layer.key`) -> its data sets. Raises InputError where file and configuration disagree."""
    if file.archive:
        found: dict[str, list[str]] = {}
        _of_archive(file, network.definitions, "", found)
        return found
    return _of_h5(file, network)


def _of_h5(file: KerasFile, network: Network) -> dict[str, list[str]]:
    """By position, as Keras loads them; a full model's names must agree."""
    tops = [d for d in network.definitions if any(weights for _, weights, _ in _leaves(d))]
    layers = [d.name for d in tops]
    groups = [name for name, _ in file.weights]
    if len(layers) != len(groups):
        missing = sorted(set(layers) - set(groups)) or sorted(set(groups) - set(layers))
        raise InputError(
            f"{file.path}: {len(layers)} layers take weights, the file has them for {len(groups)}"
            f" (see {', '.join(missing[:5])})"
        )
    if file.model_config is not None and layers != groups:
        pairs = zip(layers, groups, strict=True)
        layer, group = next(pair for pair in pairs if pair[0] != pair[1])
        raise InputError(f"{file.path}: where weights of {layer!r} belong, those of {group!r} are")
    found: dict[str, list[str]] = {}
    for definition, (_, paths) in zip(tops, file.weights, strict=True):
        if definition.inner is None:
            found[definition.layer.key] = paths
        else:
            found |= _of_group(definition, paths)
    return found


def _of_group(definition: Definition, paths: list[str]) -> dict[str, list[str]]:
    """The weights of a model within the model, which Keras keeps in one group: first those that training
    changes, then the others, each in the order of the layers."""
    every = [
        (leaf.layer.key, name, trained and trainable)
        for leaf, weights, trainable in _leaves(definition)
        for name, trained in weights
    ]
    ordered = [w for w in every if w[2]] + [w for w in every if not w[2]]
    if len(ordered) != len(paths):
        definition.layer.refuse(f"it takes {len(ordered)} weights, the file has {len(paths)} for it")
    place = {}
    for (key, name, _), path in zip(ordered, paths, strict=True):
        said = path.rpartition("/")[2].partition(":")[0]
        if said != name and not name.endswith(f"_{said}"):
            definition.layer.refuse(f"where {name!r} of {key!r} belongs, the file has {path!r}")
        place[key, name] = path
    found: dict[str, list[str]] = {}
    for key, name, _ in every:
        found.setdefault(key, []).append(place[key, name])
    return found


def _leaves(
    definition: Definition, trainable: bool = True
) -> Iterator[tuple[Definition, list[Weight], bool]]:
    """Layers with their weights, those of models within in order, and whether they are trained."""
    trainable = trainable and definition.layer.flag("trainable", True)
    if definition.inner is None:
        yield definition, weights_of(definition.layer), trainable
        return
    for inner in definition.inner.definitions:
        yield from _leaves(inner, trainable)


def _of_archive(
    file: KerasFile, definitions: tuple[Definition, ...], place: str, found: dict[str, list[str]]
) -> None:
    """By class, counted in the order of the layers; Keras writes the names beside, and they must agree."""
    containers = [f"{place}{name}" for name in CONTAINERS if file.has(f"{place}{name}")]
    used: dict[str, int] = {}
    for definition in definitions:
        layer = definition.layer
        name = _snake_case("Functional" if layer.class_name == "Model" else layer.class_name)
        number = used[name] = used.get(name, -1) + 1
        where = f"{containers[0]}/{name}{f'_{number}' if number else ''}" if containers else ""
        if definition.inner is not None:
            _of_archive(file, definition.inner.definitions, f"{where}/", found)
            continue
        wanted = weights_of(layer)
        if not wanted:
            continue
        there, said = file.variables(f"{where}/vars") if containers else ([], None)
        if said is not None and said != definition.name:
            layer.refuse(f"where its weights belong, the file has those of {said!r}")
        if len(there) != len(wanted):
            layer.refuse(
                f"it takes {len(wanted)} weights, the file has {len(there)} "
                f"({where or 'no layers'}); {WAY_OUT}"
            )
        found[layer.key] = there


def _snake_case(name: str) -> str:
    """As `keras.utils.naming.to_snake_case`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
