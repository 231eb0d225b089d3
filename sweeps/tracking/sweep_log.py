"""A sweep as MLflow shows it: which trials, figures, files and models are handed to tracking."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

from prune_core import ALGORITHM_VERSION
from prune_core.errors import InputError
from prune_core.export.zeroed import pruned_onnx
from sweeps.config.schema import Config
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records import TrialRecord
from sweeps.reports.frontier_html import frontier_page
from sweeps.reports.frontier_png import frontier_png
from sweeps.reports.seed_table import seed_table, to_csv, to_markdown
from sweeps.results import frontier_table
from sweeps.storage.manifest import Manifest, read_manifest
from sweeps.storage.parquet import parquet_bytes
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.sweep import SweepResult
from sweeps.tracking.address import SQLITE, TrackingAway, sqlite_path
from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.mlflow_runs import Tracking

PACKAGES = ("goodnet", "torch", "onnx2torch", "onnx", "numpy", "ray", "mlflow")
CLOSING_SECONDS = 120.0


def open_tracking(config: Config, storage: Storage) -> Tracking:
    """MLflow at ``tracking.uri``, or SQLite inside a storage that is a folder. Raises InputError."""
    uri = config.tracking.uri
    if uri is None:
        folder = storage.local
        if folder is None:
            raise InputError(
                f"tracking.uri is not set, and storage {storage.place!r} is not a local folder that "
                "could hold MLflow's SQLite file; set tracking.uri to an MLflow server"
            )
        uri = f"{SQLITE}{folder}/mlflow.db"
    # MLflow alone would put artifacts into the working folder; a server knows its own place.
    artifacts = None
    if uri.startswith(SQLITE):
        artifacts = sqlite_path(uri).resolve().with_name("mlartifacts").as_uri()
    return Tracking(uri, config.tracking.experiment, artifacts)


class SweepLog:
    """Hands a sweep to MLflow in the background; what MLflow does not take never fails a trial."""

    def __init__(self, config: Config, storage: Storage, warn: Callable[[str], None]) -> None:
        self.config, self.storage, self.warn = config, storage, warn
        self.background: BackgroundTracking | None = None
        self.store = RecordStore(storage)

    def start(self, manifest: Manifest) -> str | None:
        """The sweep's run. Raises InputError when MLflow does not answer; not where it has answered to
        this sweep before, since then it is the address that is right and MLflow that is away."""
        tracking = open_tracking(self.config, self.storage)
        known = self._run_of_before(manifest)
        try:
            tracking.check()
        except TrackingAway:
            if known is None:
                raise
        self.background = BackgroundTracking(lambda: tracking, manifest, provenance(), self.warn)
        return self.background.run_id(timeout=30.0) or known

    def _run_of_before(self, manifest: Manifest) -> str | None:
        """Of the same sweep, in the same MLflow."""
        try:
            before = read_manifest(self.storage, manifest.name)
        except InputError:
            return None
        same = before.config.tracking == self.config.tracking and before.digests == manifest.digests
        return before.mlflow_run_id if same else None

    def trial(self, record: TrialRecord) -> None:
        if self.background is not None:
            store, key = self.store, record.key
            self.background.log_trial(key, record.status, lambda: store.read(key))

    def finish(self, result: SweepResult, inputs: TrialInputs) -> None:
        if self.background is None:
            return
        self.background.settle()
        for record in result.records:
            self.trial(record)
        for point in result.frontier.points:
            weights = self.store.weights(point.trial_key, point.step, point.weights)
            net = inputs.model.with_weights(weights)
            data = pruned_onnx(net, point.mask).SerializeToString()
            self.background.log_goodnet(point.trial_key, point.step, data)
        files, note = sweep_files(result, inputs)
        failed = sum(r.status == "failed" for r in result.records)
        self.background.finish_sweep(
            {
                "hypervolume": result.frontier.hypervolume,
                **{
                    f"hypervolume.{kind.replace(':', '.')}": volume
                    for kind, volume in result.frontier.by_kind.items()
                },
                "frontier_size": len(result.frontier.points),
                "trials_done": len(result.records) - failed,
                "trials_failed": failed,
            },
            files,
            note,
            result.stopped,
        )

    def close(self) -> None:
        """Wait for what MLflow still has to take; say what it did not take."""
        unlogged = self.background.close(CLOSING_SECONDS) if self.background else []
        if unlogged:
            self.warn(
                f"MLflow has not taken {len(unlogged)} of the sweep's entries ({unlogged[0]}, ...); "
                "the records are safe, and the same goodnet sweep again completes the log"
            )


def sweep_files(result: SweepResult, inputs: TrialInputs) -> tuple[dict[str, bytes], str]:
    """The parent run's files by artifact path, and its description in Markdown."""
    manifest, records, frontier = result.manifest, result.records, result.frontier
    rows = seed_table(records, {la.name: la.channels for la in inputs.model.layers[1:]})
    table = to_markdown(rows)
    files = {
        "frontier.png": frontier_png(records, frontier, manifest.name),
        "frontier.html": frontier_page(records, frontier, manifest.name).encode(),
        "frontier.parquet": parquet_bytes(frontier_table(frontier)),
        "seed_table.md": table.encode(),
        "seed_table.csv": to_csv(rows).encode(),
    }
    return files, f"Metrics by method or accuracy loss\n\n{table}"


def provenance() -> dict[str, Any]:
    """Versions that a result may depend on."""
    found: dict[str, Any] = {"algorithm": ALGORITHM_VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
