"""How far a trial has come, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Progress:
    """How far a trial is: ``done`` of at most ``total`` pieces of work, ``pruned`` channels so far."""

    doing: str
    done: int
    total: int
    pruned: int


Watch = Callable[[Progress], None]
