"""What ``goodnet audit`` does, and what a choice asks of the audits that were kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_core.errors import InputError
from sweeps.looking import frontier_at, records_of
from sweeps.storage.manifest import read_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import open_storage

if TYPE_CHECKING:
    from sweeps.choosing.criteria import Criterion
    from sweeps.config.schema import Config
    from sweeps.storage.manifest import Manifest
    from sweeps.storage.storage import Storage
    from sweeps.sweep_result import SweepResult

# Imports inside functions, as in ``commands``.

Result = dict[str, Any]


def audit_from(
    name: str | None,
    place: str,
    criterion: Criterion,
    audits: Sequence[str] = (),
    benign: Path | None = None,
    frontier_members: bool = False,
    say: Callable[[str], None] = lambda line: None,
    tell: Callable[[str, int, int, str], None] = lambda subject, done, total, what: None,
    over_workers: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> Result:
    """Audit a state of a sweep, the one that ``criterion`` chooses on validation, or every member of the
    frontier. What is there already is not made again. ``over_workers``: of Ray; else all is made in this
    process. ``say`` gets what is done, ``warn`` what is amiss. Raises InputError."""
    from prune_core.audits.names import check_audits
    from prune_core.audits.plan import Bench
    from prune_core.audits.subject import Subject
    from prune_core.defence import no_attack
    from prune_core.model.model import load_model
    from sweeps.auditing.state import Auditor
    from sweeps.choosing.named import Named, with_state
    from sweeps.inputs.load import input_files, load_inputs
    from sweeps.pick import check_same_inputs, choose
    from sweeps.storage.audit_store import AuditStore
    from sweeps.sweep import TestCounter

    asked = check_audits(audits)
    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    config = manifest.config
    files = input_files(config)
    inputs = load_inputs(files)
    check_same_inputs(manifest, inputs.digests)
    counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, storage)
    records = records_of(storage, manifest)
    frontier = frontier_at(storage, manifest, records, counter)
    if frontier.no_attack is not None:
        raise InputError(f"sweep {manifest.name}: {no_attack(frontier.no_attack)}")
    if isinstance(criterion, Named):
        frontier = with_state(frontier, records, criterion, counter)
    badnet = next((r.badnet_valid for r in records if r.badnet_valid is not None), None)
    if badnet is None or not frontier.points:
        raise InputError(f"sweep {manifest.name}: the frontier has no points; there is nothing to audit")
    points = frontier.points if frontier_members else (choose(frontier, badnet, criterion)[0],)
    other = None
    if benign is not None:
        other = load_model(
            benign,
            files.architecture,
            architecture_args=files.architecture_args,
            image=inputs.valid.clean.shape,
        )
        classes = [m.check_images(inputs.valid.clean.shape, m.name) for m in (inputs.model, other)]
        if classes[0] != classes[1]:
            raise InputError(
                f"--benign {benign}: {classes[1]} classes, the BadNet has {classes[0]}; expected a net of "
                "the same kind"
            )
    bench = Bench.of(Subject(inputs.model), inputs.valid, inputs.test)
    auditor = Auditor(manifest.name, inputs, AuditStore(storage.begin()), bench, other, asked, say, tell)
    store = RecordStore(storage)
    if over_workers:
        from sweeps.auditing.spread import spread

        spread(auditor, points, config.resources, storage)
    found = [auditor(point, store.weights(point.trial_key, point.weights)) for point in points]
    if auditor.made or over_workers:
        _log(manifest, storage, found, warn)
    return {"sweep": manifest.name, "states": found} if frontier_members else found[0]


def _log(manifest: Manifest, storage: Storage, found: Sequence[Result], say: Callable[[str], None]) -> None:
    """Each audit as a file of the sweep's run in MLflow, where it has one. MLflow in any trouble costs a
    line, not the audits."""
    run = manifest.mlflow_run_id
    if run is None:
        return
    from sweeps.storage.audit_store import AuditStore

    store = AuditStore(storage)
    kept = [store.state(one["sweep"], one["trial"], one["step"]) or one for one in found]
    files = {f"audits/{one['trial']}-{one['step']}.json": json.dumps(one, indent=1).encode() for one in kept}
    try:
        from sweeps.tracking.sweep_log import open_tracking  # mlflow takes seconds to import

        tracking = open_tracking(manifest.config.tracking, storage)
        tracking.check()
        tracking.log_files(run, files)
    except Exception as error:
        say(f"audits not logged in MLflow: {' '.join(str(error).split())[:200]}")


def audit_after(
    result: SweepResult,
    config: Config,
    say: Callable[[str], None],
    tell: Callable[[str, int, int, str], None] = lambda subject, done, total, what: None,
    executor: str = "inline",
    warn: Callable[[str], None] = lambda line: None,
) -> Result | None:
    """What ``sweep.audit`` asks for: the states of the frontier of a sweep that has ended, audited over the
    workers of ``executor``, or in this process. None where nothing is asked for, there is nothing to audit,
    or it cannot be audited, which ``warn`` gets: the sweep itself is done."""
    asked, frontier = config.sweep.audit, result.frontier
    if not asked or not frontier.points:
        return None
    from sweeps.choosing.criteria import Knee

    names = () if asked is True else asked
    ray, name = executor == "ray", result.manifest.name
    how = "over the workers" if ray else "one after the other in this process"
    say(f"sweep.audit: {len(frontier.points)} states of the frontier, {how}")
    try:
        return audit_from(name, config.storage, Knee(), names or (), None, True, say, tell, ray, warn)
    except InputError as error:  # the sweep itself is done, and its results stand
        warn(f"sweep.audit: not audited: {error}")
        return None
