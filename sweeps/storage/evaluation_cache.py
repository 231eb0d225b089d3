"""Answers of evaluators, shared by all workers of all sweeps and kept from run to run.

They are addressed by content: a folder for each BadNet and split, ``evaluations/<digest>/``, a row
for each channel mask. Each worker adds files of its own, so nothing is ever written by two. It is
a cache: without it everything is worked out again, to the same records.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prune_core import ALGORITHM_VERSION
from prune_core.counts import Counts, TriggerCounts
from prune_core.evaluation.cached import Known
from prune_core.masks import ChannelMask
from sweeps.limits import DAMAGE, read_table
from sweeps.storage.storage import Storage

SECONDS = 5.0  # between two looks at the storage while a trial runs
_BOUNDS = ("clean_below", "attacked_from", "attacked_below", "agreeing_from", "agreeing_below")
_COUNTS = (
    "clean_correct",
    "clean_total",
    "attacked",
    "attacked_agreeing",
    "poisoned_total",
    "recovered",
)
_SCHEMA = pa.schema(
    [
        ("mask", pa.binary(32)),
        *((name, pa.int64()) for name in (*_BOUNDS, *_COUNTS)),
        ("margin", pa.float64()),
        ("triggers", pa.string()),  # JSON: the counts of each trigger, where there are several
    ]
)


class EvaluationCache:
    """What is known of one BadNet on one split; a ``prune_core.evaluation.cached.Memory``."""

    def __init__(self, badnet: str, split: str, storage: Storage | None = None) -> None:
        """Digests of both. Without a storage, what is known ends with the process."""
        text = f"{badnet} {split} {ALGORITHM_VERSION}"
        self.folder = f"evaluations/{hashlib.sha256(text.encode()).hexdigest()[:20]}"
        self.storage = storage
        self._known: dict[bytes, Known] = {}
        self._new: set[bytes] = set()
        self._seen: set[str] = set()
        self._looked = time.monotonic()

    def get(self, mask: ChannelMask) -> Known | None:
        return self._known.get(_key(mask))

    def put(self, mask: ChannelMask, known: Known) -> None:
        key = _key(mask)
        self._known[key] = known
        self._new.add(key)
        if time.monotonic() - self._looked > SECONDS:
            self.exchange()

    def exchange(self) -> None:
        """Write what is new here, read what is new there. A storage that does not answer now is
        asked again later."""
        if self.storage is None:
            return
        try:
            if self._new:
                name = f"{uuid.uuid4().hex}.parquet"
                self.storage.write_bytes(f"{self.folder}/{name}", self._table(self._new))
                self._new.clear()
                self._seen.add(name)
            for name in self.storage.names(self.folder):
                if name not in self._seen:
                    self._read(name)
        except (OSError, pa.ArrowException):
            pass
        self._looked = time.monotonic()

    def tidy(self) -> None:
        """One file instead of many."""
        self.exchange()
        if self.storage is None or len(self._seen) < 2 or self._new:
            return
        try:
            name = f"{uuid.uuid4().hex}.parquet"
            self.storage.write_bytes(f"{self.folder}/{name}", self._table(self._known))
            for old in self._seen:
                self.storage.delete(f"{self.folder}/{old}")
            self._seen = {name}
        except (OSError, pa.ArrowException):
            pass

    def _table(self, keys: set[bytes] | dict[bytes, Known]) -> bytes:
        rows = []
        for key in keys:
            known = self._known[key]
            bounds = {name: getattr(known, name) for name in _BOUNDS}
            counts = {} if known.counts is None else asdict(known.counts)
            triggers = counts.pop("triggers", ())
            told = {"triggers": json.dumps(triggers)} if triggers else {}
            rows.append({"mask": key, **bounds, **counts, **told})
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
        return sink.getvalue().to_pybytes()

    def _read(self, name: str) -> None:
        """A file that is gone or damaged has nothing to tell."""
        self._seen.add(name)
        data = self.storage.read_bytes(f"{self.folder}/{name}") if self.storage else None
        if data is None:
            return
        try:
            rows = read_table(data, _SCHEMA).to_pylist()
        except DAMAGE:
            return
        for row in rows:
            found = Known(**{name: row[name] for name in _BOUNDS})
            if row["clean_correct"] is not None:
                try:
                    found = replace(found, counts=_counts(row))
                except DAMAGE:
                    continue
            self._known[row["mask"]] = _joined(self._known.get(row["mask"]), found)


def _counts(row: dict[str, Any]) -> Counts:
    counts = Counts(**{name: row[name] for name in _COUNTS}, margin=row["margin"])
    if row["triggers"] is None:
        return counts
    triggers = tuple(TriggerCounts(**one) for one in json.loads(row["triggers"]))
    return replace(counts, triggers=triggers).checked()


def _joined(a: Known | None, b: Known) -> Known:
    """The one that tells more."""

    def worth(known: Known) -> tuple[bool, bool]:
        return known.counts is not None and known.counts.margin is not None, known.counts is not None

    return b if a is None or worth(b) > worth(a) else a


def _key(mask: ChannelMask) -> bytes:
    return bytes.fromhex((mask if mask.channels else ChannelMask()).digest)
