"""``best-first`` where a first-order estimate chooses whom it asks about.

Its plain twin is ``greedy.prune_best_first``, which asks along the order until it has a pool of channels that
are of use; in a layer set of thousands those are thousands of questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_core.greedy import Steps, Walk, best_first, swap, take_back

if TYPE_CHECKING:  # it loads torch, and most commands only want to know a policy by name
    from prune_core.policies.screening import Screen

RESCORE = 4  # accepted channels between two estimates, as ``greedy.best_first`` has it
TRIES = 2  # so many times ``Screen.count`` channels are asked about before the walk ends


def prune_best_first_screened(walk: Walk, screen: Screen) -> Steps:
    """``prune_best_first`` among the ``Screen.count`` channels that look best, estimated anew on the way.

    Every answer, and what is accepted, is as in ``prune_best_first``: in whole counts, within the bound. What
    is not asked about may have been better; and the walk ends where of ``TRIES`` times as many
    none is of use, though there may be one among the others.
    """
    yield from screened_best_first(walk, screen)
    yield from take_back(walk)
    yield from swap(walk, screen.ranked(walk.mask))
    yield from take_back(walk)


def screened_best_first(walk: Walk, screen: Screen) -> Steps:
    """``greedy.best_first`` among those that look best, until ``RESCORE`` are accepted; then anew."""
    while not walk.over:
        ranked, accepted = screen.ranked(walk.mask), 0
        for start in range(0, TRIES * screen.count, screen.count):
            for step in best_first(walk, ranked[start : start + screen.count], screen.count, RESCORE):
                yield step
                accepted += step.accepted
                if accepted == RESCORE:
                    break
            if accepted:
                break
        if not accepted:
            return
