"""One run a sweep and one a trial, also when two drivers log the same sweep at the same time.

MLflow has no name that only one run may have, so two processes that look for a run, find none and
make one, make two. Nothing is locked: a killed process would leave the lock behind, and drivers need not
share a disk. Instead duplicates are found by their tags and made one again, by a rule that all drivers
follow alike and that no later write changes: the run that started first stays (of two at the same
millisecond, the one whose id comes first). A driver whose run is gone looks again, and finds the one
that stayed. Each driver looks when it starts and when it ends, so whoever ends last leaves one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

PARENT = "mlflow.parentRunId"
TRIAL = "goodnet.trial_key"


class Client(Protocol):
    """What is needed of ``mlflow.MlflowClient``."""

    def set_tag(self, run_id: str, key: str, value: str) -> object: ...
    def delete_run(self, run_id: str) -> None: ...


def in_order(runs: Iterable[Any]) -> list[Any]:
    """Runs of MLflow, the one that stays first."""
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def one_a_trial(client: Client, runs: Iterable[Any]) -> dict[str, Any]:
    """A sweep's runs of trials by trial key; duplicates are deleted."""
    kept: dict[str, Any] = {}
    for run in in_order(runs):
        key = run.data.tags.get(TRIAL)
        if key is None:
            continue
        if key in kept:
            client.delete_run(run.info.run_id)
        else:
            kept[key] = run
    return kept


def adopt(client: Client, children: Iterable[Any], parent: str) -> None:
    """The runs become children of ``parent``."""
    for run in children:
        client.set_tag(run.info.run_id, PARENT, parent)
