"""From sizes to words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_core.inversion.anomaly import Others
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.margins import Margins
from prune_core.inversion.shortcut import Copy

if TYPE_CHECKING:
    from prune_core.inversion.plan import Plan
    from prune_core.inversion.result import Verdict

SURE, DOUBT = 5.0, 3.0  # anomaly
NEAR = 2.0  # beside a class whose trigger is so many times as small, another is no target of its own
FEW_CLASSES, FEW_IMAGES = 8, 30


@dataclass(frozen=True, eq=False)
class Candidate:
    """A class whose trigger is small. ``anomalies``: by start; ``copy``: the network without its shortcut;
    ``size``: of the smallest trigger found there, infinite where none was."""

    trigger: FoundTrigger
    anomalies: tuple[float, ...]
    copy: Copy | None
    size: float | None
    others: Others

    @property
    def anomaly(self) -> float:
        return float(np.median(self.anomalies))

    @property
    def left(self) -> float | None:
        """The anomaly that the class has in the copy; None without one."""
        if self.size is None:
            return None
        return self.others.anomaly(self.size) if np.isfinite(self.size) else -np.inf

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "class": self.trigger.target,
            "kind": self.trigger.kind,
            "anomaly": self.anomaly if np.isfinite(self.anomaly) else None,
            "size": self.trigger.size,
        }
        if self.copy is not None:
            size = self.size if self.size is not None and np.isfinite(self.size) else None
            left = self.left if self.left is not None and np.isfinite(self.left) else None
            found |= {**self.copy.to_json(), "size_in_copy": size, "anomaly_in_copy": left}
        return found


def concluded(
    candidates: Sequence[Candidate], margins: Margins, plan: Plan, held_out: int
) -> tuple[Verdict, str, tuple[int, ...]]:
    """The verdict, why, and the classes suspected. ``candidates``: the most anomalous first.

    Three ways lead to a suspicion: a trigger far smaller than the others', a margin far greater, or both less
    far: their anomalies together over the square root of 2 (Stouffer's way, as if they were independent).
    """
    if len(plan.targets) < FEW_CLASSES:
        return "cannot tell", f"{len(plan.targets)} classes are too few to compare one with the others", ()
    if held_out < FEW_IMAGES:
        return "cannot tell", f"{held_out} held-out images are too few to measure a trigger on", ()
    sure = [c for c in candidates if c.anomaly >= SURE]
    least: dict[str, float] = {}
    for c in sure:
        least[c.trigger.kind] = min(c.trigger.size, least.get(c.trigger.kind, c.trigger.size))
    sure = [c for c in sure if c.trigger.size <= NEAR * least[c.trigger.kind]]
    odd = margins.anomalies
    greatest = dict(zip(margins.targets.tolist(), margins.greatest.tolist(), strict=True))
    most = max((greatest[one] for one, anomaly in odd.items() if anomaly >= SURE), default=0.0)
    leading = [one for one in _ranked(odd) if odd[one] >= SURE and greatest[one] * NEAR >= most]
    named = dict.fromkeys([*(c.trigger.target for c in sure), *leading])
    both = [c for c in candidates if c.trigger.target not in named and _together(c, odd) >= SURE]
    if named or both:
        said = [*map(_words, sure), *(_margin_words(one, greatest[one], odd[one]) for one in leading)]
        if not named:
            first = both[0]
            one = first.trigger.target
            named = {one: None}
            said = [_words(first), _margin_words(one, greatest[one], odd[one]), "together they stand out"]
        return "suspected", "; ".join(said), tuple(named)
    doubt = [_words(c) for c in candidates if c.anomaly >= DOUBT]
    doubt += [_margin_words(one, greatest[one], odd[one]) for one in _ranked(odd) if odd[one] >= DOUBT]
    if doubt:
        return "cannot tell", f"{'; '.join(doubt)}: easier than the others, and not by far", ()
    return "nothing found", "no class needs a far smaller trigger than the others, or leads by far more", ()


def _ranked(odd: dict[int, float]) -> list[int]:
    return sorted(odd, key=lambda one: -odd[one])


def _together(c: Candidate, odd: dict[int, float]) -> float:
    """Both anomalies as one, where each is above 0; else 0."""
    margin = odd.get(c.trigger.target, 0.0)
    return (c.anomaly + margin) / math.sqrt(2) if min(c.anomaly, margin) > 0 else 0.0


def _margin_words(one: int, margin: float, anomaly: float) -> str:
    return f"class {one}, margin: up to {margin:.3g} logits, anomaly {anomaly:.2f}"


def _words(c: Candidate) -> str:
    return f"class {c.trigger.target}, {c.trigger.kind}: size {c.trigger.size:.3g}, anomaly {c.anomaly:.2f}"
