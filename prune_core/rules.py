"""When to accept a channel, and when to stop: the policies.

Except under ``seed``, the bound X is hard: the accumulated net never loses more than X points of
clean validation accuracy against the BadNet, compared in whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from prune_core.counts import Ask, Counts, exact_points
from prune_core.errors import InputError
from prune_core.masks import Channel, ChannelMask


class Rule(Protocol):
    """What ``prune_greedily`` asks. ``badnet``: counts of the unpruned net; ``now``: of the net
    with the channels accepted so far; ``tried``: of the net in which the candidate was tried."""

    keep_bias: ClassVar[bool]

    def walk(self, order: Sequence[Channel]) -> Sequence[Channel]:
        """The channels to try, in turn."""
        ...

    def candidate(self, accepted: ChannelMask, channel: Channel) -> ChannelMask:
        """The mask in which ``channel`` is tried."""
        ...

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
    """On the accumulated net, within X points: what all policies but ``seed`` share."""

    x: float
    keep_bias: ClassVar[bool] = False

    def walk(self, order: Sequence[Channel]) -> Sequence[Channel]:
        return order

    def candidate(self, accepted: ChannelMask, channel: Channel) -> ChannelMask:
        return accepted.adding(channel)

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
    saturated: on a plateau of 100 % no single channel lowers it."""

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return replace(super().asks(now, badnet), attacked=now.attacked)

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        return tried.attacked < now.attacked and self.within_bound(tried, badnet)

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        return now.attacked == 0


@dataclass(frozen=True)
class MarginRule(BoundedRule):
    """Accept when the mean target margin on poisoned images falls and accuracy holds: progress
    shows in the margin long before attack success moves."""

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return replace(super().asks(now, badnet), margin=True)

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        if tried.margin is None or now.margin is None:  # clean accuracy had already settled it
            return False
        return tried.margin < now.margin and self.within_bound(tried, badnet)


@dataclass(frozen=True)
class SeedRule:
    """The seed author's targeted code, to the letter.

    A candidate is tried in a fresh BadNet with only its own layer's accepted channels; it is
    accepted when attack success there is below 100 % and clean accuracy within X points. Only the
    kernel is zeroed. Channel 0 of every layer after the first is skipped. The walk ends when the
    accumulated net falls below original - X + pad. So an accepted set can break the bound.
    """

    x: float
    keep_bias: ClassVar[bool] = True
    PADS: ClassVar[dict[float, float]] = {2.0: 0.0, 4.0: 0.14, 10.0: 0.3}  # points, by X

    def walk(self, order: Sequence[Channel]) -> Sequence[Channel]:
        return [c for c in order if c.index > 0 or c.layer == order[0].layer]

    def candidate(self, accepted: ChannelMask, channel: Channel) -> ChannelMask:
        return accepted.only(channel.layer).adding(channel)

    def asks(self, now: Counts, badnet: Counts) -> Ask:
        return Ask(
            margin=False,
            clean_correct=fewest_correct(self.x, badnet),
            attacked_agreeing=badnet.poisoned_total,
        )

    def accepts(self, tried: Counts, now: Counts, badnet: Counts) -> bool:
        fell = tried.clean_accuracy_fell(since=badnet)
        return tried.attacked_agreeing < tried.poisoned_total and fell <= exact_points(self.x)

    def stops(self, accepted: bool, now: Counts, badnet: Counts) -> bool:
        pad = exact_points(self.PADS.get(float(self.x), 0.0))
        return now.clean_accuracy_fell(since=badnet) > exact_points(self.x) - pad


def fewest_correct(x: float, badnet: Counts) -> int:
    """The least ``clean_correct`` within ``x`` points of the BadNet's, in whole numbers."""
    return math.ceil(badnet.clean_correct - exact_points(x) * badnet.clean_total / 100)


POLICIES: dict[str, Callable[[float], Rule]] = {
    "seed": SeedRule,
    "final-layer": FinalLayerRule,
    "in-order": InOrderRule,
    "attack-success": AttackSuccessRule,
    "margin": MarginRule,
}


def make_rule(policy: str, x: float) -> Rule:
    """The rule of a policy at a bound of ``x`` points. Raises InputError."""
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; expected one of {', '.join(POLICIES)}")
    if not 0 <= x <= 100:
        raise InputError(f"X is {x}; expected percentage points of clean accuracy, 0 to 100")
    return POLICIES[policy](x)
