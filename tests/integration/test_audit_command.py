"""``goodnet audit`` on a small real sweep: its JSON, its table, going on, bad input."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from prune_core.audits.entries import Entry
from prune_core.errors import InputError
from sweeps.cli.auditing import audits


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_core.audits.tuning.STEPS", 2)
    for place in ("prune_core.audits.plan", "sweeps.auditing.bounded"):
        monkeypatch.setattr(f"{place}.SEEDS", (0,))
    monkeypatch.setattr("prune_core.audits.perturbation.STEPS", 2)


def test_mistakes_are_told_in_one_line_before_any_work(goodnet, tmp_path) -> None:
    for arguments, words in (
        ([], "no sweep"),
        (["--knee", "--max-accuracy-drop", 4], "2 criteria"),
        (["--knee", "--frontier"], "not both"),
        (["--only", "as-it-is,int9"], "audit 'int9' is unknown"),
    ):
        bad = goodnet("audit", "--storage", tmp_path, *arguments)
        assert bad.status == 2 and words in bad.err and len(bad.err.splitlines()) == 1, bad.err


def test_a_sweep_whose_trials_all_failed(goodnet, smoke_config, tmp_path, monkeypatch) -> None:
    """Nothing to audit, and a report that proposes nothing."""

    def broken(*args, **kwargs):
        raise InputError("no trial of this one works")

    monkeypatch.setattr("sweeps.trial.prune", broken)
    goodnet("sweep", smoke_config, "--executor", "inline", "-q")
    bad = goodnet("audit", "--storage", tmp_path / "runs")
    assert bad.status == 2 and "nothing to audit" in bad.err and "Traceback" not in bad.err, bad.err
    told = goodnet("report", "--storage", tmp_path / "runs", "--out", tmp_path / "r.html", "--json")
    assert told.status == 0 and told.json["chosen"] is None and told.json["trials"]["failed"] > 0
    assert "no trial of the search has pruned a channel" in (tmp_path / "r.html").read_text()


def test_the_table_shows_nets_side_by_side() -> None:
    entries = [
        Entry("reactivation", {"poisoned_images": 1}, s, (9, 10), (h, 100), (h, 100), (9, 10), "")
        for s, h in enumerate((0, 60, 90))
    ]
    state = {
        "sweep": "s",
        "trial": "t",
        "step": 3,
        "subjects": {"goodnet": [e.to_json() for e in entries], "badnet": []},
        "skipped": [{"audit": "int8", "why": "onnxruntime is not installed"}],
    }
    shown = audits(state)
    assert "reactivation, 1 poisoned image " in shown and "50.0 % (0 to 90) red" in shown
    assert "not done: int8: onnxruntime is not installed" in shown


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_audit_of_a_state(goodnet, smoke_config, smoke_files, tmp_path) -> None:
    runs = tmp_path / "runs"
    assert goodnet("sweep", smoke_config, "--executor", "inline", "--json", "-q").status == 0
    said = goodnet("audit", "--storage", runs, "--benign", smoke_files.badnet, "--json")
    assert said.status == 0, said.err
    assert "minute" in said.err  # how long it will take is said first
    found = said.json
    assert set(found["subjects"]) == {"goodnet", "badnet", "benign"}
    assert found["subjects"]["badnet"] == found["subjects"]["benign"]  # the same file here
    audits = {e["audit"] for e in found["subjects"]["goodnet"]} | {s["audit"] for s in found["skipped"]}
    assert audits >= {"as-it-is", "reactivation", "clean-tuning", "perturbation", "changed-trigger", "int8"}
    for entry in found["subjects"]["goodnet"]:
        assert entry["light"] in ("green", "amber", "red") and entry["low"] <= entry["attack_success"]
    as_it_was = found["subjects"]["badnet"][0]
    assert as_it_was["attack_success"] > 0.9 and as_it_was["light"] == "red"
    assert "not logged" not in said.err
    logged = [
        p for p in runs.rglob(f"audits/{found['trial']}-{found['step']}.json") if "artifacts" in p.parts
    ]
    assert [json.loads(p.read_text()) for p in logged] == [found]

    (kept,) = (runs / "audits" / found["sweep"]).iterdir()
    assert json.loads(kept.read_text()) == found
    nets = {p.name: p.stat().st_mtime_ns for p in (runs / "audits" / "nets").iterdir()}
    again = goodnet("audit", "--storage", runs, "--benign", smoke_files.badnet, "--json")
    assert again.json == found and "minute" not in again.err
    assert {p.name: p.stat().st_mtime_ns for p in (runs / "audits" / "nets").iterdir()} == nets

    shown = goodnet("audit", "--storage", runs, "--only", "as-it-is")
    assert shown.status == 0 and "No audit shows that a network is clean" in shown.out

    assert json.loads(kept.read_text()) == found  # nothing of it is lost
    state = ["--trial", found["trial"], "--step", found["step"]]
    pick = ["pick", *state, "--storage", runs, "--no-register", "--out", tmp_path / "out", "--json"]
    picked = goodnet(*pick, "--max-reactivated", 1)
    assert picked.status == 0 and "not trained on" in picked.json["why"], picked.err
    assert {"reactivation", "int8"} & set(picked.json["audits"]) and "as-it-is" not in picked.json["audits"]
    page = ["report", "--storage", runs, "--out", tmp_path / "r.html", "--json", *state]
    bound = goodnet(*page, "--max-reactivated", 1)
    assert bound.status == 0 and "not trained on" in bound.json["chosen"]["why"], bound.err
    assert goodnet(*page, "--max-reactivated", 0).status == 2
    refused = goodnet(*pick, "--max-reactivated", 0)  # two steps of training leave some of it at least
    assert refused.status == 2 and "no audited state" in refused.err
    (runs / "audits" / found["sweep"] / f"{found['trial']}-{found['step']}.json").unlink()
    unaudited = goodnet(*pick, "--max-reactivated", 1)
    assert unaudited.status == 2 and "has been audited; goodnet audit" in unaudited.err

    for arguments, words in (
        (["--benign", tmp_path / "none.onnx"], "no such file"),
        (["--trial", "abc", "--step", 1], "no such trial"),
    ):
        bad = goodnet("audit", "--storage", runs, *arguments)
        assert bad.status == 2 and words in bad.err and "Traceback" not in bad.err, bad.err


def test_a_sweep_that_cannot_be_audited_is_done_all_the_same(goodnet, smoke_config, smoke_files) -> None:
    """One poisoned image on validation is enough for trials, and too few for audits."""
    alone = smoke_config.with_name("alone.npz")
    with h5py.File(smoke_files.poisoned_valid) as file:
        np.savez(alone, data=file["data"][:1], label=file["label"][:1])
    options = ["sweep.audit=true", f"data.poisoned_valid={alone}", "sweep.orders=[index]"]
    said = goodnet(
        "sweep",
        smoke_config,
        "--executor",
        "inline",
        *(w for o in options for w in ("--set", o)),
        "--json",
        "--quiet",
    )
    assert said.status == 0 and said.json["trials"] > 0, said.err
    assert "not audited: " in said.err and "2 or more" in said.err  # said to those, too, who want no progress


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_sweep_audits_its_frontier_where_it_is_asked_to(goodnet, smoke_config, tmp_path, executor) -> None:
    """After its trials, in this process or in workers; and from Python what is there is shown again."""
    import goodnet as face

    wanted = ["--set", "sweep.audit=[as-it-is]"]
    said = goodnet("sweep", smoke_config, "--executor", executor, *wanted, "--json")
    assert said.status == 0 and "states of the frontier" in said.err, said.err
    assert "failed" not in said.err and "in this process:" not in said.err
    assert ("over the workers: " in said.err) == (executor == "ray"), said.err
    kept = list((tmp_path / "runs" / "audits" / said.json["sweep"]).iterdir())
    assert len(kept) == said.json["frontier_size"]
    sweep = face.sweep(smoke_config, executor="inline")
    assert sweep.name == said.json["sweep"]  # what is audited is no part of what a sweep is
    found = sweep.audit(frontier=True, only=["as-it-is"])
    assert [state["step"] for state in found["states"]] == [p["step"] for p in sweep.frontier()]
    assert all(json.loads(path.read_text()) in found["states"] for path in kept)
