"""A split's attack in words and as JSON: targets, what was left out, what is not known."""

from __future__ import annotations

from typing import Any

from prune_core.data.attack import NEXT
from prune_core.data.images import Split


def attack_json(split: Split) -> dict[str, Any]:
    """``target`` (a class, ``next``, or the classes there are; a list of these for several triggers),
    ``left_out`` (poisoned images that truly show their target), ``truth`` (how what poisoned images show is
    known: ``true labels``, ``pairs``, None; of several triggers the least sure) and ``floor`` (the fraction
    of the images up to which attack success may be true images of the target)."""
    sources = [attack.truth for attack in split.attacks] or [None]
    truth = None if None in sources else "pairs" if "pairs" in sources else "true labels"
    return {"target": split.goal, "left_out": split.left_out, "truth": truth, "floor": split.floor}


def triggers_json(split: Split, counts: dict[str, Any]) -> dict[str, Any]:
    """``Counts.to_json`` with each trigger's name, target and left out images beside its counts."""
    if "triggers" not in counts:
        return counts
    told = [
        {"name": attack.name, "target": goal, "left_out": attack.left_out, **one}
        for attack, goal, one in zip(split.attacks, split.goals, counts["triggers"], strict=True)
    ]
    return {**counts, "triggers": told}


def goal_words(goal: Any) -> str:
    """The target of ``attack_json`` for people: ``7``, ``the next class``, ``1, 5``."""
    if isinstance(goal, list):
        shown = ", ".join(goal_words(g) for g in goal[:8])
        return shown + (f", ... ({len(goal)} in all)" if len(goal) > 8 else "")
    return "the next class (all-to-all)" if goal == NEXT else str(goal)
