"""The look at a configuration's data, once for a sweep: a later call of it is told what was found."""

from __future__ import annotations

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError
from prune_core.evaluation.look import LOOK_VERSION, look
from sweeps.config.search import XRange
from sweeps.config.sweep import SweepConfig
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.manifest import Manifest, read_manifest
from sweeps.storage.storage import Storage


def asked_x(sweep: SweepConfig) -> tuple[float, ...]:
    """The X (percentage points) that a person wrote down; of a range its upper end."""
    given = sweep.x_thresholds
    return (given.high,) if isinstance(given, XRange) else given


def look_before(manifest: Manifest, inputs: TrialInputs, storage: Storage) -> tuple[Finding, ...]:
    """What an earlier call of the same sweep has found, by the same rules; else a look now."""
    try:
        before = read_manifest(storage, manifest.name)
    except InputError:  # the first call
        before = None
    if (
        before is not None
        and before.findings is not None
        and before.looked == LOOK_VERSION
        and before.digests == manifest.digests
        and asked_x(before.config.sweep) == asked_x(manifest.config.sweep)
    ):
        return before.findings
    return look(inputs.model, inputs.valid, inputs.test, asked_x(manifest.config.sweep))
