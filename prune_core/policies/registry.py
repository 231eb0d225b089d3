"""The policies by name: which rule or which walks make a trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import prune_greedily
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.walk import Steps, Walk
from prune_core.policies.walks import along_the_order, best_first, swap, take_back
from prune_core.rules import POLICIES as RULES
from prune_core.rules import make_rule


def plateau(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """Along the order with bounded plateau moves; then what is not needed is taken back."""
    walk = Walk.start(evaluator, x)
    yield from along_the_order(walk, order)
    yield from take_back(walk)


def best(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """Best first; take back what is not needed; swap; take back again."""
    walk = Walk.start(evaluator, x)
    yield from best_first(walk, order)
    yield from take_back(walk)
    yield from swap(walk, order)
    yield from take_back(walk)


WALKS: dict[str, Callable[[Evaluator, Sequence[Channel], float], Steps]] = {
    "plateau": plateau,
    "best-first": best,
}
POLICIES = (*RULES, *WALKS)


def prune(policy: str, x: float, evaluator: Evaluator, order: Sequence[Channel]) -> Steps:
    """Every step of a trial: a policy at a bound of ``x`` points. Raises InputError at once."""
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; expected one of {', '.join(POLICIES)}")
    if policy in RULES:
        return prune_greedily(evaluator, order, make_rule(policy, x))
    if not 0 <= x <= 100:
        raise InputError(f"X is {x}; expected percentage points of clean accuracy, 0 to 100")
    return WALKS[policy](evaluator, order, x)


def empty_mask(policy: str) -> ChannelMask:
    """Where a policy starts: nothing pruned; whether pruning leaves the bias is the policy's."""
    return ChannelMask(keep_bias=policy in RULES and make_rule(policy, 0).keep_bias)
