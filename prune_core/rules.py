"""When one pass accepts a channel, and when it stops: a rule for each policy of one pass.

The bound X is hard: the accumulated net never loses more than X points of clean validation accuracy
against the BadNet, compared in whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from prune_core.counts import Ask, Counts, exact_points
from prune_core.errors import InputError


class Rule(Protocol):
    """What ``prune_in_one_pass`` asks. ``badnet``: counts of the unpruned net; ``now``: of the net
    with the channels accepted so far; ``tried``: of the same with the candidate pruned too."""

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        """What ``accepts`` will look at. A net that misses a limit of the Ask must be refused, by
        its bounds as well as by its whole counts."""
        ...

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool: ...

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        """Asked after each candidate: is the walk over? ``accepted``: the fate of that candidate."""
        ...


@dataclass(frozen=True)
class BoundedRule:
    """Within X points: what all rules share."""

    x: float

    def within_bound(self, tried: Counts, badnet: Counts) -> bool:
        return tried.clean_accuracy_fell(since=badnet) <= exact_points(self.x)

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return Ask(margin=False, clean_correct=fewest_correct(self.x, badnet))

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        return False


@dataclass(frozen=True)
class FinalLayerRule(BoundedRule):
    """Prune in order, whatever it does to the attack, until the next channel would cost more than
    X points. Source: the seed report's first method. With X = 100 the whole layer goes."""

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        return self.within_bound(tried, badnet)

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        return not accepted


@dataclass(frozen=True)
class InOrderRule(FinalLayerRule):
    """The same over all layers, and over too when no attack succeeds any more. All the choice lies
    in the order; it costs one question a channel. How CLP, ANP and RNP prune, with X for a threshold."""

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        return not accepted or now.attacked == 0


@dataclass(frozen=True)
class AttackSuccessRule(BoundedRule):
    """Accept when attack success falls and accuracy holds. Stalls where attack success is
    saturated: on a plateau of 100 % no single channel lowers it. With several triggers, all their images
    count alike."""

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return replace(super().asks(now, badnet), attacked=now.in_all.attacked)

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        return tried.in_all.attacked < now.in_all.attacked and self.within_bound(tried, badnet)

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        return now.attacked == 0


@dataclass(frozen=True)
class MarginRule(BoundedRule):
    """Accept when the mean target margin on poisoned images falls and accuracy holds: progress
    shows in the margin long before attack success moves. With several triggers, the mean over them of
    their margins, each as a share of the BadNet's."""

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return replace(super().asks(now, badnet), margin=True)

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        if tried.margin is None or now.margin is None:  # clean accuracy had already settled it
            return False
        return _attack_margin(tried, badnet) < _attack_margin(now, badnet) and self.within_bound(
            tried, badnet
        )


def _attack_margin(counts: Counts, badnet: Counts) -> float:
    """What has to fall; of one trigger the margin itself, as it was told."""
    found = counts.margin_share(badnet) if counts.triggers else counts.margin
    assert found is not None
    return found


def fewest_correct(x: float, badnet: Counts) -> int:
    """The least ``clean_correct`` within ``x`` points of the BadNet's, in whole numbers."""
    return math.ceil(badnet.clean_correct - exact_points(x) * badnet.clean_total / 100)


RULES: dict[str, Callable[[float], Rule]] = {
    "final-layer": FinalLayerRule,
    "in-order": InOrderRule,
    "attack-success": AttackSuccessRule,
    "margin": MarginRule,
}


def check_x(x: float) -> None:
    """Raises InputError unless ``x`` is percentage points."""
    if not 0 <= x <= 100:
        raise InputError(f"X is {x}; expected percentage points of clean accuracy, 0 to 100")


def make_rule(policy: str, x: float) -> Rule:
    """The rule of a policy of one pass at a bound of ``x`` points. Raises InputError."""
    if policy not in RULES:
        raise InputError(f"policy {policy!r} has no rule of one pass; there are {', '.join(RULES)}")
    check_x(x)
    return RULES[policy](x)
