"""Whether the run of a trial in MLflow is what the trial's record says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mlflow import MlflowClient

from prune_core.counts import Counts
from sweeps.records.trial_record import TrialRecord


def check_log(uri: str, records: Iterable[TrialRecord], sweep: str, experiment: str = "goodnet") -> None:
    """Every trial has one run below the sweep's one, and it is the record. Fails naming all that is not."""
    client = MlflowClient(uri)
    place = [client.get_experiment_by_name(experiment).experiment_id]
    (parent,) = client.search_runs(place, f"tags.`goodnet.sweep` = '{sweep}'")
    assert parent.info.status == "FINISHED"
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    runs = client.search_runs(place, below, max_results=1000)
    kept = {record.key: record for record in records}
    assert sorted(run.data.tags["goodnet.trial_key"] for run in runs) == sorted(kept)
    wrong = [line for run in runs for line in wrong_in(client, run, kept[run.data.tags["goodnet.trial_key"]])]
    assert not wrong, "\n".join(wrong)


def wrong_in(client: MlflowClient, run: Any, record: TrialRecord) -> list[str]:
    """A line for all that differs: the last value of every metric, the values on the way there (whose steps
    are numbers of candidates), and steps that are there twice or run backwards in time."""
    ends = _ends(record)
    said = {name: run.data.metrics.get(name) for name in run.data.metrics.keys() | ends.keys()}
    wrong = [
        f"{name} ends with {value}, the record with {ends.get(name)}"
        for name, value in said.items()
        if value != ends.get(name)
    ]
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        in_time = [m.step for m in sorted(history, key=lambda m: (m.timestamp, m.step))]
        if in_time != sorted(set(in_time)):
            wrong.append(f"{name} has the steps {in_time} in time")
        if name.startswith(("valid_", "test_")):
            if in_time != [record.last_step]:
                wrong.append(f"{name} has the steps {in_time}, not the end's {record.last_step}")
            continue
        for value in history:
            if value.value != _at(record, value.step).get(name):
                wrong.append(f"{name} is {value.value} at step {value.step}, not as in the record")
    return [f"trial {record.key} ({record.settings}): {line}" for line in wrong]


def _ends(record: TrialRecord) -> dict[str, float]:
    """The last value of every metric, by the record alone."""
    if record.valid is None or record.test is None:
        return {}
    ends = _curves(record.valid, len(record.mask))
    for split, counts in (("valid", record.valid), ("test", record.test)):
        rates = {rate.name: rate.rate for rate in counts.rates()}
        rates |= {f"attack_success_trigger_{n}": t.attack_success for n, t in enumerate(counts.triggers)}
        if counts.margin is not None and math.isfinite(counts.margin):
            rates["margin"] = counts.margin
        ends |= {f"{split}_{name}": rate for name, rate in rates.items()}
    return ends


def _at(record: TrialRecord, step: int) -> dict[str, float]:
    """What the curves have to show there: at a candidate, or net, that was accepted, or at the end."""
    assert record.badnet_valid is not None and record.valid is not None
    if step == 0:
        return _curves(record.badnet_valid, 0)
    candidate = record.steps[step - 1] if step <= len(record.steps) else None
    if candidate is not None and candidate.accepted:
        return _curves(candidate.now, len(candidate.mask))
    net = record.nets[step - len(record.steps) - 1] if candidate is None else None
    if net is not None and net.accepted:
        return _curves(net.counts, len(net.mask))
    return _curves(record.valid, len(record.mask)) if step == record.last_step else {}


def _curves(counts: Counts, pruned: int) -> dict[str, float]:
    found = {
        "clean_accuracy": counts.clean_accuracy,
        "attack_success": counts.attack_success,
        "channels_pruned": float(pruned),
    }
    if counts.margin is not None and math.isfinite(counts.margin):
        found["margin"] = counts.margin
    return found


def children(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """The runs below a sweep's run, by trial key."""
    experiment = client.get_run(run_id).info.experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {run.data.tags["goodnet.trial_key"]: run for run in runs}
