"""What runs trials."""

from __future__ import annotations

from typing import Protocol

from sweeps.events import SweepEvents
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.queue import TrialQueue
from sweeps.storage.storage import Storage


class Executor(Protocol):
    def run(self, trials: TrialQueue, inputs: TrialInputs, storage: Storage, events: SweepEvents) -> None:
        """Run every trial of the queue, store its record, tell ``events``. ``storage`` has begun."""
        ...
