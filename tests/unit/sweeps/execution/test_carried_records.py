"""Where the storage is reached by network, a record comes to the driver from its worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_record

pytest.importorskip("ray")

from sweeps.events import SweepEvents
from sweeps.execution import ray_executor
from sweeps.execution.ray_executor import _carried, _Relay
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.record_store import RecordStore, packed
from sweeps.storage.storage import Storage

RECORD = make_record("a" * 20, [(980, 250), None, (950, 50)])
FOLDER: Any = SimpleNamespace(local=Path("/runs"))
NOBODY: Any = SimpleNamespace(ended=lambda record: None)
BUCKET: Any = SimpleNamespace(local=None)


class Told(SweepEvents):
    def __init__(self) -> None:
        self.records: list[TrialRecord] = []

    def ended(self, record: TrialRecord) -> None:
        self.records.append(record)


def test_a_folder_is_read_by_the_driver_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _carried(RECORD, FOLDER) == {}
    assert _carried(RECORD, BUCKET) == {"record": packed(RECORD)}
    monkeypatch.setattr(ray_executor, "MOST_CARRIED", 100)
    assert _carried(RECORD, BUCKET) == {}


@pytest.mark.parametrize("carried", [packed(RECORD), b"damaged", packed(make_record("b" * 20)), None])
def test_what_was_carried_is_told_and_else_what_the_storage_has(
    carried: bytes | None, tmp_path: Path
) -> None:
    store, told = RecordStore(Storage(str(tmp_path))), Told()
    inputs: Any = SimpleNamespace(key=lambda settings: RECORD.key)
    relay = _Relay(told, inputs, store, NOBODY, NOBODY)
    result = {} if carried is None else {"record": carried}
    trial: Any = SimpleNamespace(
        trial_id="1", last_result=result, config={"settings": RECORD.settings.to_json()}
    )
    if carried != packed(RECORD):
        store.write(RECORD)
    relay.on_trial_complete(1, [], trial)
    assert told.records == [RECORD] and result == {}
