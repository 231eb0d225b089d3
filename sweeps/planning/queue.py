"""Which trial is next. A sweep's trials are handed out one at a time, when a worker is free.

So a sweep of ten thousand trials costs its driver as much as one of ten, a search can learn before
it goes on, and trials that share states follow each other.
"""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping

from sweeps.config.search import BudgetConfig
from sweeps.records.settings import TrialSettings

Walk = tuple[str, str, int]
_Entry = tuple[int, int, int, Walk]
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

    Walks wait in a heap, the one with the fewest workers first, then the longest, then the first given; an
    entry that is no longer true is passed over. So what a hand-out costs hardly grows with the sweep.
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
        self.out: Counter[Walk] = Counter()
        self.last: Walk | None = None  # whose worker is free
        self.waiting = 0
        self.place = {walk: number for number, walk in enumerate(self.walks)}
        self.heap: list[_Entry] = []
        for walk, those in self.walks.items():
            those.sort(key=lambda s: (len(s.layers), s.x, s.repair != "none"))  # taken from the end
            self.waiting += len(those)
            heapq.heappush(self.heap, self._entry(walk))

    def _next(self) -> TrialSettings | None:
        same = not self.in_turn and self.last in self.walks and not self.out[self.last]
        walk = self.last if same and self.last is not None else self._freest()
        settings = self.walks[walk].pop()
        self.waiting -= 1
        self.out[walk] += 1
        if not self.walks[walk]:
            del self.walks[walk]
        self._moved(walk)
        return settings

    def ended(self, settings: TrialSettings, found: Found | None) -> None:
        self.last = _walk(settings)
        self.out[self.last] -= 1
        self._moved(self.last)

    @property
    def left(self) -> int:
        return self.waiting

    def _entry(self, walk: Walk) -> _Entry:
        return self.out[walk], -len(self.walks[walk]), self.place[walk], walk

    def _moved(self, walk: Walk) -> None:
        if walk in self.walks:
            heapq.heappush(self.heap, self._entry(walk))

    def _freest(self) -> Walk:
        while True:
            entry = self.heap[0]
            if entry[-1] in self.walks and entry == self._entry(entry[-1]):
                return entry[-1]
            heapq.heappop(self.heap)


def _walk(settings: TrialSettings) -> Walk:
    return settings.policy, settings.order, settings.seed
