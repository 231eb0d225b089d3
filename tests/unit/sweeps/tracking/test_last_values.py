"""What a trial's run in MLflow ends with is the trial's end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import make_counts, make_manifest, make_record
from mlflow_log import children

from sweeps.records.trial_record import TrialRecord

DONE = make_record("a", [(985, 400), None, (970, 100)])


def back_and_forth() -> TrialRecord:
    """Channels are pruned and given back: the trial ends with fewer than it once had."""
    record = make_record("e", [(985, 400), (980, 200), (970, 100), (960, 40)])
    fewer = record.steps[1].mask
    given_back = replace(
        record.steps[3], mask=fewer, now=make_counts(982, 40), returned=record.steps[2].channel
    )
    return replace(record, steps=(*record.steps[:3], given_back), mask=fewer, valid=make_counts(982, 40))


@pytest.mark.parametrize("record", [DONE, back_and_forth()], ids=["forward", "back and forth"])
def test_the_last_value_of_every_metric_is_the_trials_end(record: TrialRecord, connect, client) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([record]), {})
    tracking.log_trial(run_id, record)
    run = children(client, run_id)[record.key]
    ends = {"clean_accuracy": record.valid.clean_accuracy, "attack_success": record.valid.attack_success}
    ends |= {"margin": record.valid.margin, "channels_pruned": len(record.mask)}
    assert {name: run.data.metrics[name] for name in ends} == ends
    for split in ("valid", "test"):
        counts = getattr(record, split)
        assert run.data.metrics[f"{split}_clean_accuracy"] == counts.clean_accuracy
        assert run.data.metrics[f"{split}_attack_success"] == counts.attack_success
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        by_step = sorted(history, key=lambda m: m.step)
        assert [m.timestamp for m in by_step] == sorted(m.timestamp for m in history)
        assert by_step[-1].step == len(record.steps)
        assert len({m.step for m in history}) == len(history)


def test_a_trial_logged_by_other_steps_is_logged_anew(connect, client) -> None:
    """Of a version before: its values cannot be taken back, so the trial gets a new run."""
    record = back_and_forth()
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([record]), {})
    tracking.log_trial(run_id, record)
    before = children(client, run_id)[record.key].info.run_id
    client.delete_tag(before, "goodnet.log")
    later = connect()
    later.start_sweep(make_manifest([record]), {})
    assert not later.has_trial(run_id, record.key, "done")
    later.log_trial(run_id, record)
    (after,) = children(client, run_id).values()
    assert after.info.run_id != before and after.data.metrics["clean_accuracy"] == 0.982
    assert client.get_run(before).info.lifecycle_stage == "deleted"
    assert later.has_trial(run_id, record.key, "done")
