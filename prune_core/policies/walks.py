"""Walks that reach farther than one pass over the order: plateau moves, best first, taking back,
swaps. Each goes on from where a ``Walk`` stands and yields every candidate as a step; all hold the
bound X on the accumulated net, and none draws lots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_core.greedy import PruneStep
from prune_core.masks import Channel
from prune_core.policies.walk import Steps, Walk

PLATEAU_MOVES = 6  # in a row, without a fall of the margin between them
PLATEAU_RISE = 0.01  # of the BadNet's margin: what a plateau move may add to the margin


def along_the_order(walk: Walk, order: Sequence[Channel]) -> Steps:
    """One pass: prune what weakens the attack (``Walk.gain``); now and then also a channel that
    leaves it about as it is and costs no clean image, for two channels may carry an attack that
    neither carries alone. Not more than ``PLATEAU_MOVES`` such moves in a row."""
    moves = 0
    for channel in order:
        if walk.over:
            return
        step = walk.try_net(channel)
        gain = walk.gain(step.tried)
        falls = gain is not None and gain > 0
        flat = (
            gain is not None
            and gain >= -PLATEAU_RISE
            and moves < PLATEAU_MOVES
            and step.tried.clean_correct >= walk.now.clean_correct
        )
        if falls or flat:
            moves = 0 if falls else moves + 1
            step = walk.accept(step)
        yield step


@dataclass
class _Candidate:
    step: PruneStep  # when it was last tried
    worth: float
    fresh: bool = True  # nothing was accepted since

    @property
    def channel(self) -> Channel:
        return self.step.channel


def best_first(walk: Walk, order: Sequence[Channel], pool: int = 24, rescore: int = 4) -> Steps:
    """Prune the channel that buys most (``Walk.worth``), again and again.

    The first ``pool`` channels of the order that may still be of use are candidates. All of them are
    tried at the start and after every ``rescore`` accepted channels; in between only the one that
    looks best is tried again, and taken if it still does (lazy greedy: Minoux 1978). Channels that
    would break the bound drop out, for accuracy hardly ever comes back; so do, for the time being,
    those without gain, and the next ones of the order come in.
    """
    waiting = list(order)
    accepted_since = rescore
    candidates: list[_Candidate] = []
    useless: list[Channel] = []  # without gain on the net as it was; another chance at a rescore
    while not walk.over:
        if accepted_since >= rescore:
            waiting = sorted([*waiting, *useless, *(c.channel for c in candidates)], key=order.index)
            candidates, useless, accepted_since = [], [], 0
        while waiting and len(candidates) < pool:
            step = walk.try_net(waiting.pop(0))
            yield step
            _sort_in(walk, step, candidates, useless)
        if not candidates:
            if accepted_since == 0:
                return
            accepted_since = rescore
            continue
        best = max(candidates, key=lambda c: c.worth)
        candidates.remove(best)
        if best.fresh:
            yield walk.accept(best.step)
            accepted_since += 1
            for candidate in candidates:
                candidate.fresh = False
        else:
            step = walk.try_net(best.channel)
            yield step
            _sort_in(walk, step, candidates, useless)


def _sort_in(walk: Walk, step: PruneStep, candidates: list[_Candidate], useless: list[Channel]) -> None:
    worth = walk.worth(step.tried)
    if worth is not None:
        candidates.append(_Candidate(step, worth))
    elif step.tried.complete:
        useless.append(step.channel)


def take_back(walk: Walk) -> Steps:
    """Give back pruned channels that the net can do without: neither attack success nor clean
    accuracy is worse then, nor, while every attack succeeds, the margin."""
    for channel in walk.mask:
        step = walk.try_net(channel, returned=channel)
        gain = walk.gain(step.tried)
        saturated = walk.now.attacked == walk.now.poisoned_total
        if (
            gain is not None
            and step.tried.attacked <= walk.now.attacked
            and step.tried.clean_correct >= walk.now.clean_correct
            and (gain >= 0 or not saturated)
        ):
            step = walk.accept(step)
        yield step


def swap(walk: Walk, order: Sequence[Channel], pool: int = 6) -> Steps:
    """Prune another channel in place of a pruned one where that weakens the attack within the bound:
    for each pruned channel, the first ``pool`` unpruned ones of the order; one pass."""
    for channel in walk.mask:
        others = [c for c in order if c not in walk.mask.channels][:pool]
        steps = []
        for other in others:
            if walk.over:
                return
            steps.append(walk.try_net(other, returned=channel))
            yield steps[-1]
        gains = [(walk.gain(s.tried) or 0.0, -i) for i, s in enumerate(steps)]
        if gains and max(gains)[0] > 0:
            yield walk.accept(steps[-max(gains)[1]])
