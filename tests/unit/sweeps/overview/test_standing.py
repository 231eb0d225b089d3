"""How a sweep stands: as its driver has written it, and from the records alone."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from factories import make_manifest, make_record

from sweeps.overview.listing import sweeps_of
from sweeps.overview.standing import (
    Standing,
    alone,
    read_standing,
    span,
    standing_of,
    words,
    write_standing,
)
from sweeps.storage.manifest import Manifest, write_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

RUNNING = Standing("sweep-1", "running", 0.0, 3, 1, running=2, seconds_left=90.0)


@pytest.fixture
def swept(tmp_path: Path) -> tuple[Storage, Manifest]:
    """Three trials are planned; one is done, one has failed."""
    storage = Storage(str(tmp_path))
    records = [make_record("a", [(980, 250)]), make_record("b", reason="no pairs"), make_record("c")]
    manifest = make_manifest(records)
    write_manifest(storage, manifest)
    for record in records[:2]:
        RecordStore(storage).write(record)
    return storage, manifest


def test_what_the_driver_has_written_is_read(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    told = replace(RUNNING, date=time.time()).signed()
    write_standing(storage, told)
    assert read_standing(storage, manifest) == told


def test_a_driver_that_is_silent_has_gone(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    write_standing(storage, replace(RUNNING, date=time.time() - 1000))
    standing = read_standing(storage, manifest)
    assert (standing.state, standing.done, standing.failed, standing.running) == ("interrupted", 1, 1, 0)
    assert standing.hypervolume == pytest.approx(0.98 * 0.5)


def test_a_driver_that_is_not_on_its_machine_any_more_has_gone_sooner() -> None:
    mine = replace(RUNNING, host=platform.node(), pid=os.getpid())
    assert mine.alive(30.0) and not replace(mine, pid=2**22 + 1).alive(30.0)
    assert replace(mine, host="another", pid=2**22 + 1).alive(30.0)
    assert replace(mine, pid=2**22 + 1).alive(10.0)


WHOLE = """{"sweep": "sweep-1", "state": "finished", "date": 1.0, "total": 9, "done": 9, "best": []}"""


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        '{"sweep": "sweep-1", "state": "running"}',
        '{"sweep": 3}',
        WHOLE.replace("1.0", "1e300"),
        WHOLE.replace("1.0", "NaN"),
        WHOLE.replace("[]", '[{"x": 4.0}]'),
        WHOLE.replace("[]", '[{"x": NaN, "trial_key": null}]'),
    ],
)
def test_a_damaged_one_is_worked_out_from_the_records(swept: tuple[Storage, Manifest], data: str) -> None:
    storage, manifest = swept
    storage.write_bytes("sweeps/sweep-1.now", WHOLE.encode())
    assert read_standing(storage, manifest).done == 9
    storage.write_bytes("sweeps/sweep-1.now", data.encode())
    assert read_standing(storage, manifest).done == 1


def test_of_another_sweep_it_is_not_believed(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    write_standing(storage, replace(RUNNING, date=time.time()))
    storage.write_bytes("sweeps/other.now", storage.read_bytes("sweeps/sweep-1.now") or b"")
    assert read_standing(storage, replace(manifest, name="other")).state == "interrupted"


def test_two_drivers_of_a_sweep_each_know_a_part(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    now = time.time()
    first = replace(RUNNING, date=now, done=1, running=2, seconds_left=90.0, host="one", pid=1)
    second = replace(first, done=0, running=1, seconds_left=70.0, host="two", hypervolume=0.1)
    for standing in (first, second, replace(first, date=now + 1)):
        write_standing(storage, standing)
    told = read_standing(storage, manifest)  # neither of the two knows of both records
    assert (told.state, told.total, told.done, told.failed, told.running) == ("running", 3, 1, 1, 3)
    assert told.seconds_left == 70.0 and told.hypervolume == pytest.approx(0.98 * 0.5)
    write_standing(storage, replace(first, state="interrupted", date=now + 2))
    told = read_standing(storage, manifest)  # the other one goes on
    assert (told.state, told.done, told.failed, told.running) == ("running", 1, 1, 1)
    write_standing(storage, replace(second, state="finished", date=now + 3, done=2))
    assert read_standing(storage, manifest) == replace(second, state="finished", date=now + 3, done=2)


def test_the_next_driver_is_alone_again(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    first = replace(RUNNING, date=time.time(), host="one", pid=1)
    gone = replace(first, host="two", date=time.time() - 1000)
    write_standing(storage, first)
    storage.write_bytes("sweeps/sweep-1.2.now", json.dumps(asdict(gone)).encode())
    alone(storage, "sweep-1")
    write_standing(storage, replace(first, done=2))
    assert read_standing(storage, manifest) == replace(first, done=2)
    assert [name for name in storage.names("sweeps") if name.endswith(".now")] == ["sweep-1.now"]


def test_all_records_are_a_finished_sweep(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    assert standing_of(storage, manifest).state == "interrupted"
    RecordStore(storage).write(make_record("c"))
    assert standing_of(storage, manifest).state == "finished"


def test_a_storage_is_listed_also_where_it_cannot_be_written(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    write_manifest(storage, replace(manifest, name="sweep-2"))
    write_standing(storage, replace(RUNNING, sweep="sweep-2", state="finished", date=time.time() + 5))
    storage.write_bytes("sweeps/broken.json", b"{")
    before = {path: path.read_bytes() for path in Path(storage.root).rglob("*") if path.is_file()}
    found = sweeps_of(storage)
    assert [(s["sweep"], s["state"]) for s in found] == [
        ("sweep-2", "finished"),
        ("sweep-1", "interrupted"),
        ("broken", "damaged"),
    ]
    assert found[1]["trials"] == {"total": 3, "done": 1, "failed": 1, "stopped": 0, "running": 0}
    assert {path: path.read_bytes() for path in Path(storage.root).rglob("*") if path.is_file()} == before


def test_no_sweep_yet(tmp_path: Path) -> None:
    assert sweeps_of(Storage(str(tmp_path))) == []


def test_in_words() -> None:
    best = [
        {"x": 2.0, "clean_accuracy": 0.97, "attack_success": 0.034, "trial_key": "a"},
        {"x": 0.5, "clean_accuracy": None, "attack_success": None, "trial_key": None},
    ]
    said = words(replace(RUNNING, best=best, hypervolume=0.9, failed=1).to_json())
    assert said == ("2 of 3 trials, 1 failed, hypervolume 0.9000, X 2: 97.00%/3.40%, 2 running, 2 min left")


@pytest.mark.parametrize(("seconds", "said"), [(44.6, "45 s"), (125, "2 min"), (12000, "3 h 20 min")])
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize("bound, states", [(0.5, "1 state"), (0.4, "0 states")])
def test_states_within_the_constraint_are_told(
    swept: tuple[Storage, Manifest], bound: float, states: str
) -> None:
    storage, manifest = swept
    sweep = manifest.config.sweep.model_copy(update={"constraint": (f"attack_success <= {bound}",)})
    constrained = replace(manifest, config=manifest.config.model_copy(update={"sweep": sweep}))
    assert "constraint" not in words(standing_of(storage, manifest).to_json())
    assert f"within the constraint: {states}" in words(standing_of(storage, constrained).to_json())


def test_stopped_trials_are_told(swept: tuple[Storage, Manifest]) -> None:
    storage, manifest = swept
    record = replace(make_record("c"), status="stopped", reason="asha: behind")
    RecordStore(storage).write(record)
    assert RecordStore(storage).read("c") == record
    standing = standing_of(storage, manifest)
    assert (standing.state, standing.done, standing.failed, standing.stopped) == ("finished", 1, 1, 1)
    assert words(standing.to_json()).startswith("3 of 3 trials, 1 failed, 1 stopped")
