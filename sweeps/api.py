"""A sweep from Python: what ``goodnet sweep``, ``trials``, ``frontier`` and ``pick`` do, as objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError
from sweeps.auditing.audit import audit_after, audit_from
from sweeps.choosing.criteria import criterion_of, criterion_or_knee
from sweeps.commands import pick_from, report_from
from sweeps.config.schema import Config, load_config, make_config
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.overview.rows import point_row, trial_row
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import open_storage
from sweeps.sweep import SweepResult, run_sweep
from sweeps.tracking.sweep_log import SweepLog

_log = logging.getLogger("goodnet")


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep whose trials have been run.

    Attributes:
        name: what commands call it, as in ``goodnet pick NAME``.
        config: its configuration.
        result: how its trials stand.
    """

    name: str
    config: Config = field(repr=False)
    result: SweepResult = field(repr=False)

    def trials(self) -> list[dict[str, Any]]:
        """One row for each trial, in the order of the search space: plain dictionaries, so that no pandas is
        needed, in a list that ``pandas.DataFrame`` takes. The columns are those of ``goodnet trials``:
        settings (``order``, ``layers``, ``x`` in points, ``policy``, ``seed``, ``repair``), ``trial_key``,
        ``status`` ("done"; "stopped" or "failed", with a ``reason``), ``seconds``, ``steps``,
        ``channels_pruned``, ``hypervolume`` (of the trial's states on validation), and of the final network
        rates as fractions and counts of images, of validation (``valid_clean_accuracy``,
        ``valid_clean_correct``, ...) and test (``test_clean_accuracy``, ...)."""
        return [trial_row(record) for record in self.result.records]

    def frontier(self) -> list[dict[str, Any]]:
        """One row for each state of all trials that no other state beats on validation, by falling
        clean accuracy: a list that ``pandas.DataFrame`` takes. ``trial_key``, ``step``, settings,
        ``channels_pruned``, rates as of ``trials``, ``kind`` and ``assumption`` (what was done, and what
        had to be known for it), and ``mask`` (``{layer: [indices]}``). Empty where the BadNet shows no
        attack to remove."""
        return [point_row(point) for point in self.result.frontier.points]

    def pick(
        self,
        *,
        max_accuracy_drop: float | None = None,
        max_attack_success: float | None = None,
        knee: bool = False,
        trial: str | None = None,
        step: int | None = None,
        max_reactivated: float | None = None,
        out: str | Path = "goodnets",
        register: bool = False,
    ) -> dict[str, Any]:
        """Choose a state of the frontier by one criterion and write its GoodNet in every format, each
        file read back and measured again. Validation chooses, test reports.

        Args:
            max_accuracy_drop: percentage points of clean accuracy below the BadNet: the lowest attack
                success within.
            max_attack_success: a fraction: the highest clean accuracy at or under it.
            knee: the largest clean accuracy minus attack success.
            trial, step: a state of the sweep, on the frontier or not, by its trial's key and its step.
            max_reactivated: beside a criterion, a fraction: only states whose attack up to 10 poisoned images
                wake to at most so much, by ``audit``; states that were not audited are left out.
            out: the folder for the files.
            register: put the model into MLflow's registry too.

        Returns:
            What ``goodnet pick --json`` prints: ``point``, ``why``, ``files``, ``mask_file``, ``card``,
            ``cost``, ``choice`` (what choosing it flatters), ...; rates are fractions.

        Raises:
            InputError: no criterion or more than one, no state within it, or inputs that have changed.
            ExportMismatch: a file does not do what the record says; the models are removed then.
        """
        return pick_from(
            self.name,
            self.config.storage,
            Path(out),
            criterion_of(max_accuracy_drop, max_attack_success, knee, trial, step),
            register,
            _log.warning,
            max_reactivated=max_reactivated,
        )

    def audit(
        self,
        *,
        max_accuracy_drop: float | None = None,
        max_attack_success: float | None = None,
        knee: bool = False,
        trial: str | None = None,
        step: int | None = None,
        frontier: bool = False,
        only: Sequence[str] = (),
        benign: str | Path | None = None,
    ) -> dict[str, Any]:
        """Attack a state again, in the ways of ``goodnet audit``; what is there already is not made again.

        Args:
            max_accuracy_drop, max_attack_success, knee, trial, step: the state, as of ``pick``; the knee
                where none is given.
            frontier: every state of the frontier instead.
            only: audits by name; all where none is given.
            benign: the file of a net of the same kind that has no backdoor, audited beside it.

        Returns:
            What ``goodnet audit --json`` prints: ``subjects`` with a list of entries for ``goodnet``,
            ``badnet`` and perhaps ``benign``, and ``skipped``; of the frontier a list of these, ``states``.

        Raises:
            InputError: more than one criterion, an unknown audit, a net that does not fit.
        """
        given = (max_accuracy_drop, max_attack_success, trial, step) != (None,) * 4 or knee
        if given and frontier:
            raise InputError("frontier audits all of its states; give it or a criterion, not both")
        criterion = criterion_or_knee(max_accuracy_drop, max_attack_success, knee, trial, step)
        return audit_from(
            self.name,
            self.config.storage,
            criterion,
            only,
            None if benign is None else Path(benign),
            frontier,
            _log.info,
            warn=_log.warning,
        )

    def report(
        self,
        *,
        max_accuracy_drop: float | None = None,
        max_attack_success: float | None = None,
        knee: bool = False,
        trial: str | None = None,
        step: int | None = None,
        max_reactivated: float | None = None,
        scan: str | Path | None = None,
        out: str | Path | None = None,
        picked: str | Path = "goodnets",
    ) -> dict[str, Any]:
        """Make one page for somebody who decides and does not know the project: what was handed in, what was
        found, what each assumption buys, the state that a criterion chooses and its price, audits, limits.

        Args:
            max_accuracy_drop, max_attack_success, knee, trial, step, max_reactivated: as of ``pick``; without
                a criterion, the knee.
            scan: the file of ``goodnet scan``. Default: what is in the storage.
            out: the page, one HTML file; its figures stand beside it as JSON. Default: NAME-report.html.
            picked: where ``pick`` has written the files that sign the page off.

        Returns:
            What ``goodnet report --json`` prints: every figure of the page (rates are fractions), ``report``
            and ``facts``, where both files are.

        Raises:
            InputError: more than one criterion, no state within it, or inputs that have changed.
        """
        return report_from(
            self.name,
            self.config.storage,
            criterion_or_knee(max_accuracy_drop, max_attack_success, knee, trial, step),
            None if scan is None else Path(scan),
            None if out is None else Path(out),
            Path(picked),
            max_reactivated,
        )


def sweep(
    config: str | Path | Mapping[str, Any] | Config,
    *overrides: str,
    executor: str = "ray",
) -> Sweep:
    """Search: run every trial of a configuration that has no record yet, log to MLflow, draw the
    frontier; as ``goodnet sweep`` does. The same call goes on where it was stopped.

    Args:
        config: a YAML file, or the same keys as a mapping (``badnet``, ``data``, ``sweep``, ...).
        overrides: ``key=value`` for a file's keys, as "sweep.x_thresholds=[2,4]".
        executor: "ray", over the workers of a cluster or of this machine, or "inline", in this process.

    Raises:
        InputError: a configuration, file, storage or tracking place that cannot be used.
        KeyboardInterrupt: stopped; what is done is kept and logged.
    """
    checked = _config(config, overrides)
    chosen = make_executor(executor, checked)
    storage = open_storage(checked.storage)
    log = SweepLog(checked.tracking, storage, _log.warning)
    try:
        result = run_sweep(checked, storage, chosen, _Quiet(), log)
    finally:
        log.close()
    if result.stopped:
        raise KeyboardInterrupt
    audit_after(result, checked, _log.info, executor=executor, warn=_log.warning)
    return Sweep(result.manifest.name, checked, result)


def _config(config: Any, overrides: Sequence[str]) -> Config:
    if isinstance(config, (str, Path)):
        return load_config(config, overrides)
    if overrides:
        raise InputError("overrides such as 'sweep.seeds=[0,1]' are for a file; change the mapping itself")
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return make_config({"name": "sweep", **config}, "config")
    raise InputError(
        f"config is a {type(config).__name__}; expected the path of a YAML file, or its keys as a mapping"
    )


class _Quiet(SweepEvents):
    """Logs what is amiss, and nothing else."""

    def looked(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.level != "note":
                _log.warning("%s", finding.detail)

    def ended(self, record: TrialRecord) -> None:
        if record.status == "failed":
            _log.warning("%s: failed: %s", record.settings, record.reason)

    def trouble(self, line: str) -> None:
        _log.warning("%s", line)
