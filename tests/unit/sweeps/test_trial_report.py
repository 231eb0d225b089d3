"""A trial as commands and MLflow tell of it: the keys of version 0.1, and the record's figures."""

from __future__ import annotations

import json
from dataclasses import replace

from factories import make_counts, make_record

from prune_core.counts import Counts, TriggerCounts
from sweeps.records.trial_report import TrialReport

COMMON = {"trial_key", "settings", "seconds", "channels_pruned", "kind", "policy", "repair", "assumption",
          "weights", "nets", "valid", "test"}  # fmt: skip


def test_what_prune_prints() -> None:
    record = make_record()
    told = TrialReport.of(record).command_json(180, record.steps)
    assert set(told) == COMMON | {"badnet", "pruned", "keep_bias", "channels_total", "steps"}
    assert json.loads(json.dumps(told))["settings"] == record.settings.to_json()
    assert told["badnet"]["valid"] == make_counts(990, 500).to_json() and told["channels_total"] == 180
    assert told["valid"] == make_counts(970, 100).to_json() and told["pruned"] == {"conv_4": [0, 2]}
    assert [(s["step"], s["accepted"], s["channel"]) for s in told["steps"]] == [
        (1, True, 0),
        (2, False, 1),
        (3, True, 2),
    ]
    assert told["steps"][2]["now"]["attacked"] == 100 and told["steps"][0]["returned"] is None
    assert (told["kind"], told["policy"], told["repair"]) == ("pruning", "margin", "none")


def test_every_trigger_stands_in_the_steps() -> None:
    record = make_record(steps=[(985, 400)])
    two = Counts.of(980, 1000, [TriggerCounts(30, 30, 100, 1.5), TriggerCounts(90, 90, 200, 2.5)])
    (step,) = TrialReport.of(record).command_json(180, (replace(record.steps[0], now=two),))["steps"]
    assert step["now"]["attacked"] == 90 and "triggers" not in step["tried"]
    assert [(one["attacked"], one["poisoned_total"], one["margin"]) for one in step["now"]["triggers"]] == [
        (30, 100, 1.5),
        (90, 200, 2.5),
    ]


def test_the_file_in_mlflow() -> None:
    told = TrialReport.of(make_record()).file_json()
    assert set(told) == COMMON | {"status", "reason", "failure", "badnet_valid", "badnet_test"}
    low, high = told["valid"]["attack_success_interval"]
    assert low < told["valid"]["attack_success"] == 0.2 < high


def test_a_failed_trial() -> None:
    told = TrialReport.of(make_record(reason="no pairs")).file_json()
    assert (told["status"], told["reason"], told["channels_pruned"]) == ("failed", "no pairs", 0)
    assert told["valid"] is None and told["badnet_test"] is None and told["nets"] == []


def test_parameters_are_texts() -> None:
    assert TrialReport.of(make_record()).params() == {
        "order": "activation",
        "layers": "conv_4+conv_3",
        "x": "4.0",
        "policy": "margin",
        "seed": "0",
        "repair": "none",
        "kind": "pruning",
        "layers_count": "2",
    }
