"""Which channels are pruned: an immutable value that, with the BadNet, is the GoodNet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prune_core.errors import InputError


@dataclass(frozen=True, order=True, slots=True)
class Channel:
    """One output channel of one convolution: the unit that is pruned."""

    layer: str
    index: int


@dataclass(frozen=True)
class ChannelMask:
    """The set of pruned channels, and what pruning does to the bias.

    A pruned channel's kernel is zero. With ``keep_bias=False`` its bias is zero too, and so are the
    scale and shift of a batch norm that directly follows: the channel is gone. With
    ``keep_bias=True`` (the seed author's code) the bias stays, so the channel becomes a constant.
    """

    channels: frozenset[Channel] = frozenset()
    keep_bias: bool = False

    @classmethod
    def of(cls, pruned: Mapping[str, Iterable[int]], keep_bias: bool = False) -> ChannelMask:
        """From ``{layer: channel indices}``."""
        channels = frozenset(Channel(layer, int(i)) for layer, ids in pruned.items() for i in ids)
        return cls(channels, keep_bias)

    def adding(self, *channels: Channel) -> ChannelMask:
        return ChannelMask(self.channels.union(channels), self.keep_bias)

    def without(self, *channels: Channel) -> ChannelMask:
        return ChannelMask(self.channels.difference(channels), self.keep_bias)

    def only(self, layer: str) -> ChannelMask:
        """The part of this mask that lies in one layer."""
        return ChannelMask(frozenset(c for c in self.channels if c.layer == layer), self.keep_bias)

    def by_layer(self) -> dict[str, list[int]]:
        """``{layer: sorted indices}``, layers by name; layers without a pruned channel left out."""
        layers: dict[str, list[int]] = {}
        for channel in sorted(self.channels):
            layers.setdefault(channel.layer, []).append(channel.index)
        return layers

    def to_json(self) -> dict[str, Any]:
        return {"pruned": self.by_layer(), "keep_bias": self.keep_bias}

    @classmethod
    def from_json(cls, value: Any) -> ChannelMask:
        """Inverse of ``to_json``. Raises InputError when ``value`` has not that form."""
        try:
            pruned, keep_bias = value["pruned"], value["keep_bias"]
            if not isinstance(keep_bias, bool):
                raise TypeError
            return cls.of({str(layer): list(ids) for layer, ids in pruned.items()}, keep_bias)
        except (TypeError, KeyError, AttributeError, ValueError):
            raise InputError(
                'a channel mask must look like {"pruned": {layer: [indices]}, "keep_bias": false}'
            ) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON form: equal masks, equal digests, on every machine."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(sorted(self.channels))


def channels_apart(a: ChannelMask, b: ChannelMask) -> frozenset[Channel]:
    """The channels that two masks treat differently."""
    if a.keep_bias != b.keep_bias:
        return a.channels | b.channels
    return a.channels ^ b.channels
