"""What a call of a sweep has come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sweeps.config.constraint import told_within
from sweeps.records.trial_record import TrialRecord
from sweeps.results import Frontier
from sweeps.storage.manifest import Manifest, page_path
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class SweepResult:
    """A finished call: how its trials stand, and the frontier over all of them."""

    manifest: Manifest
    records: list[TrialRecord]
    frontier: Frontier
    skipped: int  # trials that an earlier call, or another sweep, had done
    stopped: bool = False  # by Ctrl-C or SIGTERM, before every trial had its record
    ended_by: str | None = None  # the part of the budget that was spent
    left: int = 0  # trials that the budget has left for the next call

    def _whose(self) -> list[str]:
        """Of each failed trial: input, machine or fault; unknown in records of version 0.1."""
        return [r.failure or "unknown" for r in self.records if r.status == "failed"]

    def to_json(self, storage: Storage) -> dict[str, Any]:
        """The contract's form: done by this call, failed, skipped (done before), stopped_trials (by
        ``sweep.stop``, now or before; only where there are any); trials is their sum, and those of a grid
        that a stopped call, or one whose budget was spent, has not come to."""
        fates = Counter(r.status for r in self.records)
        failed, stopped = fates["failed"], fates["stopped"]
        page = page_path(self.manifest.name)
        return {
            "sweep": self.manifest.name,
            "trials": len(self.manifest.trials),
            "done": fates["done"] - self.skipped,
            "failed": failed,
            "skipped": self.skipped,
            "frontier_size": len(self.frontier.points),
            "hypervolume": self.frontier.hypervolume,
            "mlflow_run_id": self.manifest.mlflow_run_id,
            "records": storage.full("trials"),
            "storage": storage.place,
            "page": None if storage.modified(page) is None else storage.full(page),
            **({"failures": dict(Counter(self._whose()))} if failed else {}),
            **({"stopped_trials": stopped} if stopped else {}),
            **({"stopped": True} if self.stopped else {}),
            **({"ended_by": self.ended_by, "left": self.left} if self.ended_by else {}),
            **told_within(
                self.manifest.config.sweep.constraint,
                [point.valid for point in self.frontier.points],
                next((r.badnet_valid for r in self.records if r.badnet_valid is not None), None),
            ),
            **self.frontier.control_json(),
            "findings": [f.to_json() for f in self.manifest.findings or ()],
        }
