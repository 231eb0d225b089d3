"""A few of the twenty kill points of ``make kill-points``: one of each victim."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from kill_points.harness import VICTIMS, Outcome, compare, run_kill_points, undisturbed_records
from mlflow import MlflowClient
from servers import MISSING, postgres_programs

from sweeps.config.schema import load_config


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_twice(tmp_path) -> None:
    if postgres_programs() is None:
        pytest.skip(MISSING)
    outcome = run_kill_points(tmp_path, len(VICTIMS), random.randrange(10**6), print)
    print(outcome.table())
    assert outcome.right, outcome.table()
    assert outcome.kills.total() == len(VICTIMS)


def test_what_is_lost_or_twice_is_seen(goodnet, smoke_config, tmp_path) -> None:
    """The harness itself: a record that is gone, a run that is gone, a run that is there twice."""
    other = tmp_path / "other.yaml"
    tree = yaml.safe_load(smoke_config.read_text())
    other.write_text(yaml.safe_dump(tree | {"storage": str(tmp_path / "other")}))
    undisturbed = undisturbed_records(other)
    assert goodnet("sweep", smoke_config, "--executor", "inline").status == 0
    uri, config = f"sqlite:///{tmp_path}/runs/mlflow.db", load_config(smoke_config)

    def wrong() -> int:
        outcome = Outcome(0)
        compare(config, undisturbed, uri, outcome)
        return len(outcome.wrong)

    assert wrong() == 0
    next(Path(config.storage, "trials").glob("*.parquet")).unlink()
    assert wrong() == 1
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("goodnet").experiment_id
    children = client.search_runs([experiment], "tags.`goodnet.complete` = 'done'")
    client.create_run(experiment, tags=children[0].data.tags)
    assert wrong() > 1
    client.delete_run(children[1].info.run_id)
    assert wrong() > 2
