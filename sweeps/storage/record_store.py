"""Records in the storage: one Parquet part a trial."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prune_core.counts import Counts, TriggerCounts
from prune_core.errors import InputError
from prune_core.files.constants import Weights, from_safetensors, to_safetensors, weights_digest
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.leaps import Leap
from sweeps.limits import DAMAGE, read_table
from sweeps.progress import Tell
from sweeps.records.trial_record import Status, TrialRecord
from sweeps.records.trial_report import TrialReport
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage


def finished(
    key: str, store: RecordStore, tell: Tell, over: tuple[Status, ...] = ("done",)
) -> TrialRecord | None:
    """The record of a trial that is done, or of another status in ``over``."""
    record = patiently(lambda: store.read(key), store.storage.place, tell)
    return record if record is not None and record.status in over else None


def keep(record: TrialRecord, store: RecordStore, tell: Tell) -> TrialRecord:
    """Store the record, unless the trial is done already; the record that counts. A failure does not take the
    place of a record that has states, of a trial that was stopped before."""
    there = finished(record.key, store, tell)
    if there is None and record.status == "failed":
        before = patiently(lambda: store.read(record.key), store.storage.place, tell)
        if before is not None and before.status == "stopped":
            tell(f"{record.settings}: went on after it was stopped, and failed ({record.reason})")
            there = before
    if there is None:
        patiently(lambda: store.write(record), store.storage.place, tell)
    return there or record


SCHEMA_VERSION = 1


MAX_STEPS = 200_000  # of a trial; candidates of the largest networks are some ten thousand


_HEADER = b"goodnet"


_COUNTS = {
    "clean_correct": pa.int64(),
    "attacked": pa.int64(),
    "attacked_agreeing": pa.int64(),
    "margin": pa.float64(),
    "recovered": pa.int64(),
    "complete": pa.bool_(),
}


# On how many images each question was asked, where some were asked on a part of them.
_TOTALS = {"tried_clean_total": pa.int64(), "tried_poisoned_total": pa.int64()}


# The channels that went, or came back, together with a step's own, where several go at a time.
_ALONG = pa.list_(pa.struct([("layer", pa.string()), ("channel", pa.int32())]))


# Of each trigger, where there are several; a file without these columns knows one.
_BY_TRIGGER = pa.list_(
    pa.struct(
        [
            ("attacked", pa.int64()),
            ("attacked_agreeing", pa.int64()),
            ("poisoned_total", pa.int64()),
            ("margin", pa.float64()),
            ("recovered", pa.int64()),
        ]
    )
)
_SIDES = ("tried", "now")
_COLUMNS = {side: [f"{side}_{name}" for name in _COUNTS] for side in _SIDES}


_SCHEMA = pa.schema(
    [
        ("trial_key", pa.string()),
        ("step", pa.int32()),
        ("layer", pa.string()),
        ("channel", pa.int32()),
        ("accepted", pa.bool_()),
        ("returned_layer", pa.string()),
        ("returned_channel", pa.int32()),
    ]
    + [(f"{side}_{name}", kind) for side in _SIDES for name, kind in _COUNTS.items()]
)


class RecordStore:
    """The records of a storage: ``trials/<key>.parquet``, shared by all its sweeps."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def path(self, key: str) -> str:
        return f"trials/{key}.parquet"

    def write(self, record: TrialRecord) -> None:
        """Atomic: a reader sees the whole record, its weights included, or none."""
        weights = {
            f"{net.step}/{name}": array for net in record.nets for name, array in (net.weights or {}).items()
        }
        if weights:
            self.storage.write_bytes(self.weights_path(record.key), to_safetensors(weights))
        self.storage.write_bytes(self.path(record.key), packed(record))

    def weights_path(self, key: str) -> str:
        return f"weights/{key}.safetensors"

    def weights(self, trial_key: str, digest: str | None) -> Weights:
        """The changed weights of a trial's state, by their digest; none without one (a pruned net). Raises
        InputError when the file is not there or is not the one that the record tells of."""
        if digest is None:
            return {}
        name = self.weights_path(trial_key)
        data = self.storage.read_bytes(name)
        place = self.storage.full(name)
        again = f"delete {self.storage.full(self.path(trial_key))} and sweep again"
        if data is None:
            raise InputError(f"{place}: no such file, so the trial's weights are lost; {again}")
        nets: dict[str, Weights] = {}
        for key, array in from_safetensors(data, place).items():
            net, _, tensor = key.partition("/")
            nets.setdefault(net, {})[tensor] = array  # type: ignore[index]
        found = next((weights for weights in nets.values() if weights_digest(weights) == digest), None)
        if found is None:
            raise InputError(
                f"{place}: not the weights that the trial made (their digest differs); put the file "
                f"back, or {again}"
            )
        return found

    def read(self, key: str) -> TrialRecord | None:
        """None when there is no such record, or it is not one of ours (damaged, older schema, of
        another trial)."""
        data = self.storage.read_bytes(self.path(key))
        return None if data is None else unpacked(key, data)


def packed(record: TrialRecord) -> bytes:
    """A Parquet file; the weights are not in it."""
    sink = pa.BufferOutputStream()
    pq.write_table(_to_table(record), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unpacked(key: str, data: bytes) -> TrialRecord | None:
    """None as of ``RecordStore.read``."""
    try:
        record = _from_table(read_table(data, rows=MAX_STEPS))
    except DAMAGE:  # an InputError of the mask is a ValueError
        return None
    return record if record.key == key else None


def _to_table(record: TrialRecord) -> pa.Table:
    head = {"schema": SCHEMA_VERSION, **TrialReport.of(record).record_json()}
    rows: list[dict[str, Any]] = []
    for number, step in enumerate(record.steps):
        row: dict[str, Any] = {
            "trial_key": record.key,
            "step": number,
            "layer": step.channel.layer,
            "channel": step.channel.index,
            "accepted": step.accepted,
            "returned_layer": step.returned and step.returned.layer,
            "returned_channel": step.returned and step.returned.index,
        }
        for side, counts in (("tried", step.tried), ("now", step.now)):
            row.update({f"{side}_{name}": getattr(counts, name) for name in _COUNTS})
            row[f"{side}_triggers"] = [asdict(one) for one in counts.triggers]
        if isinstance(step, Leap):
            row["along"] = [{"layer": c.layer, "channel": c.index} for c in step.along]
        row["tried_clean_total"] = step.tried.clean_total
        row["tried_poisoned_total"] = step.tried.in_all.poisoned_total
        rows.append(row)
    schema = _SCHEMA
    if record.settings.rank_images is not None:
        for name, kind in _TOTALS.items():
            schema = schema.append(pa.field(name, kind))
    if any("along" in row for row in rows):
        schema = schema.append(pa.field("along", _ALONG))
    if record.badnet_valid is not None and record.badnet_valid.triggers:
        for side in _SIDES:
            schema = schema.append(pa.field(f"{side}_triggers", _BY_TRIGGER))
    table = pa.Table.from_pylist(rows, schema=schema)
    return table.replace_schema_metadata({_HEADER: json.dumps(head).encode()})


def _from_table(table: pa.Table) -> TrialRecord:
    head = json.loads(table.schema.metadata[_HEADER])
    if head["schema"] != SCHEMA_VERSION:
        raise ValueError("another schema")
    record = TrialReport.read(head)
    badnet = record.badnet_valid
    rows = table.to_pylist()
    if rows and badnet is None:
        raise ValueError("steps without counts of the BadNet")
    steps: list[PruneStep] = []
    mask = ChannelMask(keep_bias=record.mask.keep_bias)
    for row in rows:
        assert badnet is not None
        channel = Channel(row["layer"], row["channel"])
        back = row.get("returned_layer")
        returned = None if back is None else Channel(back, row["returned_channel"])
        tried, now = _counts_of(row, "tried", badnet), _counts_of(row, "now", badnet)
        step = PruneStep(channel, row["accepted"], tried, mask, now, returned)
        if row.get("along") is not None:
            along = tuple(Channel(one["layer"], one["channel"]) for one in row["along"])
            step = Leap(channel, row["accepted"], tried, mask, now, returned, along)
        if row["accepted"]:
            mask = step.after(mask)
        steps.append(replace(step, mask=mask))
    return replace(record, steps=tuple(steps))


def _counts_of(row: dict[str, Any], side: str, badnet: Counts) -> Counts:
    """The counts of a step. Of several triggers a refusal's bounds are over all their images."""
    each = [TriggerCounts(**one) for one in row.get(f"{side}_triggers") or ()]
    clean = row.get(f"{side}_clean_total", badnet.clean_total)
    if each:
        numbers = {name: row[f"{side}_{name}"] for name in _COUNTS}
        return replace(Counts.of(numbers["clean_correct"], clean, each), **numbers).checked()
    correct, attacked, agreeing, margin, recovered, complete = (row[name] for name in _COLUMNS[side])
    total = row.get(f"{side}_poisoned_total", badnet.poisoned_total)
    if badnet.triggers and f"{side}_poisoned_total" not in row:
        total = badnet.in_all.poisoned_total
    return Counts(correct, clean, attacked, agreeing, total, margin, recovered, complete).checked()
