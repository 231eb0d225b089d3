"""What ``goodnet frontier`` shows of a sweep, kept at the sweep's end.

Ten thousand records take ten seconds and more to read. ``sweeps/<name>.shown`` holds for as long as the
records are the files that it was made of: their names, sizes and times of writing are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from prune_core import ALGORITHM_VERSION
from prune_core.counts import Counts
from sweeps.config.constraint import told_within
from sweeps.limits import DAMAGE
from sweeps.overview.shown_form import checked
from sweeps.overview.standing import fates_of
from sweeps.progress import Tell
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.price import prices
from sweeps.results import Frontier
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage

Shown = dict[str, Any]
FORM = 1  # of what is shown; another one is not read


def shown(manifest: Manifest, records: Sequence[TrialRecord], found: Frontier) -> Shown:
    """The contract's form: how the trials stand, the BadNet, each point with what it costs, what the look at
    the data has found."""
    badnet = badnet_of(records)
    return {
        "sweep": manifest.name,
        **told_within(manifest.config.sweep.constraint, [p.valid for p in found.points], badnet.get("valid")),
        "trials": fates(manifest, records),
        "badnet": {split: counts.to_json() for split, counts in badnet.items()},
        "points": [
            {**p.to_json(), "price": prices(badnet, {"valid": p.valid, "test": p.test})} for p in found.points
        ],
        "hypervolume": found.hypervolume,
        "hypervolume_by_kind": dict(found.by_kind),
        "findings": [finding.to_json() for finding in manifest.findings or ()],
        **found.control_json(),
    }


def badnet_of(records: Sequence[TrialRecord]) -> dict[str, Counts]:
    """Counts of the BadNet by split, where a trial is done."""
    done = next((record for record in records if record.status != "failed"), None)
    splits = ("valid", "test") if done is not None else ()
    return {s: counts for s in splits if (counts := getattr(done, f"badnet_{s}")) is not None}


def fates(manifest: Manifest, records: Sequence[TrialRecord]) -> dict[str, int]:
    return {"total": len(manifest.trials), **fates_of(records)}


def keep_shown(storage: Storage, manifest: Manifest, made_of: str, value: Shown) -> None:
    """For ``kept_shown``. ``made_of``: the ``stamp`` before the records were read. A storage that is away
    keeps nothing."""
    text = json.dumps(value)
    try:
        storage.write_bytes(_path(manifest), json.dumps([made_of, _digest(text), text]).encode())
    except (OSError, pa.ArrowException):
        return


def kept_shown(storage: Storage, manifest: Manifest, tell: Tell) -> Shown | None:
    """None where nothing is kept, records have changed since, or it is damaged; then ``tell`` gets a line."""
    try:
        data = storage.read_bytes(_path(manifest))
        if data is None:
            return None
        made_of, digest, text = json.loads(data)
        now = stamp(storage, manifest)
        if made_of != now and isinstance(made_of, str) and len(made_of) == len(now):
            return None
        value = checked(text)
        if made_of != now or digest != _digest(text) or value["sweep"] != manifest.name:
            raise ValueError("not what a sweep has kept")
        return value
    except DAMAGE:
        tell(
            f"{_path(manifest)} in storage {storage.place!r} is damaged and not used; all records are read "
            "instead (the next goodnet sweep writes it again)"
        )
        return None


def stamp(storage: Storage, manifest: Manifest) -> str:
    """Of the records of a sweep as they lie in the storage now, and of all else that what is shown depends
    on."""
    there = storage.written("trials")
    files = [(key, there.get(f"{key}.parquet")) for key in sorted(manifest.trials)]
    told = [[finding.to_json() for finding in manifest.findings or ()], manifest.target_share]
    asked = list(manifest.config.sweep.constraint)
    return _digest(json.dumps([FORM, ALGORITHM_VERSION, files, told, asked]))


def _path(manifest: Manifest) -> str:
    return f"sweeps/{manifest.name}.shown"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
