"""Where and when a trial ran: kept in its record, no part of what it is; older records have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import factories
import pyarrow.parquet as pq
import pytest

from sweeps.records.ran import Ran
from sweeps.records.trial_report import TrialReport
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

RAN = Ran("node-1/4711", 1_700_000_000.5, 120, 45)


def test_it_is_kept_and_does_not_count(tmp_path: Path) -> None:
    store, plain = RecordStore(Storage(str(tmp_path))), factories.make_record("a")
    assert replace(plain, ran=RAN) == plain
    store.write(replace(plain, ran=RAN))
    again = store.read("a")
    assert again == plain and again is not None and again.ran == RAN
    store.write(plain)  # as version 0.1 writes them
    again = store.read("a")
    assert again is not None and again.ran is None
    assert "ran" not in TrialReport.of(plain).record_json()


@pytest.mark.parametrize(
    "change",
    [
        {"worker": 3},
        {"worker": "x" * 301},
        {"started": "now"},
        {"started": 1e300},
        {"asked": -1},
        {"more": 1},
    ],
    ids=str,
)
def test_of_another_form_it_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    store = RecordStore(Storage(str(tmp_path)))
    store.write(replace(factories.make_record("a"), ran=RAN))
    path = tmp_path / "trials" / "a.parquet"
    table = pq.read_table(path)
    head = json.loads(table.schema.metadata[b"goodnet"])
    head["ran"] |= change
    pq.write_table(table.replace_schema_metadata({b"goodnet": json.dumps(head).encode()}), path)
    assert store.read("a") is None
