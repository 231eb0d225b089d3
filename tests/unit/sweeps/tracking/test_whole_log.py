"""MLflow shows of every trial what its record says, on the way and at the end.

The embedded default's own sweep, with kills, is looked at by ``acceptance/test_default_sweep.py``.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow_log import check_log

from sweeps.storage.manifest import read_manifest, read_records
from sweeps.storage.storage import Storage

# A walk, others that never ask for margins, nets made otherwise.
POLICIES = ["margin", "best-first", "plateau", "attack-success", "in-order", "scale", "baseline:clp"]


def checked(place: Path, name: str) -> None:
    storage = Storage(str(place))
    records = read_records(storage, read_manifest(storage, name).trials)
    check_log(f"sqlite:///{place}/mlflow.db", records, name)


def age(client: MlflowClient) -> set[str]:
    """All runs of trials as version 0.1 left them: steps were channels pruned, which run backwards where one
    is given back, and no tag told what they are."""
    place = [client.get_experiment_by_name("goodnet").experiment_id]
    runs = client.search_runs(place, "tags.`goodnet.complete` = 'done'")
    for run in runs:
        client.delete_tag(run.info.run_id, "goodnet.log")
        client.log_metric(run.info.run_id, "clean_accuracy", 0.125, run.info.start_time, step=10**6)
    return {run.info.run_id for run in runs}


def test_every_trial_ends_in_mlflow_as_in_its_record(goodnet, smoke_config, tmp_path) -> None:
    """Also where version 0.1 has logged it: the trial gets a new run."""
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {"orders": ["l1"], "layer_sets": ["last:2"], "x_thresholds": [10], "policies": POLICIES}
    smoke_config.write_text(yaml.safe_dump(tree))
    swept = goodnet("sweep", smoke_config, "--executor", "inline", "--json")
    assert swept.status == 0, swept.err
    runs, first = tmp_path / "runs", swept.json
    checked(runs, first["sweep"])

    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    before = age(client)
    again = goodnet("sweep", smoke_config, "--executor", "inline", "--json").json
    assert (again["done"], again["mlflow_run_id"]) == (0, first["mlflow_run_id"])
    checked(runs, first["sweep"])
    after = age(client)
    assert len(after) == len(before) == first["trials"] and not after & before
