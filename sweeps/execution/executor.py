"""What runs trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sweeps.events import SweepEvents
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.queue import TrialQueue
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import Storage


class Executor(Protocol):
    def run(
        self,
        trials: TrialQueue,
        inputs: TrialInputs,
        storage: Storage,
        events: SweepEvents,
        before: Sequence[TrialRecord] = (),
    ) -> None:
        """Run every trial of the queue, store its record, tell ``events``. ``storage`` has begun; ``before``:
        trials of the sweep that are over, with which a rule for stopping compares."""
        ...
