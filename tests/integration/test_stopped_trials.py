"""``sweep.stop`` in this process: what is kept of a trial that was stopped, and how it goes on."""

from __future__ import annotations

import json

import pytest

from sweeps.config.schema import load_config
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.planning.plan import _asked
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep

STOP = ("--set", "sweep.stop={rule: median, grace_period: 12, min_samples: 1}")
GRID = ("--set", "sweep.orders=[index,l1,reverse-index]", "--set", "sweep.layer_sets=[last:2]")


class Killed(BaseException):
    """Nothing catches it."""


def swept(config, *more, executor="inline"):
    """Without MLflow, which takes longer than the trials."""
    overrides = [text for text in (*GRID, *more) if text != "--set"]
    loaded = load_config(config, overrides)
    storage = open_storage(loaded.storage)
    result = run_sweep(loaded, storage, make_executor(executor, loaded), SweepEvents())
    return result.to_json(storage)


def trials(goodnet, tmp_path, place="runs"):
    rows = goodnet("trials", "--storage", tmp_path / place, "--json").json["trials"]
    for row in rows:
        del row["seconds"]
    return rows


@pytest.mark.slow
def test_a_stopped_trial_keeps_its_states_and_goes_on_only_when_told_to(
    goodnet, smoke_config, tmp_path
) -> None:
    first = swept(smoke_config, *STOP)
    stopped = first["stopped_trials"]
    assert stopped and first["done"] == first["trials"] - stopped and first["failed"] == 0
    rows = trials(goodnet, tmp_path)
    behind = [row for row in rows if row["status"] == "stopped"]
    assert len(behind) == stopped
    for row in behind:
        assert row["reason"].startswith("median: hypervolume 0.") and row["failure"] is None
        assert row["steps"] % 12 == 0 and row["hypervolume"] is not None
        assert row["test_clean_accuracy"] is not None

    # The same command leaves it stopped.
    again = swept(smoke_config, *STOP)
    assert (again["sweep"], again["stopped_trials"], again["done"]) == (first["sweep"], stopped, 0)
    assert trials(goodnet, tmp_path) == rows

    # Everything that lists trials says so.
    place = ("--storage", tmp_path / "runs")
    assert goodnet("list", *place, "--json").json["sweeps"][0]["trials"]["stopped"] == stopped
    assert f"{stopped} stopped" in goodnet("watch", *place).out
    assert goodnet("frontier", *place, "--json").json["trials"]["stopped"] == stopped
    assert "stopped" in goodnet("trials", *place).out
    page = (tmp_path / "runs" / "sweeps" / f"{first['sweep']}.html").read_text()
    assert '"stopped"' in page and behind[0]["reason"] in page

    # Without a rule it goes on, to what it would have come to without one.
    whole = swept(smoke_config)
    assert whole["sweep"] == first["sweep"] and "stopped_trials" not in whole
    assert (whole["done"], whole["skipped"]) == (stopped, first["done"])
    never = swept(smoke_config, "--set", f"storage={tmp_path}/other")
    assert never["sweep"] == first["sweep"] and never["hypervolume"] == whole["hypervolume"]
    assert trials(goodnet, tmp_path) == trials(goodnet, tmp_path, "other")


@pytest.mark.slow
def test_a_search_with_a_rule_takes_over_what_another_sweep_has_stopped(smoke_config, tmp_path) -> None:
    grid = swept(smoke_config, *STOP)
    folder = tmp_path / "runs" / "trials"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    search = ("--set", "sweep.search=optuna", "--set", f"sweep.samples={grid['trials']}")
    found = swept(smoke_config, *STOP, *search)
    assert found["sweep"] != grid["sweep"] and found["stopped_trials"] > 0 and found["done"] == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.slow
def test_a_killed_sweep_stops_the_same_trials(goodnet, smoke_config, tmp_path, monkeypatch) -> None:
    """Killed with four trials over, one of them stopped, and a fifth begun."""
    import sweeps.execution.inline

    at_once = swept(smoke_config, *STOP, "--set", f"storage={tmp_path}/other")
    real, ran = sweeps.execution.inline.run_trial, []

    def until_the_fifth(*given):
        ran.append(given)
        if len(ran) == 5:
            raise Killed
        return real(*given)

    monkeypatch.setattr(sweeps.execution.inline, "run_trial", until_the_fifth)
    with pytest.raises(Killed):
        swept(smoke_config, *STOP)
    monkeypatch.undo()
    before = {row["trial_key"]: row for row in trials(goodnet, tmp_path)}
    assert len(before) == 4 and "stopped" in {row["status"] for row in before.values()}
    after = swept(smoke_config, *STOP)
    assert after["stopped_trials"] == at_once["stopped_trials"]
    assert trials(goodnet, tmp_path) == trials(goodnet, tmp_path, "other")


@pytest.mark.parametrize(
    "given, words",
    [
        ("bandit", ["sweep.stop", "none, asha or median"]),
        ("3", ["sweep.stop", "none, asha, median, or a mapping"]),
        ("{rule: bandit}", ["sweep.stop.rule", "asha"]),
        ("{grace_period: 5}", ["sweep.stop.rule", "missing"]),
        ("{rule: asha, grace_perod: 5}", ["sweep.stop.grace_perod", "grace_period"]),
        ("{rule: asha, grace_period: 0}", ["sweep.stop.grace_period"]),
        ("{rule: asha, min_samples: 3}", ["min_samples is no setting of asha"]),
        ("{rule: median, reduction_factor: 3}", ["reduction_factor is no setting of median"]),
    ],
)
def test_a_rule_that_is_none_is_told_in_a_line(goodnet, smoke_config, given, words) -> None:
    said = goodnet("sweep", smoke_config, "--executor", "inline", "--set", f"sweep.stop={given}")
    assert said.status == 2 and len(said.err.splitlines()) == 1
    for word in words:
        assert word in said.err


def test_a_rule_changes_neither_a_sweeps_name_nor_its_trials(smoke_config) -> None:
    plain = ["sweep.search=optuna", "sweep.samples=4"]
    asked = [
        _asked(load_config(smoke_config, [*plain, *more]).sweep, {})
        for more in ([], ["sweep.stop=none"], ["sweep.stop=asha"])
    ]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.slow
def test_ray_stops_trials_that_leave_their_records(smoke_config, tmp_path) -> None:
    """Which ones depends on which worker is faster; what is kept of them does not."""
    said = swept(smoke_config, *STOP, executor="ray")
    assert said["failed"] == 0 and said["stopped_trials"] >= 1
    store = RecordStore(open_storage(str(tmp_path / "runs")))
    manifest = json.loads((tmp_path / "runs" / "sweeps" / f"{said['sweep']}.json").read_text())
    records = [store.read(key) for key in manifest["trials"]]
    behind = [record for record in records if record.status == "stopped"]
    assert len(behind) == said["stopped_trials"]
    never = swept(smoke_config, "--set", f"storage={tmp_path}/other")
    alone = RecordStore(open_storage(str(tmp_path / "other")))
    for record in records:
        whole = alone.read(record.key)
        assert record.steps == whole.steps[: len(record.steps)]
        assert (len(record.steps) < len(whole.steps)) == (record.status == "stopped")
    assert 0 < said["hypervolume"] <= never["hypervolume"]
    again = swept(smoke_config, *STOP, executor="ray")
    assert again["stopped_trials"] == said["stopped_trials"] and again["done"] == 0
