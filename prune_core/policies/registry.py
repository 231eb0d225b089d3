"""The policies by name: a rule of one pass, or a walk of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import Steps, prune_best_first, prune_in_one_pass
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.plateau import prune_over_plateaus
from prune_core.policies.seed import prune_as_the_author
from prune_core.rules import RULES, check_x, make_rule

WALKS: dict[str, Callable[[Evaluator, Sequence[Channel], float], Steps]] = {
    "seed": prune_as_the_author,
    "plateau": prune_over_plateaus,
    "best-first": prune_best_first,
}
POLICIES = ("seed", *RULES, "plateau", "best-first")


def prune(policy: str, x: float, evaluator: Evaluator, order: Sequence[Channel]) -> Steps:
    """Every step of a trial: a policy at a bound of ``x`` points. Raises InputError at once."""
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; there are {', '.join(POLICIES)}")
    if policy in RULES:
        return prune_in_one_pass(evaluator, order, make_rule(policy, x))
    check_x(x)
    return WALKS[policy](evaluator, order, x)


def empty_mask(policy: str) -> ChannelMask:
    """Where a policy starts: nothing pruned; whether pruning leaves the bias is the policy's."""
    return ChannelMask(keep_bias=policy == "seed")
