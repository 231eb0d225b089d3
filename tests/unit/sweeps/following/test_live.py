"""What a sweep leaves in its storage while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_frontier, make_record, make_settings
from factories import make_manifest as any_manifest

from sweeps.config.schema import make_config
from sweeps.following.follow import followed
from sweeps.following.live import Live
from sweeps.overview.standing import read_standing
from sweeps.records.trial_record import TrialRecord
from sweeps.results import known_frontier
from sweeps.storage.manifest import Manifest, page_path
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.sweep_result import SweepResult

RECORDS = [
    make_record("a", [(980, 250)]),
    make_record("b", [(985, 400), (950, 50)], make_settings(layers=["conv_3"])),
]


INPUTS: Any = SimpleNamespace(model=SimpleNamespace(layers=[]))


def unseen(files: Mapping[str, bytes]) -> None:
    """Nobody shows them."""


def make_manifest(records: list[TrialRecord]) -> Manifest:
    sweep = {"study": "none"}
    config = make_config({"name": "example", "badnet": "embedded", "sweep": sweep}, "a test")
    return replace(any_manifest(records), config=config)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Storage, Manifest]:
    storage = Storage(str(tmp_path))
    for record in RECORDS:
        RecordStore(storage).write(record)
    return storage, make_manifest(RECORDS)


def result(manifest: Manifest, **more: Any) -> SweepResult:
    return SweepResult(manifest, RECORDS, make_frontier(RECORDS), 0, **more)


@pytest.mark.parametrize(
    ("more", "state"),
    [({}, "finished"), ({"stopped": True}, "interrupted"), ({"ended_by": "b", "left": 3}, "interrupted")],
)
def test_its_end_is_written(place: tuple[Storage, Manifest], more: dict[str, Any], state: str) -> None:
    storage, manifest = place
    with followed(manifest, INPUTS, storage, unseen, pytest.fail) as followers:
        followers.planned(manifest, [], 2)
        assert read_standing(storage, manifest).state == "running"
        followers.ended(RECORDS[0])  # of the other one nobody hears: it ended while the sweep was stopped
        followers.finished(result(manifest, **more), INPUTS)
    standing = read_standing(storage, manifest)
    assert (standing.state, standing.done) == (state, 2)


def test_without_an_end_it_was_interrupted(place: tuple[Storage, Manifest]) -> None:
    storage, manifest = place
    with (
        pytest.raises(KeyboardInterrupt),
        followed(manifest, INPUTS, storage, unseen, pytest.fail) as followers,
    ):
        followers.planned(manifest, [], 2)
        raise KeyboardInterrupt
    assert read_standing(storage, manifest).state == "interrupted"


def test_a_storage_that_is_away_stops_nobody(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "runs")).begin()
    manifest = make_manifest(RECORDS)
    for file in (tmp_path / "runs").rglob("*"):
        file.unlink()
    (tmp_path / "runs").rmdir()
    with followed(manifest, INPUTS, storage, unseen, pytest.fail) as followers:
        followers.planned(manifest, [], 2)
        followers.ended(RECORDS[0])
    assert not (tmp_path / "runs").exists()


def test_the_page_so_far(place: tuple[Storage, Manifest]) -> None:
    pytest.importorskip("plotly")
    storage, manifest = place
    given: list[Mapping[str, bytes]] = []
    live = Live(manifest, storage, given.append)
    live.course.planned(manifest, RECORDS[:1], 5)
    live.draw()
    page = storage.read_bytes(page_path(manifest.name))
    assert page is not None and b"is running: 1 of 5 trials are over" in page
    assert given == [{"frontier.html": page}]


def test_the_frontier_so_far_has_only_what_is_tested_and_the_whole_hypervolume(
    place: tuple[Storage, Manifest],
) -> None:
    storage, manifest = place
    frontier = known_frontier(storage, manifest.name, RECORDS)
    assert [(p.trial_key, p.step) for p in frontier.points] == [
        ("a", 1),
        ("b", 2),
    ]  # not b's first: no final net
    assert frontier.points[0].test == RECORDS[0].test
    area = 0.985 * (1 - 400 / 500) + 0.98 * (400 - 250) / 500 + 0.95 * (250 - 50) / 500
    assert frontier.hypervolume == pytest.approx(area)


def test_a_page_is_drawn_again_only_where_there_is_more(place: tuple[Storage, Manifest]) -> None:
    pytest.importorskip("plotly")
    storage, manifest = place
    for drawn in (True, False):
        storage.write_bytes(page_path(manifest.name), b"before")
        with followed(manifest, INPUTS, storage, unseen, pytest.fail) as followers:
            followers.planned(manifest, [] if drawn else RECORDS, 2)
            if drawn:
                followers.ended(RECORDS[0])
            followers.finished(result(manifest), INPUTS)
        assert (storage.read_bytes(page_path(manifest.name)) != b"before") == drawn
