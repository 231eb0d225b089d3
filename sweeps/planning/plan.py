"""From a configuration to the trials of a sweep: all of them at once, or as Optuna suggests them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prune_core import ALGORITHM_VERSION
from prune_core.errors import InputError
from prune_core.methods import Inverted
from prune_core.model.model import PrunableModel
from sweeps.config.constraint import constraints_of
from sweeps.config.search import XRange
from sweeps.config.sweep import SweepConfig
from sweeps.extras import need
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.grid import trials_of
from sweeps.planning.objectives import objectives
from sweeps.planning.queue import Found, Listed, TrialQueue
from sweeps.planning.search_space import Outside, SearchSpace
from sweeps.records.settings import TrialSettings, part_versions
from sweeps.records.trial_record import Status, TrialRecord
from sweeps.storage.journal import Journal
from sweeps.storage.manifest import Manifest, read_manifest, read_records, write_manifest
from sweeps.storage.record_store import RecordStore, finished
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage

Trials = dict[str, TrialSettings]  # by trial key


def plan(name: str, sweep: SweepConfig, inputs: TrialInputs, storage: Storage) -> tuple[str, Trials]:
    """A sweep's full name and those of its trials that are known by now. The name, ``name`` and a digest,
    tells the content, so the same sweep is found again and another one gets another name. Raises
    InputError."""
    if sweep.search == "optuna":
        need("sweep", "sweep.search: optuna")
        whole = _named(name, _asked(sweep, inputs.digests))
        return whole, {**warm_trials(sweep, inputs, storage), **_members(storage, whole)}
    trials = {inputs.key(s): s for s in listed(sweep, inputs.model, inputs.inverted)}
    return _named(name, list(trials)), trials


def _named(name: str, identity: list[Any]) -> str:
    return f"{name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]}"


def _asked(sweep: SweepConfig, digests: Mapping[str, str]) -> list[Any]:
    """What a search that learns is: the same one goes on with more samples, another budget, or
    another rule for stopping trials."""
    left_out = ("samples", "budget", "stop")
    asked = {f: v for f, v in sweep.model_dump(mode="json").items() if f not in left_out}
    if sweep.search_seed == sweep.seeds[0]:
        del asked["search_seeds"]
    for field in ("rank_images", "screen", "sampler", "constraint"):  # sweeps keep the names that they had
        if getattr(sweep, field) == SweepConfig.model_fields[field].default:
            del asked[field]
    versions = part_versions(sweep.orders, sweep.policies, sweep.repair)
    return [asked, digests, ALGORITHM_VERSION, *([versions] if versions else [])]


def listed(sweep: SweepConfig, model: PrunableModel, inverted: Inverted | None = None) -> list[TrialSettings]:
    """The trials of searches that do not learn; ``inverted`` as of ``TrialInputs``. Raises InputError."""
    if not isinstance(sweep.x_thresholds, XRange):
        return trials_of(sweep, model, inverted)
    assert sweep.samples is not None  # checked by SweepConfig
    space, rng = SearchSpace.of(sweep, model, inverted), np.random.default_rng(sweep.search_seed)
    drawn: dict[TrialSettings, None] = {}
    while len(drawn) < sweep.samples:
        settings = space.draw_other(drawn.__contains__, rng)
        if settings is None:
            break
        drawn[settings] = None
    return list(drawn)


def over(sweep: SweepConfig) -> tuple[Status, ...]:
    """Of a trial that is left as it is. Without a rule for stopping, one that was stopped goes on."""
    return ("done",) if sweep.stop is None else ("done", "stopped")


def queue_of(
    manifest: Manifest,
    inputs: TrialInputs,
    storage: Storage,
    there: Mapping[str, TrialRecord],
    found: Callable[[TrialRecord], None],
    tell: Callable[[str], None],
) -> TrialQueue:
    """What hands out the trials that are missing.

    Args:
        there: done records of ``manifest.trials``.
        found: told of records that other sweeps have made, of trials that a search asks for; those
            trials, and all others that it asks for, are put into ``manifest.trials``.
        tell: told when the storage is away.
    """
    sweep = manifest.config.sweep
    missing = [s for key, s in manifest.trials.items() if key not in there]
    if sweep.search != "optuna":
        return Listed(missing, sweep.budget, in_turn=sweep.stop is not None)
    from sweeps.planning.optuna_queue import Study, Suggested  # a second to import

    assert sweep.samples is not None  # checked by SweepConfig
    warm = warm_trials(sweep, inputs, storage)
    journal, store = Journal(storage, manifest.name), RecordStore(storage)

    def asked(settings: TrialSettings) -> Found | None:
        key = inputs.key(settings)
        patiently(lambda: journal.add(key, settings), storage.place, tell)
        manifest.trials[key] = settings
        record = finished(key, store, tell, over(sweep))
        if record is None:
            return None
        found(record)
        return objectives(record, constraints)

    constraints = constraints_of(sweep.constraint)
    known = [(r.settings, f) for r in there.values() if (f := objectives(r, constraints)) is not None]
    startup = min(10, max(4, sweep.samples // 4))
    space = SearchSpace.of(sweep, inputs.model, inputs.inverted)
    study = Study(space, sweep.search_seed, startup, known, sweep.sampler)
    begun = sum(key not in warm for key in manifest.trials)
    return Suggested(
        study, sweep.samples - begun, list(manifest.trials.values()), missing, sweep.budget, asked
    )


def close(manifest: Manifest, storage: Storage) -> Manifest:
    """Put what a search has asked for into its manifest."""
    if manifest.config.sweep.search != "optuna":
        return manifest
    trials = {**_members(storage, manifest.name), **manifest.trials}
    whole = replace(manifest, trials=trials)
    write_manifest(storage, whole)
    Journal(storage, manifest.name).delete(set(trials))
    return whole


def warm_trials(sweep: SweepConfig, inputs: TrialInputs, storage: Storage) -> Trials:
    """Trials of ``sweep.warm_start`` that are done, with this BadNet and these data, and that this
    search could have asked for. Raises InputError when there are none."""
    name = sweep.warm_start
    if name is None:
        return {}
    try:
        earlier = read_manifest(storage, name)
    except InputError as error:
        raise InputError(f"sweep.warm_start: {error}") from None
    space = SearchSpace.of(sweep, inputs.model, inputs.inverted)
    ours = {k: s for k, s in earlier.trials.items() if inputs.key(s) == k and _holds(space, s)}
    warm = {r.key: r.settings for r in read_records(storage, ours) if r.status == "done"}
    if not warm:
        why = (
            "other orders, layer sets, policies or X, or not done"
            if any(inputs.key(s) == k for k, s in earlier.trials.items())
            else "another BadNet, other data or an earlier version"
        )
        raise InputError(
            f"sweep.warm_start: none of the {len(earlier.trials)} trials of sweep {name!r} can be used "
            f"({why}); expected a sweep of the same BadNet and data that shares trials with this one"
        )
    return warm


def _holds(space: SearchSpace, settings: TrialSettings) -> bool:
    try:
        space.choices(settings)
    except Outside:
        return False
    return True


def _members(storage: Storage, name: str) -> Trials:
    try:
        return read_manifest(storage, name).trials
    except InputError:  # there is none yet; or it is damaged, then what was asked since is left
        return Journal(storage, name).read()
