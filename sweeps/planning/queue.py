"""Which trial is next. A sweep's trials are handed out one at a time, when a worker is free.

So a sweep of ten thousand trials costs its driver as much as one of ten, a search can learn before
it goes on, and trials that share states follow each other.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping

from sweeps.config.search import BudgetConfig
from sweeps.records.settings import TrialSettings

Walk = tuple[str, str, int]
Found = Mapping[str, float]  # what a trial found, by the names of ``objectives``


class TrialQueue(ABC):
    """Asked for trials and told of their ends, by one thread."""

    def __init__(self, budget: BudgetConfig) -> None:
        self.budget = budget
        self.begun: float | None = None
        self.given = 0
        self.spent: str | None = None  # the part of the budget that ended it, in words

    def next(self) -> TrialSettings | None:
        """None when there is none now; ``finished`` tells whether for good."""
        if self.begun is None:
            self.begun = time.monotonic()
        if self.finished:
            return None
        if self.budget.trials is not None and self.given >= self.budget.trials:
            self.spent = f"sweep.budget.trials ({self.budget.trials})"
        elif self.budget.minutes is not None and time.monotonic() - self.begun > 60 * self.budget.minutes:
            self.spent = f"sweep.budget.minutes ({self.budget.minutes:g})"
        settings = None if self.spent else self._next()
        self.given += settings is not None
        return settings

    @property
    def finished(self) -> bool:
        """No other trial will be handed out."""
        return self.spent is not None or self.left <= 0

    @abstractmethod
    def ended(self, settings: TrialSettings, found: Found | None) -> None:
        """A trial is over; None when it failed."""

    @abstractmethod
    def _next(self) -> TrialSettings | None: ...

    @property
    @abstractmethod
    def left(self) -> int:
        """How many could be handed out yet; of a search, at most."""


class Listed(TrialQueue):
    """Trials that are known beforehand, those that gain from each other one after the other.

    Trials of one walk (policy, order and seed; they differ in layers, X or repair) come by the same
    states. They are handed out the longest first, and one after the other: whoever ends one gets the
    next, and two workers are put on one walk only when there is no other.
    """

    def __init__(
        self, trials: Iterable[TrialSettings], budget: BudgetConfig | None = None, in_turn: bool = False
    ) -> None:
        """``in_turn``: one trial of each walk after the other, so that trials are soon there to compare with
        (``sweep.stop``)."""
        super().__init__(budget or BudgetConfig())
        self.in_turn = in_turn
        self.walks: dict[Walk, list[TrialSettings]] = {}
        for settings in trials:
            self.walks.setdefault(_walk(settings), []).append(settings)
        for walk in self.walks.values():
            walk.sort(key=lambda s: (len(s.layers), s.x, s.repair != "none"))  # taken from the end
        self.out: Counter[Walk] = Counter()
        self.last: Walk | None = None  # whose worker is free

    def _next(self) -> TrialSettings | None:
        walk = (
            self.last
            if not self.in_turn and self.last in self.walks and not self.out[self.last]
            else min(self.walks, key=lambda w: (self.out[w], -len(self.walks[w])))
        )
        settings = self.walks[walk].pop()
        if not self.walks[walk]:
            del self.walks[walk]
        self.out[walk] += 1
        return settings

    def ended(self, settings: TrialSettings, found: Found | None) -> None:
        self.last = _walk(settings)
        self.out[self.last] -= 1

    @property
    def left(self) -> int:
        return sum(map(len, self.walks.values()))


def _walk(settings: TrialSettings) -> Walk:
    return settings.policy, settings.order, settings.seed
