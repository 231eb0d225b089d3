"""What runs trials, and who hears of them."""

from __future__ import annotations

from typing import Protocol

from sweeps.config.schema import Config
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.queue import TrialQueue
from sweeps.records import TrialRecord
from sweeps.storage.storage import Storage


class Listener(Protocol):
    """Told of progress, from the driver's thread."""

    def candidates(self, key: str, tried: int, total: int, pruned: int) -> None:
        """A trial has tried that many of its candidates and pruned that many."""
        ...

    def ended(self, record: TrialRecord) -> None:
        """A trial is over and its record is stored."""
        ...

    def trouble(self, line: str) -> None:
        """Something outside the trials is amiss, and is being waited for."""
        ...


class Executor(Protocol):
    def run(
        self, trials: TrialQueue, inputs: TrialInputs, config: Config, storage: Storage, listener: Listener
    ) -> None:
        """Run every trial of the queue, store its record, tell ``listener``. ``storage`` has begun."""
        ...
