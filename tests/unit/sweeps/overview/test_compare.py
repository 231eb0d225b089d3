"""Sweeps side by side."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_frontier, make_manifest, make_record, make_settings

from prune_core.errors import InputError
from sweeps.cli.tables import frontiers
from sweeps.looking import compared_frontiers, shown_frontier
from sweeps.overview.compare import check_comparable, joint
from sweeps.storage.manifest import write_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

# A state each: what is counted on test is the trial's final network.
A = [make_record("a", [(980, 250)]), make_record("late", [(950, 50)]), make_record("both", [(985, 400)])]
B = [make_record("b", [(960, 50)], make_settings("l1")), A[2]]


def test_one_frontier_over_both() -> None:
    points = joint({"a": make_frontier(A).points, "b": make_frontier(B).points})
    assert [(p.trial_key, p.step) for p in points] == [("both", 1), ("a", 1), ("b", 1)]


@pytest.mark.parametrize(("part", "said"), [("badnet", "BadNet"), ("valid", "validation"), ("test", "test")])
def test_what_cannot_be_compared_is_refused(part: str, said: str) -> None:
    one = make_manifest(A)
    other = replace(one, name="sweep-2", digests={**one.digests, part: "another"})
    with pytest.raises(InputError, match=f"'sweep-2' has (another|other) {said}.*; expected sweeps of one"):
        check_comparable([one, other])


def test_side_by_side(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name, records in (("one", A), ("two", B)):
        write_manifest(storage, make_manifest(records, name))
        for record in records:
            RecordStore(storage).write(record)
    found = compared_frontiers(["one", "two"], str(tmp_path))
    assert [s["sweep"] for s in found["sweeps"]] == ["one", "two"]
    assert [p["sweeps"] for p in found["points"]] == [["one", "two"], ["one"], ["two"]]
    assert found["hypervolume"] >= max(s["hypervolume"] for s in found["sweeps"])
    best = {s["sweep"]: {b["x"]: b["trial_key"] for b in s["best"]} for s in found["sweeps"]}
    assert best == {"one": {2.0: "a", 4.0: "late", 10.0: "late"}, "two": {2.0: "both", 4.0: "b", 10.0: "b"}}
    said = frontiers(found)
    assert "from one and two" in said and "within X = 4" in said


def test_a_sweep_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="named twice"):
        compared_frontiers(["one", "one"], str(tmp_path))


def test_the_page_of_the_first_shows_the_others_distribution(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    storage = Storage(str(tmp_path / "runs"))
    for name, records in (("one", A), ("two", B)):
        write_manifest(storage, make_manifest(records, name))
        for record in records:
            RecordStore(storage).write(record)
    page = tmp_path / "page.html"
    found = compared_frontiers(["one", "two"], storage.place, page)
    assert found["page"] == str(page)
    text = page.read_text()
    (data,) = re.findall(r'id="data">(.*?)</script>', text, re.S)
    assert json.loads(data)["name"] == "one" and list(json.loads(data)["others"]) == ["two"]
    assert len(json.loads(data)["others"]["two"]) == len(B)
    alone = shown_frontier("two", storage.place, page)
    assert alone["page"] == str(page) and '"others":{}' in page.read_text()
