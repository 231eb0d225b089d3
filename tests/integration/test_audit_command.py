"""``goodnet audit`` on a small real sweep: its JSON, its table, going on, bad input."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_core.audits.tuning.STEPS", 2)
    monkeypatch.setattr("prune_core.audits.plan.SEEDS", (0,))
    monkeypatch.setattr("prune_core.audits.perturbation.STEPS", 2)


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

    (kept,) = (runs / "audits" / found["sweep"]).iterdir()
    assert json.loads(kept.read_text()) == found
    nets = {p.name: p.stat().st_mtime_ns for p in (runs / "audits" / "nets").iterdir()}
    again = goodnet("audit", "--storage", runs, "--benign", smoke_files.badnet, "--json")
    assert again.json == found and "minute" not in again.err
    assert {p.name: p.stat().st_mtime_ns for p in (runs / "audits" / "nets").iterdir()} == nets

    shown = goodnet("audit", "--storage", runs, "--only", "as-it-is")
    assert shown.status == 0 and "No audit shows that a network is clean" in shown.out

    for arguments, words in (
        (["--only", "int9"], "audit 'int9' is unknown"),
        (["--knee", "--max-accuracy-drop", 4], "2 criteria"),
        (["--knee", "--frontier"], "not both"),
        (["--benign", tmp_path / "none.onnx"], "no such file"),
        (["--trial", "abc", "--step", 1], "no such trial"),
    ):
        bad = goodnet("audit", "--storage", runs, *arguments)
        assert bad.status == 2 and words in bad.err and "Traceback" not in bad.err, bad.err
