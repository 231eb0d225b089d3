"""What the fuzz suite found in records and manifests: each ended in a traceback once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import factories
import pytest

from prune_core.errors import InputError
from sweeps.storage.manifest import read_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"order": 3}},
        {"settings": {"x": "2"}},
        {"settings": {"x": None}},
        {"settings": {"layers": [["c2"]]}},
        {"settings": {"repair": ["none"]}},
        {"settings": {"more": 1}},
        {"key": "../a"},
        {"key": "b"},
        {"seconds": "long"},
        {"status": "odd"},
        {"reason": {}},
        {"badnet_valid": {"clean_total": 0}},
        {"valid": {"clean_correct": 10**9}},
        {"valid": {"attacked": "1"}},
        {"valid": {"margin": []}},
    ],
    ids=str,
)
def test_records(tmp_path: Path, change: dict[str, Any]) -> None:
    """Fields of other types are damage like any other: the trial runs again."""
    import pyarrow.parquet as pq

    storage = Storage(str(tmp_path))
    store, record = RecordStore(storage), factories.make_record("a")
    store.write(record)
    assert store.read("a") == record
    path = tmp_path / "trials" / "a.parquet"
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"goodnet"])
    for key, value in change.items():
        header[key] = {**header[key], **value} if isinstance(header[key], dict) else value
    pq.write_table(table.replace_schema_metadata({b"goodnet": json.dumps(header).encode()}), path)
    assert store.read("a") is None


@pytest.mark.parametrize(
    "change",
    [
        {"digests": []},
        {"digests": {"badnet": "a"}},
        {"name": 3},
        {"name": "../../s"},
        {"name": "<b>"},
        {"mlflow_run_id": []},
        {"trials": {"a": {"order": 1}}},
        {"trials": {"../a": factories.make_settings().to_json()}},
    ],
    ids=str,
)
def test_manifests(tmp_path: Path, change: dict[str, Any]) -> None:
    storage = Storage(str(tmp_path))
    made = factories.make_manifest([factories.make_record("a")]).to_json()
    storage.write_bytes("sweeps/s.json", json.dumps(made).encode())
    assert read_manifest(storage, "s").digests == made["digests"]
    storage.write_bytes("sweeps/s.json", json.dumps({**made, **change}).encode())
    with pytest.raises(InputError, match="sweep 's' in .*: its manifest is damaged"):
        read_manifest(storage, "s")


def test_a_record_of_millions_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kB of Parquet can hold as many equal rows; they are not even unpacked."""
    storage = Storage(str(tmp_path))
    store, record = RecordStore(storage), factories.make_record("a")
    assert len(record.steps) > 1
    store.write(record)
    monkeypatch.setattr("sweeps.storage.record_store.MAX_STEPS", len(record.steps))
    assert store.read("a") == record
    monkeypatch.setattr("sweeps.storage.record_store.MAX_STEPS", len(record.steps) - 1)
    assert store.read("a") is None
