"""Answers that were given before are not worked out again.

What a net does with a split depends on the BadNet, the images and the channel mask alone. So what
one trial has found serves every other one that comes by the same state: trials that differ in X
until they part, trials over nested layer sets, and one that was interrupted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from prune_core.counts import Ask, Counts
from prune_core.data.images import Split
from prune_core.evaluation.evaluator import EVERYTHING, Evaluator
from prune_core.masks import ChannelMask

RECENT = 512  # masks with whole counts, among which the parent of a question is looked for


@dataclass(frozen=True)
class Known:
    """What is known of one mask on one split: whole counts, or what refusals said.

    Attributes:
        counts: whole counts; their margin is None when nobody asked for it.
        clean_below: fewer than so many clean images are right.
        attacked_from, attacked_below: at least, and fewer than, so many poisoned images get the
            target; agreeing_from, agreeing_below: the same of those that the BadNet agrees on.
    """

    counts: Counts | None = None
    clean_below: int | None = None
    attacked_from: int | None = None
    attacked_below: int | None = None
    agreeing_from: int | None = None
    agreeing_below: int | None = None

    def answer(self, ask: Ask, split: Split) -> Counts | None:
        """What ``ask`` is told; None when not enough is known for that."""
        sizes = len(split.clean), len(split.poisoned)
        if self.counts is not None:
            told = ask.told(self.counts)
            enough = not told.complete or not ask.margin or self.counts.margin is not None
            return told if enough else None
        if ask.attack_missed(self.attacked_from or 0, self.agreeing_from or 0):
            return ask.missed(*sizes, attack=True)
        # As Ask.told looks at the attack first, clean accuracy refuses only where that passes.
        passes = _under(self.attacked_below, ask.attacked) and _under(
            self.agreeing_below, ask.attacked_agreeing
        )
        if passes and ask.clean_correct is not None and _under(self.clean_below, ask.clean_correct):
            return ask.missed(*sizes, attack=False)
        return None

    def learning(self, ask: Ask, told: Counts) -> Known:
        """With what ``ask`` was told."""
        if told.complete:
            more = self.counts is None or told.margin is not None
            return replace(self, counts=told) if more else self
        if ask.attack_missed(told.attacked, told.attacked_agreeing):
            return replace(
                self,
                attacked_from=max(self.attacked_from or 0, told.attacked),
                agreeing_from=max(self.agreeing_from or 0, told.attacked_agreeing),
            )
        return replace(
            self,
            clean_below=_least(self.clean_below, told.clean_correct + 1),
            attacked_below=_least(self.attacked_below, ask.attacked),
            agreeing_below=_least(self.agreeing_below, ask.attacked_agreeing),
        )


class Memory(Protocol):
    """Where what is known is kept: of one BadNet and one split."""

    def get(self, mask: ChannelMask) -> Known | None: ...

    def put(self, mask: ChannelMask, known: Known) -> None: ...


class RememberingEvaluator:
    """An evaluator that asks another one only what ``memory`` does not know. Same counts; the other
    one is made when it is first needed, so a trial that only repeats runs no network."""

    def __init__(self, split: Split, make: Callable[[], Evaluator], memory: Memory) -> None:
        """``make``: the evaluator of ``split``; what it raises comes through at the first need."""
        self.split, self.make, self.memory = split, make, memory
        self._whole: OrderedDict[ChannelMask, None] = OrderedDict()
        self.asked = self.remembered = 0  # questions so far, and those that memory answered

    @cached_property
    def inner(self) -> Evaluator:
        return self.make()

    def remake(self, make: Callable[[], Evaluator]) -> None:
        """Another evaluator from here on, that counts the same; the one that was made is let go."""
        self.make = make
        self.__dict__.pop("inner", None)

    @cached_property
    def badnet(self) -> Counts:
        """The unpruned net, margin included."""
        return self.counts(ChannelMask())

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        known = self.memory.get(mask) or Known()
        told = known.answer(ask, self.split)
        self.asked += 1
        self.remembered += told is not None
        if told is None:
            parent = self._parent(mask)
            if parent is not None:  # it may have been looked up, so that ``inner`` never saw it
                self.inner.expect(parent)
            told = self.inner.counts(mask, ask)
            self.memory.put(mask, known.learning(ask, told))
        if told.complete:
            self._whole[mask] = None
            self._whole.move_to_end(mask)
            while len(self._whole) > RECENT:
                self._whole.popitem(last=False)
        return told

    def expect(self, mask: ChannelMask) -> None:
        """Nothing to prepare: see ``counts``."""

    def _parent(self, mask: ChannelMask) -> ChannelMask | None:
        """The net that ``mask`` goes on from by one channel, as far as questions have shown."""
        for seen in reversed(self._whole):
            one_less = len(seen) == len(mask) - 1 and seen.keep_bias == mask.keep_bias
            if one_less and seen.channels < mask.channels:
                return seen
        return None


def _under(below: int | None, limit: int | None) -> bool:
    """Whether a number of which ``below`` is known to lie above is sure to be under ``limit``."""
    return limit is None or (below is not None and below <= limit)


def _least(a: int | None, b: int | None) -> int | None:
    return min((v for v in (a, b) if v is not None), default=None)
