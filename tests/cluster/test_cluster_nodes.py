"""A cluster of three machines, each with an address of its own: one dies amid a sweep, another joins."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_of_machines import BIN, NODE, PATIENCE, give_token, put_config, put_data, result_in, wait_for
from machines import ROOT, SHARED, Machine, Network, off_all
from mlflow import MlflowClient

from sweeps.records import TrialRecord
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

pytestmark = pytest.mark.cluster

SWEEP = {
    "orders": ["index", "l1", "reverse-index"],
    "layer_sets": ["last:1", "last:2", "last:3"],
    "x_thresholds": [2, 6, 10],
    "policies": ["best-first"],
}
TRIALS = 27
GOODNET = (str(BIN / "goodnet"),)


class Cluster:
    """A head without CPUs for trials, and workers with one each."""

    def __init__(self, shared: Path) -> None:
        self.shared, self.network = shared, Network(shared)
        self.all: list[Machine | Network] = [self.network]
        self.head = self.machine("head")
        self.head.run(NODE, "head", "--num-cpus", "0", timeout=PATIENCE)

    def machine(self, name: str) -> Machine:
        machine = Machine(name, self.shared)
        self.all.append(machine)
        self.network.join(machine)
        return machine

    def worker(self, name: str) -> Machine:
        machine = self.machine(name)
        give_token(self.head, machine)
        machine.run(NODE, "worker", f"{self.head.address}:6379", "--num-cpus", "1", timeout=PATIENCE)
        return machine

    def environment(self, address: str = "auto") -> dict[str, str]:
        return {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}

    def goodnet(self, *arguments: str, address: str = "auto") -> subprocess.CompletedProcess[str]:
        return self.head.run(
            *GOODNET, *arguments, env=self.environment(address), check=False, timeout=PATIENCE
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, smoke_files: Any) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    tree = {**put_data(folder, smoke_files), "sweep": SWEEP, "evaluator": "plain"}
    put_config(folder, "nodes.yaml", tree)
    # The same for this machine, where it is disturbed by nobody.
    here = {key: value.replace(SHARED, str(folder)) for key, value in tree["data"].items()}
    alone = {
        **tree,
        "badnet": tree["badnet"].replace(SHARED, str(folder)),
        "data": here,
        "storage": str(folder / "alone"),
    }
    put_config(folder, "alone.yaml", alone)
    return folder


@pytest.fixture(scope="module")
def cluster(shared: Path) -> Iterator[Cluster]:
    made = Cluster(shared)
    try:
        yield made
    finally:
        off_all(made.all)


def records(folder: Path) -> dict[str, TrialRecord]:
    """By key; without what the clock says."""
    store, storage = RecordStore(Storage(str(folder))), Storage(str(folder))
    found = [store.read(name.removesuffix(".parquet")) for name in storage.names("trials")]
    return {record.key: replace(record, seconds=0.0) for record in found if record is not None}


def test_a_worker_dies_and_another_joins(cluster: Cluster, shared: Path, goodnet: Any) -> None:
    config = f"{SHARED}/nodes.yaml"
    doomed = cluster.worker("doomed")
    cluster.worker("staying")

    own = cluster.goodnet(
        "sweep", config, "--set", "storage=/tmp/runs", address=f"{cluster.head.address}:6379"
    )
    assert own.returncode == 2 and "Traceback" not in own.stderr, own.stderr
    last = own.stderr.strip().splitlines()[-1]
    assert "shared storage: /tmp/runs on " in last and "is not the driver's" in last

    driver = cluster.head.start(*GOODNET, "sweep", config, "--json", env=cluster.environment())
    try:
        done = shared / "runs" / "trials"
        wait_for(
            "three trials done",
            lambda: (
                driver.poll() is not None or (len(list(done.glob("*.parquet"))) >= 3 and runs_trials(doomed))
            ),
        )
        assert driver.poll() is None, driver.communicate()
        before = len(list(done.glob("*.parquet")))
        doomed.off()
        newcomer = cluster.worker("newcomer")
        wait_for("a trial on the newcomer", lambda: driver.poll() is not None or runs_trials(newcomer))
        helped = driver.poll() is None
        out, err = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
    assert driver.returncode == 0, err
    result = result_in(out)
    assert (result["trials"], result["done"], result["failed"], result["skipped"]) == (TRIALS, TRIALS, 0, 0)
    assert before < TRIALS

    alone = goodnet("sweep", shared / "alone.yaml", "--executor", "inline", "--json")
    assert alone.status == 0, alone.err
    assert records(shared / "runs") == records(shared / "alone")
    assert result["hypervolume"] == alone.json["hypervolume"]
    client = MlflowClient(f"sqlite:///{shared}/runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "goodnet"]
    runs = client.search_runs([experiment.experiment_id])
    keys = [r.data.tags["goodnet.trial_key"] for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(keys) == len(set(keys)) == TRIALS
    print(
        f"worker killed after {before} of {TRIALS} trials, another joined and "
        f"{'had trials' if helped else 'came too late for a trial'}: {len(keys)} records and "
        "runs, none twice, equal to those of an undisturbed run"
    )


def runs_trials(machine: Machine) -> bool:
    """Does a worker process of Ray hold a trial there, or has it held one?"""
    return machine.run("pgrep", "-f", "ray::.*(ImplicitFunc|_trial)", check=False).returncode == 0


def test_addresses_where_no_cluster_answers(cluster: Cluster) -> None:
    empty = cluster.machine("empty")
    give_token(cluster.head, empty)
    for address, said in (("10.77.0.99:6379", "No route to host"), ("auto", "Could not find any running")):
        tried = empty.run(
            *GOODNET,
            "sweep",
            f"{SHARED}/nodes.yaml",
            "--set",
            "sweep.x_thresholds=[1]",
            env=cluster.environment(address),
            check=False,
            timeout=PATIENCE,
        )
        assert tried.returncode == 3 and "Traceback" not in tried.stderr, tried.stderr
        last = tried.stderr.strip().splitlines()[-1]
        assert last.startswith(f"goodnet: RAY_ADDRESS '{address}': ") and said in last, tried.stderr


def test_who_has_no_token_gets_no_answer(cluster: Cluster) -> None:
    stranger = cluster.machine("stranger")
    refused = stranger.run(NODE, "worker", f"{cluster.head.address}:6379", check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("no token: ")
    asked = cluster.head.run(
        str(BIN / "python"),
        "-c",
        "import urllib.request as u; u.urlopen('http://127.0.0.1:8265/api/jobs/')",
        check=False,
        timeout=PATIENCE,
    )
    assert "401" in asked.stderr, asked.stderr
    listening = cluster.head.run("ss", "-Hltn", "sport = :8265").stdout
    assert "127.0.0.1:8265" in listening and "0.0.0.0" not in listening.split("127.0.0.1:8265")[0]
