"""What is shown of a sweep that has ended is kept, and only as long as it is true."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_manifest, make_record

from prune_core.counts import Counts
from sweeps.looking import shown_frontier
from sweeps.overview.shown import keep_shown, kept_shown, shown, stamp
from sweeps.records.trial_record import State
from sweeps.results import measured_frontier
from sweeps.storage.manifest import Manifest, read_records, write_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

RECORDS = [make_record("a", [(980, 250)]), make_record("b", [(950, 50)])]


@pytest.fixture
def swept(tmp_path: Path) -> tuple[Storage, Manifest]:
    storage, manifest = Storage(str(tmp_path)), make_manifest([*RECORDS, make_record("c", [(990, 10)])])
    write_manifest(storage, manifest)
    for record in RECORDS:
        RecordStore(storage).write(record)
    return storage, manifest


def keep(storage: Storage, manifest: Manifest) -> None:
    """As a sweep does at its end."""
    made_of = stamp(storage, manifest)
    records = read_records(storage, manifest.trials)
    found = measured_frontier(storage, manifest.name, records, unasked, keep=False)
    keep_shown(storage, manifest, made_of, shown(manifest, records, found))


def unasked(state: State) -> Counts:
    raise AssertionError("all of these are final networks, counted on test")


def test_it_is_what_the_records_say(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    plain = shown_frontier(None, storage.place)
    keep(storage, manifest)
    kept = kept_shown(storage, manifest)
    assert kept is not None and shown_frontier(None, storage.place) == kept
    assert kept == json.loads(json.dumps(plain))


def test_a_record_more_or_another_one_and_it_is_worked_out_again(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    keep(storage, manifest)
    RecordStore(storage).write(make_record("c", [(990, 10)]))
    assert kept_shown(storage, manifest) is None
    assert shown_frontier(None, storage.place)["trials"]["done"] == 3
    keep(storage, manifest)
    assert kept_shown(storage, manifest) is not None
    os.utime(storage.full("trials/a.parquet"), ns=(0, 1))
    assert kept_shown(storage, manifest) is None
    keep(storage, manifest)
    storage.delete("trials/a.parquet")
    assert kept_shown(storage, manifest) is None
    keep(storage, manifest)
    assert kept_shown(storage, replace(manifest, target_share=0.1)) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[1, 2]", b'["a", "b", "{}"]'])
def test_a_damaged_one_is_not_read(swept: tuple[Storage, Manifest], data: bytes) -> None:
    storage, manifest = swept
    keep(storage, manifest)
    there = storage.read_bytes("sweeps/sweep-1.shown")
    assert there is not None
    for damaged in (data, there.replace(b"hypervolume", b"hyperv0lume"), there[:-9]):
        storage.write_bytes("sweeps/sweep-1.shown", damaged)
        assert kept_shown(storage, manifest) is None
    whole = json.loads(json.loads(there)[2])
    for other in ([], {}, {"sweep": "sweep-1", "points": []}, {**whole, "sweep": "b"}):
        keep_shown(storage, manifest, stamp(storage, manifest), other)  # type: ignore[arg-type]
        assert kept_shown(storage, manifest) is None
