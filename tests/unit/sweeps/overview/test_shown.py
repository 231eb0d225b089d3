"""What is shown of a sweep that has ended is kept, and only as long as it is true."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import make_manifest, make_record

from prune_core.counts import Counts
from sweeps.cli import show
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
    kept = kept_shown(storage, manifest, pytest.fail)
    assert kept is not None and shown_frontier(None, storage.place) == kept
    assert kept == json.loads(json.dumps(plain))


def test_a_record_more_or_another_one_and_it_is_worked_out_again(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    keep(storage, manifest)
    RecordStore(storage).write(make_record("c", [(990, 10)]))
    assert kept_shown(storage, manifest, pytest.fail) is None
    assert shown_frontier(None, storage.place)["trials"]["done"] == 3
    keep(storage, manifest)
    assert kept_shown(storage, manifest, pytest.fail) is not None
    os.utime(storage.full("trials/a.parquet"), ns=(0, 1))
    assert kept_shown(storage, manifest, pytest.fail) is None
    keep(storage, manifest)
    storage.delete("trials/a.parquet")
    assert kept_shown(storage, manifest, pytest.fail) is None
    keep(storage, manifest)
    assert kept_shown(storage, replace(manifest, target_share=0.1), pytest.fail) is None


PATH = "sweeps/sweep-1.shown"


def whole(storage: Storage) -> dict[str, Any]:
    there = storage.read_bytes(PATH)
    assert there is not None
    value: dict[str, Any] = json.loads(json.loads(there)[2])
    return value


@pytest.mark.parametrize("data", [b"", b"{", b"[1, 2]", b'["a", "b", "{}"]', b"\xff", b"[" * 10**5])
def test_a_damaged_one_is_not_read_and_a_line_says_so(swept: tuple[Storage, Manifest], data: bytes) -> None:
    storage, manifest = swept
    keep(storage, manifest)
    there = storage.read_bytes(PATH)
    assert there is not None
    for damaged in (data, there.replace(b"hypervolume", b"hyperv0lume"), there[:-9]):
        storage.write_bytes(PATH, damaged)
        lines: list[str] = []
        assert kept_shown(storage, manifest, lines.append) is None
        assert len(lines) == 1 and PATH in lines[0] and "damaged" in lines[0]


def test_nor_is_one_in_whose_place_a_folder_is(swept: tuple[Storage, Manifest]) -> None:
    storage, _ = swept
    Path(storage.full(PATH)).mkdir()
    lines: list[str] = []
    assert shown_frontier(None, storage.place, tell=lines.append)["trials"]["done"] == 2
    assert len(lines) == 1


HOSTILE = [None, [], {}, "x", -1, 1.5, True, float("nan"), float("inf"), 10**30, [[]], {"a": {}}]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, more in inner:
        yield (*at, key)
        yield from places(more, (*at, key))


def test_whatever_stands_in_it_is_shown_or_passed_over(swept: tuple[Storage, Manifest]) -> None:
    """Written and signed by somebody else: each value in turn replaced by others, and taken out."""
    storage, manifest = swept
    keep(storage, manifest)
    good, told = whole(storage), stamp(storage, manifest)
    plain, refused = show.frontier(good), 0
    for path in places(good):
        for new in [*HOSTILE, "taken out"]:
            bad = copy.deepcopy(good)
            inner = bad
            for key in path[:-1]:
                inner = inner[key]
            if new != "taken out":
                inner[path[-1]] = new
            elif isinstance(inner, dict):
                del inner[path[-1]]
            keep_shown(storage, manifest, told, bad)
            lines: list[str] = []
            kept = kept_shown(storage, manifest, lines.append)
            assert (kept is None) == bool(lines)
            if kept is None:
                refused += 1
            else:
                show.frontier(kept), json.dumps(kept, allow_nan=False)
    assert refused > 500
    assert show.frontier(shown_frontier(None, storage.place)) == plain
