"""What a record becomes in MLflow: the last value of a metric is the trial's end."""

from __future__ import annotations

from dataclasses import replace

from factories import make_record

from sweeps.tracking.trial_files import stepped_metrics


def test_what_the_end_does_not_know_has_no_curve() -> None:
    """Of a policy that never asks for margins MLflow showed the BadNet's, as if it were the end's."""
    record = make_record("a", [(985, 400), (970, 100)])
    unasked = replace(record, valid=record.valid.without_margin(), test=record.test.without_margin())
    names = {metric.name for metric in stepped_metrics(unasked)}
    assert "clean_accuracy" in names and not {name for name in names if "margin" in name}
