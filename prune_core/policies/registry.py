"""The policies by name: a rule of one pass, or a walk of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import Steps, Walk, prune_best_first, prune_in_one_pass
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.leaps import prune_best_first_in_leaps
from prune_core.policies.plateau import prune_over_plateaus
from prune_core.policies.prefix import prune_to_a_prefix
from prune_core.policies.ranked import RankedWalk, prune_best_first_ranked
from prune_core.policies.registered import KnownPolicy, Walks, check_known, checked_steps, policy_plugins
from prune_core.policies.screened import prune_best_first_screened
from prune_core.policies.seed import prune_as_the_author
from prune_core.rules import RULES, check_x, make_rule

if TYPE_CHECKING:
    from prune_core.policies.screening import Screen

WALKS: dict[str, Callable[[Evaluator, Sequence[Channel], float], Steps]] = {
    "seed": prune_as_the_author,
    "plateau": prune_over_plateaus,
    "prefix": prune_to_a_prefix,
    "best-first": prune_best_first,
}
RANKING = ("best-first",)  # they ask questions that only rank candidates
POLICIES = ("seed", *RULES, "prefix", "plateau", "best-first")
# "scale" makes nets (``methods.NET_POLICIES``); the other names there cannot be registered anyway.
OTHERS = policy_plugins(lambda: (*POLICIES, "scale"))


def register_policy(
    name: str,
    function: Walks,
    *,
    needs: str = "clean and poisoned images",
    version: str | None = None,
    replace: bool = False,
) -> None:
    """Make a policy of your own known to this process, in calls and configurations alike. The workers of
    a sweep that this process starts get it too; commands and other processes do not: a package offers it
    to those by an entry point ``goodnet.policies``, whose value is the function or a ``KnownPolicy``.

    Args:
        name: small letters, digits, '.', '_' and '-'; one that exists is refused.
        function: from (evaluator, order, x) to an iterator of ``PruneStep``, one for each candidate.
            ``evaluator.badnet`` are the counts of the unpruned network on validation and
            ``evaluator.counts(mask, ask)`` those of a pruned one; ``order`` lists the channels, first to
            prune first; ``x`` is in percentage points. It starts from ``ChannelMask()``. Every accepted
            net must be within ``x`` of the BadNet, which is checked at each step: see
            ``goodnet.testing.check_policy``.
        needs: what it looks at beyond the network, in words, as of ``register_order``.
        version: a text that changes whenever results do; it is a part of the key of every trial under
            this policy. Left out, it is a digest of the file that ``function`` is written in.
        replace: take the place of one that was registered before, as in a notebook's cell run again.

    Raises:
        InputError: a name that is taken or is no name, words that are not known, no function, or no
            version where none can be worked out.
    """
    known = KnownPolicy(function, needs, version)
    check_known(f"policy {name!r}", known)
    OTHERS.register(name, known, function, version, replace)


def policy_version(name: str) -> str | None:
    """Of a policy that is not built in; None of one that is, or is not known."""
    try:
        other = OTHERS.find(name)
    except InputError:
        return None
    return None if other is None else other.version


def prune(
    policy: str,
    x: float,
    evaluator: Evaluator,
    order: Sequence[Channel],
    part: Callable[[], Evaluator] | None = None,
    screen: Callable[[Sequence[Channel]], Screen] | None = None,
) -> Steps:
    """Every step of a trial: a policy at a bound of ``x`` points. Raises InputError at once.

    ``part``: what counts on a part of the images, where candidates are only to be ranked; ``screen``: from an
    order to the estimates by which candidates are chosen. Both are of the policies of ``RANKING``; with both,
    channels go several at a time (``policies.leaps``).
    """
    other = None if policy in POLICIES else OTHERS.find(policy)
    if policy not in POLICIES and other is None:
        raise InputError(OTHERS.unknown(policy))
    if policy in RULES:
        return prune_in_one_pass(evaluator, order, make_rule(policy, x))
    check_x(x)
    if screen is not None and policy in RANKING:
        if part is not None:
            return prune_best_first_in_leaps(RankedWalk.over_all(evaluator, part(), x), screen(order))
        return prune_best_first_screened(Walk.start(evaluator, x), screen(order))
    if part is not None and policy in RANKING:
        return prune_best_first_ranked(evaluator, part(), order, x)
    if other is not None:
        return checked_steps(policy, other.value.walk, evaluator, order, x)
    return WALKS[policy](evaluator, order, x)


def empty_mask(policy: str) -> ChannelMask:
    """Where a policy starts: nothing pruned; whether pruning leaves the bias is the policy's."""
    return ChannelMask(keep_bias=policy == "seed")
