"""What happens in a sweep, told to whoever wants to know: a person's terminal, MLflow, a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prune_core.data.checks.findings import Finding
    from sweeps.inputs.trial_inputs import TrialInputs
    from sweeps.progress import Progress
    from sweeps.records.trial_record import TrialRecord
    from sweeps.storage.manifest import Manifest
    from sweeps.sweep_result import SweepResult


class SweepEvents:
    """Told of a sweep from the driver's thread. Does nothing by itself: a listener answers to what it
    wants to hear.

    No method may raise for trouble of its own: a sweep does not fail because nobody hears of it.
    """

    def preparing(self, what: str, fraction: float) -> None:
        """Something is made before the first trial; ``fraction`` of it is done."""

    def looked(self, findings: Sequence[Finding]) -> None:
        """What is remarkable about the data, before the first trial; none of it is an error."""

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        """The sweep's trials are known: ``total`` of them, of which ``there`` were done before."""

    def candidates(self, key: str, progress: Progress) -> None:
        """How far a trial has come with its candidates."""

    def ended(self, record: TrialRecord) -> None:
        """A trial is over and its record is stored."""

    def trouble(self, line: str) -> None:
        """Something outside the trials is amiss, and is being waited for."""

    def finished(self, result: SweepResult, inputs: TrialInputs) -> None:
        """The frontier is drawn; no other trial comes."""


class Everyone(SweepEvents):
    """Tells several listeners, each in turn."""

    def __init__(self, *listeners: SweepEvents) -> None:
        self.listeners = listeners

    def preparing(self, what: str, fraction: float) -> None:
        for listener in self.listeners:
            listener.preparing(what, fraction)

    def looked(self, findings: Sequence[Finding]) -> None:
        for listener in self.listeners:
            listener.looked(findings)

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        for listener in self.listeners:
            listener.planned(manifest, there, total)

    def candidates(self, key: str, progress: Progress) -> None:
        for listener in self.listeners:
            listener.candidates(key, progress)

    def ended(self, record: TrialRecord) -> None:
        for listener in self.listeners:
            listener.ended(record)

    def trouble(self, line: str) -> None:
        for listener in self.listeners:
            listener.trouble(line)

    def finished(self, result: SweepResult, inputs: TrialInputs) -> None:
        for listener in self.listeners:
            listener.finished(result, inputs)
