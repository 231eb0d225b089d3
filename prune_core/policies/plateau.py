"""The policy ``plateau``: one pass that may also cross flat ground."""

from __future__ import annotations

from collections.abc import Sequence

from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import Steps, Walk, take_back
from prune_core.masks import Channel

PLATEAU_MOVES = 6  # in a row, without a fall of the margin between them
PLATEAU_RISE = 0.01  # of the BadNet's margin: what a plateau move may add to the margin


def prune_over_plateaus(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """Along the order with bounded plateau moves; then what is not needed is taken back."""
    walk = Walk.start(evaluator, x)
    yield from along_the_order(walk, order)
    yield from take_back(walk)


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
