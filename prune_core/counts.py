"""Count first, divide last: integer counts of a net on a split, and the rates made from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Ask:
    """What somebody wants to know of a net; the default is everything.

    The limits say what an acceptable net would have. Of a net that misses one, all that is told is
    that it does (``told``), so an evaluator may stop as soon as that is certain. What is told
    depends on net and Ask alone, never on where an evaluator stopped.

    Attributes:
        margin: whether the mean target margin is wanted; without it ``Counts.margin`` is None.
        clean_correct: at least so many clean images right.
        attacked: fewer than so many poisoned images that get the target, of all triggers together.
        attacked_agreeing: the same of those that the BadNet calls target too; instead of
            ``attacked``, not beside it (ValueError).
    """

    margin: bool = True
    clean_correct: int | None = None
    attacked: int | None = None
    attacked_agreeing: int | None = None

    def __post_init__(self) -> None:
        if self.attacked is not None and self.attacked_agreeing is not None:
            raise ValueError("one limit on the attack at a time, so that a refusal tells which")

    @property
    def complete(self) -> Ask:
        """The same without limits: whole counts."""
        return Ask(margin=self.margin)

    @property
    def limits_attack(self) -> bool:
        return self.attacked is not None or self.attacked_agreeing is not None

    def told(self, counts: Counts) -> Counts:
        """What is said of a net with these whole counts: the counts, or where a limit is missed
        that it is (``Counts.complete`` False). The limit on the attack comes first."""
        everyone = counts.in_all
        if self.attack_missed(everyone.attacked, everyone.attacked_agreeing):
            return self.missed(counts.clean_total, everyone.poisoned_total, attack=True)
        if self.clean_correct is not None and counts.clean_correct < self.clean_correct:
            return self.missed(counts.clean_total, everyone.poisoned_total, attack=False)
        return counts if self.margin else counts.without_margin()

    def attack_missed(self, attacked: int, agreeing: int) -> bool:
        """Whether so many successful attacks miss a limit."""
        return (self.attacked is not None and attacked >= self.attacked) or (
            self.attacked_agreeing is not None and agreeing >= self.attacked_agreeing
        )

    def missed(self, clean_total: int, poisoned_total: int, attack: bool) -> Counts:
        """What is said of a net that misses the limit on the attack, or else the one on clean
        accuracy: the limit itself, as a bound."""
        clean = clean_total if attack or self.clean_correct is None else self.clean_correct - 1
        agreeing = self.attacked_agreeing if attack else None
        attacked = (self.attacked if self.attacked is not None else agreeing) if attack else None
        return Counts(
            clean_correct=clean,
            clean_total=clean_total,
            attacked=attacked or 0,
            attacked_agreeing=agreeing or 0,
            poisoned_total=poisoned_total,
            margin=None,
            recovered=None,
            complete=False,
        )


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``total`` images, their fraction, and its 95 % Wilson interval."""

    name: str
    hits: int
    total: int

    @property
    def rate(self) -> float:
        """The fraction, in [0, 1]."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the 95 % Wilson interval, fractions."""
        return wilson_interval(self.hits, self.total)

    @property
    def low(self) -> float:
        return self.interval[0]

    @property
    def high(self) -> float:
        return self.interval[1]

    def __str__(self) -> str:
        """``97.25% (389/400, 95 %: 95.14% to 98.46%)``."""
        low, high = self.interval
        return f"{self.rate:.2%} ({self.hits}/{self.total}, 95 %: {low:.2%} to {high:.2%})"


@dataclass(frozen=True)
class TriggerCounts:
    """What a net does with the images of one trigger; fields as of ``Counts``."""

    attacked: int
    attacked_agreeing: int
    poisoned_total: int
    margin: float | None = None
    recovered: int | None = None

    @property
    def attack_success(self) -> float:
        """Fraction of the trigger's images that get their target; lower is better."""
        return self.attacked / self.poisoned_total

    def to_json(self) -> dict[str, Any]:
        """Counts, the rate as a fraction, and its 95 % Wilson interval."""
        out: dict[str, Any] = {
            "attack_success": self.attack_success,
            "attacked": self.attacked,
            "attacked_agreeing": self.attacked_agreeing,
            "poisoned_total": self.poisoned_total,
            "margin": self.margin,
            "attack_success_interval": wilson_interval(self.attacked, self.poisoned_total),
        }
        if self.recovered is not None:
            out["recovered"] = self.recovered
        return out


def worst_trigger(counts: Sequence[TriggerCounts]) -> int:
    """Which trigger's attack succeeds most often; of equal rates the first."""
    return max(range(len(counts)), key=lambda i: (Fraction(counts[i].attacked, counts[i].poisoned_total), -i))


@dataclass(frozen=True)
class Counts:
    """What a net does on one split (clean images and poisoned images).

    Of a split with several triggers, what is said of poisoned images is said of those of the *worst*
    trigger, the one whose attack succeeds most often in this net; ``triggers`` tells of each.

    Attributes:
        clean_correct: clean images that get their label.
        clean_total: clean images.
        attacked: poisoned images that get the target label.
        attacked_agreeing: of those, the ones that the BadNet also calls target: the successes
            against the N+1-class net, and what the seed author's script counts.
        poisoned_total: poisoned images whose true class is not the target.
        margin: mean over poisoned images of (target logit minus best other logit); falls as the
            attack weakens. In logits, rounded to ``margin_unit`` of the evaluator. None when
            nobody asked for it.
        recovered: poisoned images that get their true label; None when true labels are not known.
        complete: False where a limit of the ``Ask`` is missed and nothing else was to be known:
            then ``clean_correct`` is an upper bound, ``attacked`` and ``attacked_agreeing`` are
            lower bounds over all poisoned images, ``margin`` and ``recovered`` are None.
        triggers: the counts of each trigger, where there are several; else ().
    """

    clean_correct: int
    clean_total: int
    attacked: int
    attacked_agreeing: int
    poisoned_total: int
    margin: float | None
    recovered: int | None = None
    complete: bool = True
    triggers: tuple[TriggerCounts, ...] = ()

    @classmethod
    def of(cls, clean_correct: int, clean_total: int, triggers: Sequence[TriggerCounts]) -> Counts:
        """Whole counts from those of each trigger, at least one."""
        worst = triggers[worst_trigger(triggers)]
        return cls(
            clean_correct,
            clean_total,
            worst.attacked,
            worst.attacked_agreeing,
            worst.poisoned_total,
            worst.margin,
            worst.recovered,
            triggers=tuple(triggers) if len(triggers) > 1 else (),
        )

    @property
    def by_trigger(self) -> tuple[TriggerCounts, ...]:
        """The counts of each trigger, also where there is one."""
        return self.triggers or (
            TriggerCounts(
                self.attacked, self.attacked_agreeing, self.poisoned_total, self.margin, self.recovered
            ),
        )

    @property
    def in_all(self) -> TriggerCounts:
        """The images of all triggers together; no margin."""
        each = self.by_trigger
        return TriggerCounts(
            sum(t.attacked for t in each),
            sum(t.attacked_agreeing for t in each),
            sum(t.poisoned_total for t in each),
        )

    @property
    def worst(self) -> int:
        """Number of the worst trigger, from 0."""
        return worst_trigger(self.by_trigger)

    def trigger_words(self) -> str:
        """`` (the worst of 2 triggers: 3/761, 2/765)``; "" where there is one."""
        if not self.triggers:
            return ""
        each = ", ".join(f"{t.attacked}/{t.poisoned_total}" for t in self.triggers)
        return f" (the worst of {len(self.triggers)} triggers: {each})"

    def without_margin(self) -> Counts:
        """The same where nobody asked for margins."""
        return replace(self, margin=None, triggers=tuple(replace(t, margin=None) for t in self.triggers))

    def with_margins_of(self, other: Counts) -> Counts:
        """The same with the margins of ``other``: for comparing all the rest."""
        pairs = zip(self.triggers, other.triggers, strict=False)
        return replace(
            self,
            margin=other.margin,
            triggers=tuple(replace(t, margin=o.margin) for t, o in pairs)
            if len(self.triggers) == len(other.triggers)
            else self.triggers,
        )

    def margin_share(self, badnet: Counts) -> float | None:
        """Mean over triggers of the margin as a share of the BadNet's; None where it is not known. Falls
        as the attack weakens. The BadNet's own is 1 (-1 where its margin is negative)."""
        shares = []
        for mine, whole in zip(self.by_trigger, badnet.by_trigger, strict=False):
            if mine.margin is None:
                return None
            shares.append(mine.margin / (abs(whole.margin or 0.0) or 1.0))
        return sum(shares) / len(shares)

    def mean_attack_success(self) -> float:
        """Mean over triggers; of one trigger ``attack_success``."""
        each = self.by_trigger
        return sum(t.attack_success for t in each) / len(each)

    def no_trigger_gains(self, since: Counts) -> bool:
        """Whether no trigger's attack succeeds on more images than it did in ``since``."""
        pairs = zip(self.by_trigger, since.by_trigger, strict=True)
        return all(mine.attacked <= before.attacked for mine, before in pairs)

    @property
    def clean_accuracy(self) -> float:
        """Fraction of clean images that get their label; higher is better."""
        return self.clean_correct / self.clean_total

    @property
    def attack_success(self) -> float:
        """Fraction of poisoned images that get the target label; lower is better."""
        return self.attacked / self.poisoned_total

    @property
    def recovered_accuracy(self) -> float | None:
        """Fraction of poisoned images that get their true label; None when that is not known."""
        return None if self.recovered is None else self.recovered / self.poisoned_total

    def rates(self) -> tuple[Rate, ...]:
        """``clean_accuracy``, ``attack_success``, and ``recovered_accuracy`` where that is known: each
        with its counts and interval."""
        known = [
            Rate("clean_accuracy", self.clean_correct, self.clean_total),
            Rate("attack_success", self.attacked, self.poisoned_total),
        ]
        if self.recovered is not None:
            known.append(Rate("recovered_accuracy", self.recovered, self.poisoned_total))
        return tuple(known)

    def clean_accuracy_fell(self, since: Counts) -> Fraction:
        """Points of clean accuracy lost since ``since``, exactly (negative when it rose)."""
        now = Fraction(self.clean_correct, self.clean_total)
        return 100 * (Fraction(since.clean_correct, since.clean_total) - now)

    def to_json(self) -> dict[str, Any]:
        """Counts, the rates as fractions, and their 95 % Wilson intervals."""
        out: dict[str, Any] = {
            "clean_accuracy": self.clean_accuracy,
            "attack_success": self.attack_success,
            "clean_correct": self.clean_correct,
            "clean_total": self.clean_total,
            "attacked": self.attacked,
            "attacked_agreeing": self.attacked_agreeing,
            "poisoned_total": self.poisoned_total,
            "margin": self.margin,
            "complete": self.complete,
        }
        clean, attack, *_ = self.rates()
        out |= {f"{r.name}_interval": r.interval for r in (clean, attack)}
        if self.recovered is not None:
            out["recovered"] = self.recovered
            out["recovered_accuracy"] = self.recovered_accuracy
        if self.triggers:
            out["triggers"] = [t.to_json() for t in self.triggers]
        return out

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Counts:
        """Inverse of ``to_json``. Raises ValueError or KeyError when ``value`` has not that form."""
        return cls(
            clean_correct=value["clean_correct"],
            clean_total=value["clean_total"],
            attacked=value["attacked"],
            attacked_agreeing=value["attacked_agreeing"],
            poisoned_total=value["poisoned_total"],
            margin=value["margin"],
            recovered=value.get("recovered"),
            complete=value.get("complete", True),
            triggers=tuple(map(_trigger_from_json, value.get("triggers", ()))),
        ).checked()

    def checked(self) -> Counts:
        """Itself. Raises ValueError when these are no counts: of other types, or larger than totals."""
        clean, poisoned = self.clean_total, self.poisoned_total
        correct, attacked, agreeing = self.clean_correct, self.attacked, self.attacked_agreeing
        recovered = 0 if self.recovered is None else self.recovered
        # Of ten thousand records a million are checked: one line for all, without a loop.
        if not (
            int is type(clean) is type(poisoned) is type(correct) is type(attacked)
            and int is type(agreeing) is type(recovered)
            and 0 <= correct <= clean > 0
            and 0 <= attacked <= poisoned > 0
            and 0 <= agreeing <= poisoned
            and 0 <= recovered <= poisoned
            and (self.margin is None or type(self.margin) in (int, float))
            and type(self.complete) is bool
        ):
            raise ValueError("not counts of a split")
        for one in self.triggers:
            replace(self, triggers=(), **vars(one)).checked()
        if self.triggers and Counts.of(self.clean_correct, clean, self.triggers) != self:
            raise ValueError("not the counts of the worst trigger")
        return self


def _trigger_from_json(value: dict[str, Any]) -> TriggerCounts:
    names = ("attacked", "attacked_agreeing", "poisoned_total", "margin")
    return TriggerCounts(**{name: value[name] for name in names}, recovered=value.get("recovered"))


def exact_points(points: float) -> Fraction:
    """Percentage points as the decimal that was written: 0.14 is 14/100, not its binary neighbour."""
    return Fraction(str(points))


def wilson_interval(successes: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, as fractions (95 % by default). ``successes`` need not be
    whole where a correction was taken off a count.

    Source: E. B. Wilson, JASA 22 (1927). Unlike the normal interval it is right at 0 and at 1.
    """
    if total == 0:
        return (0.0, 1.0)
    rate = successes / total
    centre = rate + z * z / (2 * total)
    spread = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == total else (centre + spread) / scale
    return (low, high)
