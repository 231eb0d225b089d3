"""A sweep as an Optuna study: every trial once, of any search; opened by Optuna's own means."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_manifest, make_record
from servers import free_port

from prune_core.testing.net import tiny_net
from sweeps.config.schema import make_config
from sweeps.following.optuna_rows import TESTED, add_trials, one_by_one
from sweeps.following.study import OpenStudy, Row, StudyCopy, study_address
from sweeps.planning.grid import trials_of
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage

optuna = pytest.importorskip("optuna")

SWEEP = {
    "orders": ["l1", "index"],
    "layer_sets": ["last:1", "last:2"],
    "x_thresholds": [4, 10],
    "policies": ["margin", "final-layer"],  # with its extra trials of X = 100
}


@pytest.fixture(scope="module")
def inputs() -> Any:
    return SimpleNamespace(model=tiny_net(), inverted=None)


def made(inputs: Any, **more: Any) -> tuple[Manifest, list[TrialRecord]]:
    config = make_config({"name": "example", "badnet": "embedded", "sweep": {**SWEEP, **more}}, "a test")
    records = [
        make_record(f"t{i}", [(980 - i, 250 - i)], settings, seconds=3.0)
        for i, settings in enumerate(trials_of(config.sweep, inputs.model))
    ]
    return replace(make_manifest(records), config=config), records


def copied(manifest: Manifest, inputs: Any, address: str, ended: Any, there: Any = ()) -> Any:
    """The study once these trials are over."""
    copy = StudyCopy(manifest, inputs, address, pytest.fail)
    copy.planned(manifest, list(there), len(there) + len(ended))
    for record in ended:
        copy.ended(record)
    copy.close()
    return optuna.load_study(study_name=manifest.name, storage=address)


def test_a_grid_is_a_study(inputs: Any, tmp_path: Path) -> None:
    manifest, records = made(inputs)
    records[3] = make_record("t3", settings=records[3].settings, reason="no pairs", seconds=3.0)
    address = study_address(None, Storage(str(tmp_path)))
    assert address == f"sqlite:///{tmp_path}/optuna.db"
    study = copied(manifest, inputs, address, records)
    assert len(study.trials) == len(records) == len(study.best_trials) + 1  # none beats another
    assert study.metric_names == ["clean_accuracy", "attack_success"]
    for trial, record in zip(study.trials, records, strict=True):
        settings = record.settings
        assert (trial.params["order"], trial.params["x"]) == (settings.order, settings.x)
        assert trial.params["layers"] == "+".join(settings.layers)
        assert trial.user_attrs["trial_key"] == record.key
        assert trial.duration.total_seconds() == pytest.approx(3.0)
        if record.valid is not None:
            assert trial.values == [record.valid.clean_accuracy, record.valid.attack_success]
    assert study.trials[3].state.name == "FAIL" and study.trials[3].user_attrs["reason"] == "no pairs"


@pytest.mark.slow
def test_optuna_dashboard_opens_it(inputs: Any, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="pip install 'goodnet[test]'")
    manifest, records = made(inputs)
    address = f"sqlite:///{tmp_path}/o.db"
    copied(manifest, inputs, address, records)
    program, port = Path(sys.executable).with_name("optuna-dashboard"), free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [program, "--host", "127.0.0.1", "--port", str(port), address]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        told = answer(f"http://127.0.0.1:{port}/api/studies")
        (study,) = told["study_summaries"]
        assert study["study_name"] == manifest.name
        assert study["directions"] == ["maximize", "minimize"]
        whole = answer(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0")
        assert len(whole["trials"]) == len(records)
    finally:
        server.terminate()
        server.wait(60)


def answer(url: str, seconds: float = 120.0) -> Any:
    """JSON at an address, once somebody listens there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_going_on_adds_what_is_missing_and_nothing_twice(inputs: Any, tmp_path: Path) -> None:
    manifest, records = made(inputs)
    address = f"sqlite:///{tmp_path}/o.db"
    failed = make_record("t1", settings=records[1].settings, reason="memory")
    assert len(copied(manifest, inputs, address, [records[0], failed]).trials) == 2
    study = copied(manifest, inputs, address, records[1:4], there=records[:1])
    assert [t.user_attrs["trial_key"] for t in study.trials] == ["t0", "t1", "t1", "t2", "t3"]
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 3]


def test_a_stopped_trial_is_pruned_as_optuna_says_and_may_go_on(inputs: Any, tmp_path: Path) -> None:
    manifest, records = made(inputs)
    address = f"sqlite:///{tmp_path}/o.db"
    stopped = replace(records[0], status="stopped", reason="asha: behind")
    study = copied(manifest, inputs, address, [stopped])
    assert study.trials[0].state.name == "PRUNED" and study.trials[0].values is not None
    assert study.trials[0].user_attrs["status"] == "stopped"
    study = copied(manifest, inputs, address, [records[0]], there=[])
    assert [t.state.name for t in study.trials] == ["PRUNED", "COMPLETE"]


def test_one_of_other_choices_is_made_anew(inputs: Any, tmp_path: Path) -> None:
    """Optuna cannot change what there is to choose."""
    address = f"sqlite:///{tmp_path}/o.db"
    manifest, records = made(inputs)
    copied(manifest, inputs, address, records[:2])
    other, more = made(inputs, orders=["index"])
    study = copied(replace(other, name=manifest.name), inputs, address, more[:1])
    assert len(study.trials) == 1


def test_a_call_with_nothing_to_do_opens_nothing(inputs: Any, tmp_path: Path) -> None:
    manifest, records = made(inputs)
    copy = StudyCopy(manifest, inputs, f"sqlite:///{tmp_path}/o.db", pytest.fail)
    copy.planned(manifest, records, len(records))
    copy.close()
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_away_costs_one_line_without_its_address(inputs: Any, tmp_path: Path) -> None:
    manifest, records = made(inputs)
    (tmp_path / "secret").write_text("a file where a folder should be")
    lines: list[str] = []
    copy = StudyCopy(manifest, inputs, f"sqlite:///{tmp_path}/secret/o.db", lines.append)
    copy.planned(manifest, [], 2)
    copy.ended(records[0])
    copy.close()
    assert len(lines) == 1 and "secret" not in lines[0] and "goes on without it" in lines[0]


@pytest.mark.parametrize(
    ("given", "expected"), [("none", None), ("postgresql://u:p@host/db", "postgresql://u:p@host/db")]
)
def test_where_it_is_kept(given: str, expected: str | None, tmp_path: Path) -> None:
    assert study_address(given, Storage(str(tmp_path))) == expected


def test_an_address_is_not_kept_with_the_sweep(inputs: Any) -> None:
    manifest, _ = made(inputs, study="postgresql://u:secret@host/db")
    assert "secret" not in repr(manifest.to_json()) and "secret" not in repr(manifest)


def test_many_at_once_are_what_optuna_adds_one_by_one(inputs: Any, tmp_path: Path) -> None:
    """The plain twin of what touches Optuna's tables: done, failed and stopped trials, in two portions."""
    manifest, records = made(inputs)
    records[1] = make_record("t1", settings=records[1].settings, reason="no pairs", seconds=3.0)
    records[2] = replace(records[2], status="stopped", reason="asha: behind", seconds=1.5)
    started = datetime(2026, 3, 1, 12, 30, 5).timestamp()
    trials = [replace(Row.of(record), started=started + i) for i, record in enumerate(records)]
    found = []
    for name, add in (("plain", lambda study, _, new: one_by_one(study, new)), ("fast", add_trials)):
        opened = OpenStudy(f"sqlite:///{tmp_path}/{name}.db", manifest, inputs)
        for some in (trials[:3], trials[3:]):
            add(opened.study, opened.storage, [opened._trial(row) for row in some])
        found.append(
            [
                replaced_id(t)
                for t in optuna.load_study(study_name=manifest.name, storage=opened.storage).trials
            ]
        )
    plain, fast = found
    assert len(plain) == len(records) and fast == plain


def replaced_id(trial: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(trial).items() if name != "_trial_id"}


def test_this_optuna_is_one_whose_tables_are_known() -> None:
    assert TESTED.contains(optuna.__version__), "try add_trials with it, then add it to TESTED"


def test_with_another_optuna_trials_are_added_its_own_way(
    inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, records = made(inputs)
    monkeypatch.setattr("optuna.__version__", "9.0.0")
    monkeypatch.setattr("sweeps.following.optuna_rows._at_once", pytest.fail)
    assert len(copied(manifest, inputs, f"sqlite:///{tmp_path}/o.db", records).trials) == len(records)
