"""What the page knows, as JSON that is read by its scripts."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prune_core.counts import Counts
from prune_core.errors import InputError
from sweeps.extras import command
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.channels import pruned_in
from sweeps.reports.frontier_scene import CAVEAT, Scene
from sweeps.reports.history import hypervolume_history
from sweeps.reports.importance import importances, outcomes
from sweeps.reports.page.script import script_json
from sweeps.reports.page.states import Channels, Way, packed
from sweeps.results import Frontier

Json = dict[str, Any]
MOST_STATES = 2**20  # of a trial, far more than there are


class PageData:
    """All that stands on the page of a sweep; ``text`` says it within a number of bytes."""

    def __init__(
        self,
        records: Sequence[TrialRecord],
        frontier: Frontier,
        scene: Scene,
        name: str,
        others: Mapping[str, Sequence[TrialRecord]] | None = None,
        channels: Mapping[str, int] | None = None,
        storage: str | None = None,
        running: bool = False,
    ) -> None:
        self.records, self.badnet = records, scene.badnet
        on_frontier: dict[str, set[int]] = {}
        for point in frontier.points:
            on_frontier.setdefault(point.trial_key, set()).add(point.step)
        self.ways = [Way.of(r, frozenset(on_frontier.get(r.key, ()))) for r in records]
        self.states = sum(len(way.states) for way in self.ways)
        counts = pruned_in(p.mask for p in frontier.points)
        self.rest: Json = {
            "name": name,
            "storage": storage,
            "caveat": CAVEAT,
            "badnet": {"valid": _counts(scene.badnet), "test": _counts(scene.badnet_test)},
            "range": list(scene.accuracy),
            "trials": _trials(records),
            "frontier": _frontier(records, frontier),
            "hypervolume": frontier.hypervolume,
            "history": [
                [m.trials, m.clock and round(m.clock, 1), round(m.spent, 1), _short(m.hypervolume)]
                for m in hypervolume_history(records)
            ],
            "importance": {"missing": "it waits for the end of the sweep"}
            if running
            else _importance(records),
            "channels": {
                layer: {
                    "of": (channels or {}).get(layer, max(found) + 1),
                    "counted": layer in (channels or {}),
                    "in": [[index, n] for index, n in found.items()],
                }
                for layer, found in counts.items()
            },
            "others": {
                other: [[_short(v) for v in outcomes(r)] for r in theirs if r.status != "failed"]
                for other, theirs in (others or {}).items()
            },
        }

    def text(self, room: int) -> str:
        """JSON that may stand in a script element. Where it would take more than ``room`` bytes, first the
        masks of states that are not on the frontier are left out, then all but every second such state, all
        but every fourth, and so on; the page says so. With very many trials it may still be more."""
        every, masks, fixed = 1, True, len(script_json(self.rest))
        while True:
            text = script_json(self._with_states(every, masks))
            if len(text) <= room or every > max((len(way.states) for way in self.ways), default=0):
                return text
            if not masks:
                wanted = (len(text) - fixed) / max(
                    1, room - fixed
                )  # what is left of states is about 1 / every
                every *= min(2 ** max(1, math.ceil(math.log2(max(1, wanted)))), MOST_STATES)
            masks = False

    def _with_states(self, every: int, masks: bool) -> Json:
        channels = Channels() if masks else None
        kept = [way.thinned(every) for way in self.ways]
        ways = [
            None if self.badnet is None else packed(states, record.badnet_valid or self.badnet, channels)
            for record, states in zip(self.records, kept, strict=True)
        ]
        return {
            **self.rest,
            "states": ways,
            "told": {"states": self.states, "kept": sum(map(len, kept)), "masks": masks},
            "numbered": None if channels is None else channels.to_json(),
        }


def kind(settings: TrialSettings) -> str:
    """As ``Method.kind``; of a policy or order of a package that is not here, unknown."""
    try:
        return settings.method.kind
    except InputError:
        return "unknown"


def _trials(records: Sequence[TrialRecord]) -> Json:
    """A column for each thing; names as numbers of the table ``names``."""
    names: dict[str, int] = {}

    def numbered(values: Iterable[str]) -> list[int]:
        return [names.setdefault(value, len(names)) for value in values]

    every = [r.settings for r in records]
    reached = [outcomes(r) if r.status != "failed" else (None, None) for r in records]
    return {
        "key": [r.key for r in records],
        "order": numbered(s.order for s in every),
        "layers": numbered("+".join(s.layers) for s in every),
        "x": [s.x for s in every],
        "policy": numbered(s.policy for s in every),
        "repair": numbered(s.repair for s in every),
        "kind": numbered(map(kind, every)),
        "seed": [s.seed for s in every],
        "status": numbered(r.status for r in records),
        "reason": [r.reason for r in records],
        "seconds": [round(r.seconds, 2) for r in records],
        "pruned": [len(r.mask) for r in records],
        "valid": [_counts(r.valid) for r in records],
        "test": [_counts(r.test) for r in records],
        "hypervolume": [_short(volume) for volume, _ in reached],
        "best": [_short(attack) for _, attack in reached],
        "worker": [None if r.ran is None else numbered([r.ran.worker])[0] for r in records],
        "started": [None if r.ran is None else round(r.ran.started, 2) for r in records],
        "asked": [None if r.ran is None else r.ran.asked for r in records],
        "known": [None if r.ran is None else r.ran.known for r in records],
        "names": list(names),  # the last: all of the above have put theirs in
    }


def _frontier(records: Sequence[TrialRecord], frontier: Frontier) -> list[Json]:
    number = {record.key: at for at, record in enumerate(records)}
    return [
        {
            "trial": number.get(p.trial_key),
            "step": p.step,
            "mask": p.mask.by_layer(),
            "keep_bias": p.mask.keep_bias,
            "weights": p.weights is not None,
            "valid": _counts(p.valid),
            "test": _counts(p.test),
        }
        for p in frontier.points
    ]


# A sweep that ends is drawn for its storage and for MLflow: what takes seconds is worked out once.
_last: tuple[Sequence[TrialRecord], int, Json] | None = None


def _importance(records: Sequence[TrialRecord]) -> Json:
    global _last
    if _last is None or _last[0] is not records or _last[1] != len(records):
        _last = records, len(records), _importance_of(records)
    return _last[2]


def _importance_of(records: Sequence[TrialRecord]) -> Json:
    if importlib.util.find_spec("sklearn") is None:
        return {"missing": f"it needs scikit-learn: {command('plots')}"}
    return {
        "found": [
            {
                "outcome": one.outcome,
                "trials": one.trials,
                "stopped": one.stopped,
                "fits": one.fits,
                "of": [[setting, *spread] for setting, spread in one.of.items()],
                "why_not": one.why_not,
            }
            for one in importances(records)
        ]
    }


def _counts(counts: Counts | None) -> list[int] | None:
    """Clean images right and all, then of each trigger images attacked and all."""
    if counts is None:
        return None
    each = [number for t in counts.by_trigger for number in (t.attacked, t.poisoned_total)]
    return [counts.clean_correct, counts.clean_total, *each]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
