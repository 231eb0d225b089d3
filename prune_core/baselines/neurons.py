"""From a number for every neuron to the nets along a threshold on it, or along a count of neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of
from prune_core.repair.nets import MadeNet
from prune_core.repair.training_copy import Place

# Where the papers of ANP and RNP cut their masks.
THRESHOLDS = tuple(x / 100 for x in range(0, 100, 5))
EACH = 16  # neurons up to which every count is a state; from there on each is GROWTH of the one before
GROWTH = 1.15


@dataclass(frozen=True, eq=False)
class Neuron:
    """A channel at a place, and the number that it is pruned by, the lowest first."""

    place: Place
    channel: int
    value: float


def ranked(values: Mapping[str, np.ndarray], places: Sequence[Place], layer_set: LayerSet) -> list[Neuron]:
    """The neurons of a layer set by rising value, equal ones in dataflow order. ``values``: (channels,) by
    place's module; rounded to four decimals, as the authors' files of mask values have them."""
    allowed = dict(layer_set)
    found = []
    for place in places:
        channels = sorted({c for layer in place.layers for c in allowed[layer.name]})
        rounded = np.round(values[place.module].astype(np.float64), 4)
        found += [Neuron(place, c, float(rounded[c])) for c in channels]
    return sorted(found, key=lambda neuron: neuron.value)


def along(
    neurons: Sequence[Neuron], thresholds: Sequence[float] = THRESHOLDS, counts: bool = True
) -> Iterator[tuple[Sequence[Neuron], str]]:
    """The first neurons of a ranking and what they are, few first: those at or below each threshold
    (ascending), and, with ``counts``, so many of the lowest."""
    told: dict[int, str] = {}
    for threshold in thresholds:
        told.setdefault(sum(n.value <= threshold for n in neurons), f"threshold {threshold:g}")
    for count in counted(len(neurons)) if counts else ():
        told.setdefault(count, "by count")
    for count in sorted(told):
        if count:
            yield neurons[:count], f"{told[count]}, {count:,} of {len(neurons):,} neurons"


def counted(total: int) -> list[int]:
    """1, 2, 3, ... to EACH, then steps that grow, below ``total``."""
    found, count = [], 1
    while count < total:
        found.append(count)
        count = count + 1 if count < EACH else int(np.ceil(count * GROWTH))
    return found


class Silencer:
    """Neurons of a network taken out, as the published code does it: at the batch norm."""

    def __init__(self, model: PrunableModel, constants: Mapping[str, np.ndarray] | None = None) -> None:
        """``constants``: what a neuron whose batch norm was folded is left to put out, (channels,) by
        place's module: its clean mean. None: neurons are gone, shift and bias too."""
        self.constants = constants
        self._held = {(p.node, p.role): p for p in parameters_of(model)}
        self._model = model

    def net(self, neurons: Sequence[Neuron], note: str) -> MadeNet:
        """The net without them. Where a batch norm is a convolution's alone its channels are pruned; one
        that others take part in loses its scale alone (and its shift, if neurons are to be gone). Raises
        InputError where weights that have to change are shared."""
        gone: dict[str, tuple[Place, list[int]]] = {}
        for neuron in neurons:
            gone.setdefault(neuron.place.module, (neuron.place, []))[1].append(neuron.channel)
        pruned: dict[str, list[int]] = {}
        weights: dict[str, np.ndarray] = {}
        for place, rows in gone.values():
            if place.own:
                pruned[place.layers[0].name] = rows
            if place.is_norm and self.constants is not None:
                self._put(weights, place, "scale", rows, 0.0)
            elif place.is_norm and not place.own:
                for role in ("scale", "shift"):
                    self._put(weights, place, role, rows, 0.0)
            elif not place.is_norm and self.constants is not None:
                self._put(weights, place, "bias", rows, self.constants[place.module][rows])
        return MadeNet(ChannelMask.of(pruned, keep_bias=self.constants is not None), weights, note)

    def _put(
        self, weights: dict[str, np.ndarray], place: Place, role: str, rows: list[int], value: object
    ) -> None:
        parameter = self._held.get((place.module, role))
        if parameter is None:
            if role == "bias" and self._model.conv(place.layers[0]).bias is None:
                return  # nothing holds a constant: the channel is zero
            raise InputError(
                f"{self._model.name}: neurons of {place.layers[0].name} cannot be pruned: their {role} is "
                "shared with another layer; leave it out of the layer set"
            )
        array = parameter.value()
        array[rows] = value
        weights[parameter.name] = array


def pruned_along(
    values: Mapping[str, np.ndarray],
    places: Sequence[Place],
    layer_set: LayerSet,
    silencer: Silencer,
    name: str,
    thresholds: Sequence[float] = THRESHOLDS,
    counts: bool = True,
) -> Iterator[MadeNet]:
    """A net for each of ``along``'s states of ``ranked`` neurons."""
    for neurons, note in along(ranked(values, places, layer_set), thresholds, counts):
        yield silencer.net(neurons, f"{name}, {note}")
