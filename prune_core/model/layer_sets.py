"""Which channels may be pruned: layer sets as people write them, resolved against a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prune_core.errors import InputError

if TYPE_CHECKING:
    from prune_core.model.model import PrunableModel

LayerSet = list[tuple[str, list[int]]]
_RANGED = re.compile(r"^(?P<layer>.+)\[(?P<ranges>[0-9,\- ]*)\]$")
FORMS = "'last:K', a list of layer names, or names with channels such as 'conv_3[0-19,40]'"


def resolve_layer_set(spec: str | Sequence[str], model: PrunableModel) -> LayerSet:
    """``last:2`` (deepest first), ``conv_4`` or a list of names, each perhaps with channel ranges
    (inclusive), into (layer, channels) pairs in walking order. Raises InputError."""
    if isinstance(spec, str) and spec.startswith("last:"):
        return _last(spec, model)
    entries = [spec] if isinstance(spec, str) else list(spec)
    if not entries:
        raise InputError(f"layer set: empty; expected {FORMS}")
    resolved: LayerSet = []
    for entry in entries:
        ranged = None if entry in model.by_name else _RANGED.match(entry)
        layer = model.layer(ranged["layer"] if ranged else entry)
        if any(layer.name == name for name, _ in resolved):
            raise InputError(f"layer set: {layer.name} is named twice")
        channels = _channels(ranged["ranges"], entry, layer.channels) if ranged else range(layer.channels)
        resolved.append((layer.name, list(channels)))
    return resolved


def _last(spec: str, model: PrunableModel) -> LayerSet:
    text = spec.removeprefix("last:")
    if not text.isdigit() or not 1 <= int(text) <= len(model.layers):
        raise InputError(
            f"layer set {spec!r}: K in last:K must be 1 to {len(model.layers)}, the number of "
            f"convolutions of {model.name}"
        )
    deepest_first = model.layers[::-1][: int(text)]
    return [(layer.name, list(range(layer.channels))) for layer in deepest_first]


def _channels(ranges: str, entry: str, count: int) -> list[int]:
    chosen: set[int] = set()
    for part in ranges.replace(" ", "").split(","):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise InputError(f"layer set {entry!r}: cannot read {part!r}; write ranges as [0-19,40]")
        first, last = int(low), int(high or low)
        if first > last or last >= count:
            raise InputError(f"layer set {entry!r}: channels go from 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)
