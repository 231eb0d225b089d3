"""From sizes to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_core.inversion.anomaly import Others
from prune_core.inversion.found import FoundTrigger
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
    candidates: Sequence[Candidate], plan: Plan, held_out: int
) -> tuple[Verdict, str, tuple[int, ...]]:
    """The verdict, why, and the classes suspected. ``candidates``: the most anomalous first."""
    if len(plan.targets) < FEW_CLASSES:
        return "cannot tell", f"{len(plan.targets)} classes are too few to compare one with the others", ()
    if held_out < FEW_IMAGES:
        return "cannot tell", f"{held_out} held-out images are too few to measure a trigger on", ()
    sure = [c for c in candidates if c.anomaly >= SURE]
    least: dict[str, float] = {}
    for c in sure:
        least[c.trigger.kind] = min(c.trigger.size, least.get(c.trigger.kind, c.trigger.size))
    sure = [c for c in sure if c.trigger.size <= NEAR * least[c.trigger.kind]]
    if sure:
        named = tuple(dict.fromkeys(c.trigger.target for c in sure))
        return "suspected", "; ".join(_words(c) for c in sure), named
    doubt = [c for c in candidates if c.anomaly >= DOUBT]
    if doubt:
        said = "; ".join(_words(c) for c in doubt)
        return "cannot tell", f"{said}: easier than the others, and not by far", ()
    return "nothing found", "no class needs a far smaller trigger than the others", ()


def _words(c: Candidate) -> str:
    return f"class {c.trigger.target}, {c.trigger.kind}: size {c.trigger.size:.3g}, anomaly {c.anomaly:.2f}"
