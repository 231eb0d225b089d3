"""How far a trial has come, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Progress:
    """How far a trial is: ``done`` of at most ``total`` pieces of work, ``pruned`` channels so far."""

    doing: str
    done: int
    total: int
    pruned: int


Watch = Callable[[Progress], None]


class Judge(Protocol):
    """Says whether a trial goes on, see ``sweep.stop``."""

    def __call__(self, questions: int, volume: Callable[[], float]) -> str | None:
        """Why the trial is stopped, in words; None: it goes on.

        Args:
            questions: candidates that it has tried so far. volume: works out the hypervolume of its states
                so far, on validation; asked for only where it matters.
        """
        ...
