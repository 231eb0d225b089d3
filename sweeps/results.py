"""What a sweep found: its manifest, the frontier over all steps of all trials, test counts of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prune_core.counts import Counts
from prune_core.defence import attack_is_there, no_attack
from prune_core.errors import InputError
from prune_core.frontier import hypervolume, non_dominated
from prune_core.masks import ChannelMask
from sweeps.config.schema import Config, make_config
from sweeps.limits import DAMAGE, NAME, read_table
from sweeps.planning.grid import TrialSettings
from sweeps.records import RecordStore, State, TrialRecord
from sweeps.storage.journal import Asked
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class Manifest:
    """What a sweep is: its configuration and its trials. ``sweeps/<name>.json`` in the storage."""

    name: str
    config: Config
    trials: dict[str, TrialSettings]  # by trial key, in the order of the search space
    digests: dict[str, str]  # badnet, valid, test
    mlflow_run_id: str | None = None
    target_share: float = 0.0  # of clean validation images; attack success by chance

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "trials": {key: s.to_json() for key, s in self.trials.items()},
            "digests": self.digests,
            "mlflow_run_id": self.mlflow_run_id,
            "target_share": self.target_share,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        trials = {k: TrialSettings.from_json(s) for k, s in value["trials"].items()}
        config = make_config(value["config"], f"sweep {value['name']}")
        name, digests, run_id = value["name"], value["digests"], value["mlflow_run_id"]
        if not (
            all(isinstance(part, str) and NAME.fullmatch(part) for part in (name, *trials))
            and isinstance(run_id, str | None)
            and all(isinstance(digests[key], str) for key in ("badnet", "valid", "test"))
        ):
            raise ValueError("not a manifest of ours")
        return cls(name, config, trials, digests, run_id, float(value.get("target_share", 0.0)))


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
    ``no_attack``: the BadNet's counts on validation when no attack was there to remove; then no
    state is proposed, and there are no points.
    """

    points: tuple[FrontierPoint, ...]
    hypervolume: float
    by_kind: Mapping[str, float] = field(default_factory=dict)
    no_attack: Counts | None = None

    def control_json(self) -> dict[str, Any]:
        """What the commands' JSON says besides when no attack was there to remove."""
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


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    data = json.dumps(manifest.to_json(), indent=1).encode()
    storage.write_bytes(f"sweeps/{manifest.name}.json", data)
    storage.write_bytes("sweeps/latest", manifest.name.encode())


def read_manifest(storage: Storage, name: str | None) -> Manifest:
    """The sweep of that name, with what its search has asked for since; without a name the one that
    ran last. Raises InputError."""
    if name is None:
        latest = storage.read_bytes("sweeps/latest")
        if latest is None:
            raise InputError(f"storage {storage.place!r} holds no sweep yet; run goodnet sweep first")
        name = latest.decode(errors="replace")
    data = storage.read_bytes(f"sweeps/{name}.json") if "/" not in name else None
    if data is None:
        known = [n.removesuffix(".json") for n in storage.names("sweeps") if n.endswith(".json")]
        raise InputError(
            f"storage {storage.place!r} holds no sweep {name!r}; it has {', '.join(known) or 'none'}"
        )
    try:
        manifest = Manifest.from_json(json.loads(data))
    except DAMAGE:
        raise InputError(f"sweep {name!r} in {storage.place!r}: its manifest is damaged") from None
    manifest.trials.update(Asked(storage, name).read())
    return manifest


def read_records(storage: Storage, keys: Iterable[str]) -> list[TrialRecord]:
    """The records that are there, in the order of ``keys``."""
    store = RecordStore(storage)
    return [r for r in (store.read(key) for key in keys) if r is not None]


def frontier_states(records: Sequence[TrialRecord]) -> list[State]:
    """Non-dominated states over all accepted steps of all trials, by falling validation accuracy.

    Of states equal on both axes one with no weights changed is kept, of such the one with fewest
    channels. The BadNet itself is no candidate: it is what is to be replaced.
    """
    states = sorted((s for r in records for s in r.states()), key=_plainest)
    return _not_dominated(states)


def hypervolumes(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Of the states of each group alone (``group_of``), on validation."""
    groups: dict[str, list[State]] = {}
    for record in records:
        groups.setdefault(group_of(record.settings), []).extend(record.states())
    return {
        group: hypervolume(
            np.array([s.counts.clean_accuracy for s in states]),
            np.array([s.counts.attack_success for s in states]),
        )
        for group, states in groups.items()
        if states
    }


def _plainest(state: State) -> tuple[bool, int]:
    return (state.weights is not None, len(state.mask))


def _not_dominated(states: Sequence[State]) -> list[State]:
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
) -> Frontier:
    """The frontier with test counts; ``test_counts`` is asked only for states that an earlier call
    has not measured. Kept as ``sweeps/<name>.frontier.parquet``."""
    file = f"sweeps/{name}.frontier.parquet"
    known = _known_test_counts(storage.read_bytes(file))
    for record in records:
        for state in record.states()[-1:]:
            if record.test is not None and state.mask == record.mask:  # the trial's final net
                known[_net_digest(state)] = record.test
    points = []
    badnet = next((r.badnet_valid for r in records if r.badnet_valid is not None), None)
    control = badnet is not None and not attack_is_there(badnet, target_share)
    for state in [] if control else frontier_states(records):
        test = known.get(_net_digest(state)) or test_counts(state)
        points.append(
            FrontierPoint(
                state.trial_key, state.step, state.mask, state.counts, test, state.settings, state.weights
            )
        )
    accuracy = np.array([p.valid.clean_accuracy for p in points])
    attack = np.array([p.valid.attack_success for p in points])
    by_kind = {} if control else hypervolumes(records)
    frontier = Frontier(tuple(points), hypervolume(accuracy, attack), by_kind, badnet if control else None)
    storage.write_bytes(file, parquet_bytes(frontier_table(frontier)))
    return frontier


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def frontier_table(frontier: Frontier) -> pa.Table:
    """One row a point: rates and counts of both splits, and the mask as JSON."""
    rows = []
    for point in frontier.points:
        row: dict[str, Any] = {
            "trial_key": point.trial_key,
            "step": point.step,
            "channels_pruned": point.channels_pruned,
            "mask": json.dumps(point.mask.to_json()),
            "mask_digest": point.mask.digest,
            "net_digest": _net_digest(point),
            **described(point.settings),
            "weights": point.weights,
        }
        for split, counts in (("valid", point.valid), ("test", point.test)):
            row |= {f"{split}_{k}": v for k, v in counts.to_json().items() if k[-8:] != "interval"}
            row[f"{split}_counts"] = json.dumps(counts.to_json())
        rows.append(row)
    return pa.Table.from_pylist(rows)


def _net_digest(net: State | FrontierPoint) -> str:
    """What a net is, given the BadNet: its mask, and its weights where they are changed."""
    return net.mask.digest + (f"+{net.weights}" if net.weights else "")


def _known_test_counts(data: bytes | None) -> dict[str, Counts]:
    if data is None:
        return {}
    try:
        rows = read_table(data).to_pylist()
        return {r["net_digest"]: Counts.from_json(json.loads(r["test_counts"])) for r in rows}
    except DAMAGE:
        return {}
