"""A sweep as MLflow shows it: which trials, figures, files and models are handed to tracking."""

from __future__ import annotations

import importlib.metadata
import io
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prune_core import ALGORITHM_VERSION
from prune_core.errors import InputError
from prune_core.export.zeroed import pruned_onnx
from sweeps.config.schema import TrackingConfig
from sweeps.extras import command, installed, need
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.overview.standing import fates_of
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.seed_table import left_out, seed_table, to_csv, to_markdown
from sweeps.results import frontier_table
from sweeps.storage.manifest import Manifest, read_manifest
from sweeps.storage.parquet import parquet_bytes
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.sweep import Log
from sweeps.sweep_result import SweepResult
from sweeps.tracking.address import SQLITE, TrackingAway, sqlite_path
from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.datasets import DataSet, data_sets
from sweeps.tracking.logged import Logged, digest
from sweeps.tracking.notes import SMALL, sweep_note

if TYPE_CHECKING:
    from sweeps.tracking.mlflow_runs import Tracking

PACKAGES = ("goodnet", "torch", "onnx2torch", "onnx", "numpy", "ray", "mlflow")
CLOSING_SECONDS = 120.0
SMALL_WIDTH = 800  # pixels
LOG_VERSION = 3  # of what is logged of a sweep and its trials: what an earlier one has logged is logged again


def tracking_uri(given: TrackingConfig, storage: Storage) -> str:
    """MLflow's address: ``tracking.uri``, or SQLite inside a storage that is a folder. Raises InputError."""
    uri = given.uri
    if uri is None:
        folder = storage.local
        if folder is None:
            raise InputError(
                f"tracking.uri is not set, and storage {storage.place!r} is not a local folder that "
                "could hold MLflow's SQLite file; set tracking.uri to an MLflow server"
            )
        if any(sign in str(folder) for sign in "%?"):
            raise InputError(
                f"storage {storage.place!r}: MLflow's SQLite file cannot be in {folder}, since % and ? mean "
                "something else in its address; expected a folder without them, or tracking.uri set"
            )
        uri = f"{SQLITE}{folder}/mlflow.db"
    return uri


def open_tracking(given: TrackingConfig, storage: Storage) -> Tracking:
    """MLflow at ``tracking_uri``. Raises InputError, also where mlflow is not installed."""
    need("tracking", "MLflow's log")
    from sweeps.tracking.mlflow_runs import Tracking  # mlflow takes seconds to import

    uri = tracking_uri(given, storage)
    # MLflow alone would put artifacts into the working folder; a server knows its own place.
    artifacts = None
    if uri.startswith(SQLITE):
        artifacts = sqlite_path(uri).resolve().with_name("mlartifacts").as_uri()
    return Tracking(uri, given.experiment, artifacts)


class SweepLog(Log):
    """Hands a sweep to MLflow in the background; what MLflow does not take never fails a trial."""

    def __init__(self, given: TrackingConfig, storage: Storage, warn: Callable[[str], None]) -> None:
        self.given, self.storage, self.warn = given, storage, warn
        self.background: BackgroundTracking | None = None
        self.store = RecordStore(storage)
        self.manifest: Manifest | None = None  # of a sweep that is to be logged
        self.data: tuple[DataSet, ...] = ()  # that it works on
        self.logged: Logged | None = None
        self.held: dict[str, Any] | None = None  # what MLflow has held since an earlier call
        self.holds: dict[str, Any] | None = None  # what it will hold once all of this call is there

    def start(self, manifest: Manifest, inputs: TrialInputs) -> str | None:
        """The sweep's run; None, and a line that says so, where mlflow is not installed. Raises InputError
        when MLflow does not answer; not where it has answered to this sweep before, since then it is the
        address that is right and MLflow that is away. MLflow that holds all of the sweep is not asked
        before there is more."""
        if not installed("tracking"):
            self.warn(f"nothing is logged to MLflow, which is not installed: {command('tracking')}")
            return None
        self.manifest, self.data = manifest, data_sets(inputs)
        self.logged = Logged(self.storage, manifest.name, tracking_uri(self.given, self.storage))
        known = self._run_of_before(manifest)
        self.held = self.logged.read() if known is not None else None
        if self.held is not None and self.held.get("run") == known:
            return known
        self.held = None
        return self._open(manifest, known)

    def _open(self, manifest: Manifest, known: str | None) -> str | None:
        tracking = open_tracking(self.given, self.storage)
        try:
            tracking.check()
        except TrackingAway:
            if known is None:
                raise
        self.background = BackgroundTracking(lambda: tracking, manifest, provenance(), self.warn, self.data)
        return self.background.run_id(timeout=30.0) or known

    def _more(self) -> BackgroundTracking | None:
        """There is more than MLflow holds."""
        if self.background is None and self.manifest is not None and self.held is not None:
            try:
                self._open(self.manifest, str(self.held["run"]))
            except InputError as error:
                self.warn(f"not logged to MLflow: {error}")
                self.manifest = None
        return self.background

    def _run_of_before(self, manifest: Manifest) -> str | None:
        """Of the same sweep, in the same MLflow."""
        try:
            before = read_manifest(self.storage, manifest.name)
        except InputError:
            return None
        same = before.config.tracking == self.given and before.digests == manifest.digests
        return before.mlflow_run_id if same else None

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        """What was done before is logged too: MLflow may have been away then."""
        for record in there:
            self.ended(record)

    def ended(self, record: TrialRecord) -> None:
        known = self.held is not None and self.held["trials"].get(record.key) == record.status
        background = self.background if known else self._more()
        if background is not None:
            store, key = self.store, record.key
            background.log_trial(key, record.status, lambda: store.read(key))

    def renew(self, files: Mapping[str, bytes]) -> None:
        if self.background is not None:
            self.background.renew(files)

    def finished(self, result: SweepResult, inputs: TrialInputs) -> None:
        self.holds = _of(result)
        if self.held == self.holds:
            return
        background = self._more()
        if background is None:
            return
        self.holds["run"] = background.run_id() or self.holds["run"]
        background.settle()
        for record in result.records:
            self.ended(record)
        for point in result.frontier.points:
            weights = self.store.weights(point.trial_key, point.weights)
            net = inputs.model.with_weights(weights)
            data = pruned_onnx(net, point.mask).SerializeToString()
            background.log_goodnet(point.trial_key, point.step, data)
        files, table = sweep_files(result, inputs)
        if not installed("plots"):
            self.warn(f"no picture is drawn: {command('plots')}")
        fates = fates_of(result.records)
        background.finish_sweep(
            {
                "hypervolume": result.frontier.hypervolume,
                **{
                    f"hypervolume.{kind.replace(':', '.')}": volume
                    for kind, volume in result.frontier.by_kind.items()
                },
                "frontier_size": len(result.frontier.points),
                **{f"trials_{fate}": number for fate, number in fates.items()},
            },
            files,
            partial(sweep_note, result, table, SMALL in files),
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
        elif self.background is not None and self.logged is not None and self.holds is not None:
            self.logged.write(self.holds)


def _of(result: SweepResult) -> dict[str, Any]:
    """All that a sweep's log depends on, in short."""
    frontier = [point.to_json() for point in result.frontier.points]
    config = result.manifest.config.model_dump(mode="json")
    return {
        "run": result.manifest.mlflow_run_id,
        "trials": {record.key: record.status for record in result.records},
        "rest": digest(
            [frontier, result.frontier.hypervolume, result.stopped, config, provenance(), LOG_VERSION]
        ),
    }


def sweep_files(result: SweepResult, inputs: TrialInputs) -> tuple[dict[str, bytes], str]:
    """The parent run's files by artifact path, and the seed report's table in Markdown."""
    rows = seed_table(result.records, {la.name: la.channels for la in inputs.model.layers[1:]})
    table = to_markdown(rows) + left_out(result.records)
    files = {
        **_pictures(result, inputs),
        "frontier.parquet": parquet_bytes(frontier_table(result.frontier)),
        "seed_table.md": table.encode(),
        "seed_table.csv": to_csv(rows).encode(),
        "checks.json": json.dumps([f.to_json() for f in result.manifest.findings or ()], indent=1).encode(),
    }
    return files, table


def _pictures(result: SweepResult, inputs: TrialInputs) -> dict[str, bytes]:
    if not installed("plots"):
        return {}
    from sweeps.reports.frontier_html import frontier_page  # plotly and matplotlib take their time
    from sweeps.reports.frontier_png import frontier_png

    records, frontier, name = result.records, result.frontier, result.manifest.name
    picture = frontier_png(records, frontier, name)
    return {
        "frontier.png": picture,
        SMALL: _small(picture),
        "frontier.html": frontier_page(
            records,
            frontier,
            name,
            findings=result.manifest.findings,
            channels={layer.name: layer.channels for layer in inputs.model.layers},
            storage=result.manifest.config.storage,
        ).encode(),
    }


def _small(png: bytes) -> bytes:
    from PIL import Image  # matplotlib's own way to write PNG

    made = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        height = round(picture.height * SMALL_WIDTH / picture.width)
        picture.convert("RGB").resize((SMALL_WIDTH, height)).save(made, "PNG", optimize=True)
    return made.getvalue()


def provenance() -> dict[str, Any]:
    """Versions that a result may depend on."""
    found: dict[str, Any] = {"algorithm": ALGORITHM_VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
