"""What the commands show of a storage's sweeps. Nothing of it is written there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_core.counts import Counts
from prune_core.errors import InputError
from prune_core.files.write import write_whole
from prune_core.frontier import hypervolume
from sweeps.overview.shown import badnet_of, fates, kept_shown, shown
from sweeps.progress import Tell
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import Frontier, measured_frontier
from sweeps.storage.manifest import Manifest, read_manifest, read_records
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage, open_storage

if TYPE_CHECKING:
    from sweeps.sweep import TestCounter

# Imports inside functions: a frontier is shown without torch, whose import alone takes longer.

Result = dict[str, Any]


def frontier_of(name: str | None, place: str) -> Frontier:
    """The frontier of a sweep over the trials that are done. Nothing is written. Raises InputError."""
    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    return frontier_at(storage, manifest, records_of(storage, manifest), _LateTest(manifest, storage))


def shown_frontier(
    name: str | None, place: str, page: Path | None = None, tell: Tell = lambda line: None
) -> Result:
    """``frontier_of`` in the contract's form: with the sweep's name, how its trials stand, the BadNet, what
    each point costs against it, and what was found in the data. ``page``: a file for the sweep's page.
    ``tell``: gets a line where what the sweep has kept for this is damaged. Raises InputError."""
    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    kept = None if page is not None else kept_shown(storage, manifest, tell)
    if kept is not None:
        return kept
    records = records_of(storage, manifest)
    found = frontier_at(storage, manifest, records, _LateTest(manifest, storage))
    told = shown(manifest, records, found)
    return told if page is None else {**told, "page": _page(page, place, manifest, records, found, {})}


def _page(
    file: Path,
    place: str,
    manifest: Manifest,
    records: list[TrialRecord],
    found: Frontier,
    others: dict[str, list[TrialRecord]],
) -> str:
    """Write a sweep's page with its trials' distribution beside that of ``others``; the file."""
    from sweeps.extras import need

    need("plots", "goodnet frontier --page")
    from sweeps.reports.frontier_html import frontier_page

    text = frontier_page(
        records, found, manifest.name, findings=manifest.findings, others=others, storage=place
    )
    write_whole(file, text.encode())
    return str(file)


def compared_frontiers(names: Sequence[str], place: str, page: Path | None = None) -> Result:
    """Sweeps side by side: how each stands, the best state within each X of all of them, and one frontier
    over all, whose states say which sweeps they are from (a trial may belong to several). ``page``: a file
    for the first one's page, with the others' distribution beside its own; nothing else is written. Raises
    InputError, also for sweeps whose figures cannot be compared."""
    from sweeps.overview.compare import check_comparable, joint
    from sweeps.overview.figures import bounds_of, figures_of
    from sweeps.reports.price import prices

    if len(set(names)) < len(names):
        raise InputError(f"frontier {' '.join(names)}: a sweep is named twice; expected different ones")
    storage = open_storage(place)
    manifests = [read_manifest(storage, name) for name in names]
    check_comparable(manifests)
    bounds = sorted({x for manifest in manifests for x in bounds_of(manifest.config.sweep)})
    frontiers, sweeps = {}, []
    of_each: list[tuple[list[TrialRecord], Frontier]] = []
    badnet: dict[str, Counts] = {}
    for manifest in manifests:
        records = records_of(storage, manifest)
        found = frontier_at(storage, manifest, records, _LateTest(manifest, storage))
        frontiers[manifest.name] = found.points
        of_each.append((records, found))
        badnet = badnet or badnet_of(records)
        sweeps.append(
            {
                "sweep": manifest.name,
                "trials": fates(manifest, records),
                "frontier_size": len(found.points),
                "hypervolume": found.hypervolume,
                "hypervolume_by_kind": dict(found.by_kind),
                "best": figures_of(records, bounds, manifest.target_share).best_json(),
                **found.control_json(),
            }
        )
    written = {}
    if page is not None:
        others = {m.name: theirs for m, (theirs, _) in zip(manifests[1:], of_each[1:], strict=True)}
        written = {"page": _page(page, place, manifests[0], *of_each[0], others)}
    points = joint(frontiers)
    accuracy = np.array([p.valid.clean_accuracy for p in points])
    return {
        "sweeps": sweeps,
        "badnet": {split: counts.to_json() for split, counts in badnet.items()},
        "points": [
            {
                **p.to_json(),
                "price": prices(badnet, {"valid": p.valid, "test": p.test}),
                "sweeps": [m.name for m in manifests if p.trial_key in m.trials],
            }
            for p in points
        ],
        "hypervolume": hypervolume(accuracy, np.array([p.valid.attack_success for p in points])),
        **written,
    }


def listed(place: str) -> Result:
    """Every sweep of a storage, the latest first: see ``sweeps_of``. Nothing is written."""
    from sweeps.overview.listing import sweeps_of

    return {"storage": place, "sweeps": sweeps_of(open_storage(place))}


def watched(
    name: str | None, place: str, once: bool, show: Callable[[Result], None], pause: float = 2.0
) -> Result:
    """How a sweep stands once it does not run any more, or now (``once``), in the form of
    ``Standing.to_json``; ``show`` gets the same every ``pause`` seconds. A storage that is away is waited
    for. Raises InputError."""
    from sweeps.overview.standing import read_standing

    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    while True:
        standing = patiently(lambda: read_standing(storage, manifest), place)
        show(standing.to_json())
        if once or standing.state != "running":
            return standing.to_json()
        time.sleep(pause)


def tabled(name: str | None, place: str, csv: Path | None, parquet: Path | None) -> Result:
    """The trials of a sweep that have a record, one row each (see ``trial_row``), put into files where they
    are asked for. Raises InputError."""
    from sweeps.overview.rows import trial_row, trials_csv, trials_parquet

    storage = open_storage(place)
    manifest = read_manifest(storage, name)
    rows = [trial_row(record) for record in records_of(storage, manifest)]
    written = []
    for path, data in (
        (csv, lambda: trials_csv(rows).encode()),
        (parquet, lambda: trials_parquet(rows)),
    ):
        if path is not None:
            write_whole(path, data())
            written.append(str(path))
    return {"sweep": manifest.name, "trials": rows, "written": written}


def records_of(storage: Storage, manifest: Manifest) -> list[TrialRecord]:
    records = read_records(storage, manifest.trials)
    if not records:
        raise InputError(f"sweep {manifest.name!r}: no trial is done yet; run goodnet sweep")
    return records


def frontier_at(
    storage: Storage, manifest: Manifest, records: list[TrialRecord], test: Callable[[State], Counts]
) -> Frontier:
    return measured_frontier(storage, manifest.name, records, test, manifest.target_share, keep=False)


class _LateTest:
    """Counts states on the test split; files are opened only when a state has to be measured."""

    def __init__(self, manifest: Manifest, storage: Storage) -> None:
        self.manifest, self.storage = manifest, storage
        self.counter: TestCounter | None = None

    def __call__(self, state: State) -> Counts:
        if self.counter is None:
            from sweeps.inputs.load import input_files, load_inputs
            from sweeps.sweep import TestCounter

            config = self.manifest.config
            inputs = load_inputs(input_files(config))
            self.counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, self.storage)
        return self.counter(state)
