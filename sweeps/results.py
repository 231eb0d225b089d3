"""What a sweep found: its manifest, the frontier over all steps of all trials, test counts of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from prune_core.counts import Counts
from prune_core.defence import attack_is_there, no_attack
from prune_core.frontier import hypervolume, non_dominated
from prune_core.masks import ChannelMask
from sweeps.limits import DAMAGE, read_table
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import State, TrialRecord
from sweeps.storage.parquet import parquet_bytes
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class FrontierPoint:
    """A state that no other state of the sweep dominates on validation, with its test counts.

    ``settings`` and ``weights`` as of a ``State``.
    """

    trial_key: str
    step: int
    mask: ChannelMask
    valid: Counts
    test: Counts
    settings: TrialSettings | None = None
    weights: str | None = None

    @property
    def channels_pruned(self) -> int:
        return len(self.mask)

    @property
    def gap(self) -> dict[str, float]:
        """Test minus validation, fractions: what choosing on validation has flattered."""
        return {
            rate: getattr(self.test, rate) - getattr(self.valid, rate)
            for rate in ("clean_accuracy", "attack_success")
        }

    def to_json(self) -> dict[str, Any]:
        """The contract's form; rates are fractions, of validation unless under ``test``. ``kind`` and
        ``assumption`` tell what was done and what had to be known for it, see ``methods``."""
        return {
            **described(self.settings),
            "weights": self.weights,
            "clean_accuracy": self.valid.clean_accuracy,
            "attack_success": self.valid.attack_success,
            "channels_pruned": self.channels_pruned,
            "trial_key": self.trial_key,
            "step": self.step,
            "valid": self.valid.to_json(),
            "test": self.test.to_json(),
            "mask": self.mask.to_json(),
            "gap": self.gap,
        }


@dataclass(frozen=True)
class Frontier:
    """The non-dominated states of a sweep, by falling clean accuracy, and their hypervolume.

    ``by_kind``: the hypervolume of the states of one kind alone (``methods.KINDS``; of baselines, of
    one policy). Kinds rest on different assumptions, so these may be compared, and the whole
    frontier's may not.
    ``no_attack``: the BadNet's counts on validation when there was no attack to remove; then no
    state is proposed, and there are no points.
    """

    points: tuple[FrontierPoint, ...]
    hypervolume: float
    by_kind: Mapping[str, float] = field(default_factory=dict)
    no_attack: Counts | None = None

    def control_json(self) -> dict[str, Any]:
        """What the commands' JSON says besides when there was no attack to remove."""
        if self.no_attack is None:
            return {}
        return {"attack_present": False, "note": no_attack(self.no_attack)}


def described(settings: TrialSettings | None) -> dict[str, str | None]:
    """What was done in a trial, in the words of the contract."""
    if settings is None:
        return dict.fromkeys(("kind", "policy", "repair", "assumption"))
    method = settings.method
    return {
        "kind": method.kind,
        "policy": settings.policy,
        "repair": settings.repair,
        "assumption": method.assumption,
    }


def group_of(settings: TrialSettings) -> str:
    """The kind; of a baseline its policy, as each is a method of its own."""
    kind = settings.method.kind
    return settings.policy if kind == "baseline" else kind


def frontier_states(records: Sequence[TrialRecord]) -> list[State]:
    """Non-dominated states over all accepted steps of all trials, by falling validation accuracy.

    Of states equal on both axes one with no weights changed is kept, of such the one with fewest
    channels. The BadNet itself is no candidate: it is what is to be replaced.
    """
    return not_dominated([s for r in records for s in r.states()])


def hypervolumes(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Of the states of each group alone (``group_of``), on validation."""
    groups: dict[str, list[State]] = {}
    for record in records:
        groups.setdefault(group_of(record.settings), []).extend(record.states())
    return {group: _volume(states) for group, states in groups.items() if states}


def _volume(states: Sequence[State]) -> float:
    return hypervolume(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )


def _plainest(state: State) -> tuple[bool, int]:
    return (state.weights is not None, len(state.mask))


def not_dominated(states: Sequence[State]) -> list[State]:
    """As ``frontier_states``, of any states."""
    states = sorted(states, key=_plainest)
    positions = non_dominated(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )
    return [states[p] for p in positions]


def measured_frontier(
    storage: Storage,
    name: str,
    records: Sequence[TrialRecord],
    test_counts: Callable[[State], Counts],
    target_share: float = 0.0,
    keep: bool = True,
) -> Frontier:
    """The frontier with test counts; ``test_counts`` is asked only for states that an earlier call
    has not measured. Kept as ``sweeps/<name>.frontier.parquet``, which is written where it changes, unless
    nothing is to be written (``keep``)."""
    file = f"sweeps/{name}.frontier.parquet"
    before = _kept_rows(storage.read_bytes(file))
    known = _known(before, records)
    points = []
    badnet = next((r.badnet_valid for r in records if r.badnet_valid is not None), None)
    control = badnet is not None and not attack_is_there(badnet, target_share)
    for state in [] if control else frontier_states(records):
        test = known.get(net_digest(state)) or test_counts(state)
        points.append(
            FrontierPoint(
                state.trial_key, state.step, state.mask, state.counts, test, state.settings, state.weights
            )
        )
    accuracy = np.array([p.valid.clean_accuracy for p in points])
    attack = np.array([p.valid.attack_success for p in points])
    by_kind = {} if control else hypervolumes(records)
    frontier = Frontier(tuple(points), hypervolume(accuracy, attack), by_kind, badnet if control else None)
    if keep and _rows(frontier) != before:
        storage.write_bytes(file, parquet_bytes(frontier_table(frontier)))
    return frontier


def known_frontier(
    storage: Storage, name: str, records: Sequence[TrialRecord], target_share: float = 0.0
) -> Frontier:
    """Of a sweep that runs: nothing is measured and nothing written. Its points are the states whose test
    counts are known that no other such state beats; the hypervolumes are of all states."""
    known = _known(_kept_rows(storage.read_bytes(f"sweeps/{name}.frontier.parquet")), records)
    badnet = next((r.badnet_valid for r in records if r.badnet_valid is not None), None)
    if badnet is not None and not attack_is_there(badnet, target_share):
        return Frontier((), 0.0, {}, badnet)
    states = [s for r in records for s in r.states()]
    tested = not_dominated([s for s in states if net_digest(s) in known])
    points = tuple(
        FrontierPoint(s.trial_key, s.step, s.mask, s.counts, known[net_digest(s)], s.settings, s.weights)
        for s in tested
    )
    return Frontier(points, _volume(states), hypervolumes(records))


def _known(before: list[dict[str, Any]] | None, records: Sequence[TrialRecord]) -> dict[str, Counts]:
    """Test counts by ``net_digest``: those that an earlier call has kept, and of trials' final nets."""
    known = _test_counts(before)
    for record in records:
        for state in record.states()[-1:]:
            if record.test is not None and state.mask == record.mask:  # the trial's final net
                known[net_digest(state)] = record.test
    return known


def frontier_table(frontier: Frontier) -> pa.Table:
    """One row a point: rates and counts of both splits, and the mask as JSON."""
    return pa.Table.from_pylist(_rows(frontier))


def _rows(frontier: Frontier) -> list[dict[str, Any]]:
    rows = []
    for point in frontier.points:
        row: dict[str, Any] = {
            "trial_key": point.trial_key,
            "step": point.step,
            "channels_pruned": point.channels_pruned,
            "mask": json.dumps(point.mask.to_json()),
            "mask_digest": point.mask.digest,
            "net_digest": net_digest(point),
            **described(point.settings),
            "weights": point.weights,
        }
        for split, counts in (("valid", point.valid), ("test", point.test)):
            told = counts.to_json()
            told.pop("triggers", None)  # they are in the JSON
            row |= {f"{split}_{k}": v for k, v in told.items() if k[-8:] != "interval"}
            row[f"{split}_counts"] = json.dumps(counts.to_json())
        rows.append(row)
    return rows


def net_digest(net: State | FrontierPoint) -> str:
    """What a net is, given the BadNet: its mask, and its weights where they are changed."""
    return net.mask.digest + (f"+{net.weights}" if net.weights else "")


def _kept_rows(data: bytes | None) -> list[dict[str, Any]] | None:
    """The table that an earlier call has kept; None where there is none, or a damaged one."""
    if data is None:
        return None
    try:
        return list(read_table(data).to_pylist())
    except DAMAGE:
        return None


def _test_counts(rows: list[dict[str, Any]] | None) -> dict[str, Counts]:
    try:
        return {r["net_digest"]: Counts.from_json(json.loads(r["test_counts"])) for r in rows or ()}
    except DAMAGE:
        return {}
