"""A trial's way through its states, as short as JSON allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prune_core.counts import Counts
from prune_core.masks import Channel, ChannelMask
from sweeps.records.trial_record import State, TrialRecord


@dataclass(frozen=True, eq=False)
class Way:
    """The accepted states of a trial, and which of them are on the frontier (their steps)."""

    states: Sequence[State]
    frontier: frozenset[int]

    @classmethod
    def of(cls, record: TrialRecord, frontier: frozenset[int]) -> Way:
        return cls(record.states(), frontier)

    def thinned(self, every: int) -> list[State]:
        """Every so many states, the last one, and all of the frontier."""
        last = len(self.states) - 1
        return [
            state
            for number, state in enumerate(self.states)
            if number % every == every - 1 or number == last or state.step in self.frontier
        ]


class Channels:
    """Numbers of channels, from 1, as they are met."""

    def __init__(self) -> None:
        self.layers: dict[str, int] = {}
        self.numbers: dict[Channel, int] = {}

    def number(self, channel: Channel) -> int:
        self.layers.setdefault(channel.layer, len(self.layers))
        return self.numbers.setdefault(channel, len(self.numbers) + 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers),
            "layer": [self.layers[c.layer] for c in self.numbers],
            "index": [c.index for c in self.numbers],
        }


def packed(states: Sequence[State], badnet: Counts, channels: Channels | None) -> dict[str, Any]:
    """Of each state what has changed since the one before it, the first since the BadNet.

    ``s`` step, ``p`` channels pruned, ``c`` clean images right, ``a`` for each trigger the images that are
    attacked; ``d`` the channels pruned since (a number of ``channels``), or a list of them, with a minus
    where one is back. Without ``channels`` there is no ``d``.
    """
    step, pruned, clean, mask = 0, 0, badnet.clean_correct, ChannelMask()
    attacked = [t.attacked for t in badnet.by_trigger]
    out: dict[str, Any] = {"s": [], "p": [], "c": [], "a": [[] for _ in attacked]}
    if channels is not None:
        out["d"] = []
    for state in states:
        now = [t.attacked for t in state.counts.by_trigger]
        out["s"].append(state.step - step)
        out["p"].append(len(state.mask) - pruned)
        out["c"].append(state.counts.clean_correct - clean)
        for changes, after, before in zip(out["a"], now, attacked, strict=False):
            changes.append(after - before)
        if channels is not None:
            out["d"].append(_difference(state.mask, mask, channels))
        step, pruned, clean = state.step, len(state.mask), state.counts.clean_correct
        attacked, mask = now, state.mask
    return out


def _difference(now: ChannelMask, before: ChannelMask, channels: Channels) -> int | list[int]:
    added = sorted(channels.number(c) for c in now.channels - before.channels)
    gone = sorted(-channels.number(c) for c in before.channels - now.channels)
    return added[0] if len(added) == 1 and not gone else added + gone
