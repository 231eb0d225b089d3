"""A cluster's nodes are compared with the driver before a sweep; what is wrong is said by node."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from prune_core.errors import Unavailable
from sweeps.doctor import nodes
from sweeps.doctor.nodes import diagnose_nodes
from sweeps.storage.storage import open_storage


def by_name(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in checks}


def test_equal_nodes_are_said_once(tmp_path) -> None:
    def two(function: Any) -> dict[str, Any]:
        return {"10.0.0.1": function(), "10.0.0.2": function()}

    found = by_name(diagnose_nodes(open_storage(str(tmp_path / "runs")), two))
    assert all(check["ok"] for check in found.values()), found
    assert {"worker: versions", "worker: packages", "worker: storage"} <= set(found)
    assert found["worker: shared storage"]["detail"].startswith("10.0.0.1, 10.0.0.2: ")
    assert not list((tmp_path / "runs").iterdir())  # what was left to be seen is gone


def test_another_version_is_named_with_its_node(tmp_path, monkeypatch) -> None:
    here = nodes.versions()

    def two(function: Any) -> dict[str, Any]:
        answers = {"10.0.0.1": function()}
        monkeypatch.setattr(nodes, "versions", lambda: {**here, "torch": "1.0", "algorithm": "0"})
        return {**answers, "10.0.0.2": function()}

    found = by_name(diagnose_nodes(open_storage(str(tmp_path / "runs")), two, whole=False))
    wrong = found["worker 10.0.0.2: versions"]
    assert not wrong["ok"]
    assert f"torch 1.0 (driver: {here['torch']})" in wrong["detail"] and "algorithm 0" in wrong["detail"]
    assert found["worker: versions"]["ok"]  # the other one


def test_a_folder_that_is_not_shared(tmp_path) -> None:
    """The second node has a folder of its own at the same place, as with a disk not mounted."""
    runs = tmp_path / "runs"

    def two(function: Any) -> dict[str, Any]:
        answers = {"10.0.0.1": function()}
        runs.rename(tmp_path / "of the driver")
        try:
            answers["10.0.0.2"] = function()
        finally:
            shutil.rmtree(runs, ignore_errors=True)
            (tmp_path / "of the driver").rename(runs)
        return answers

    found = by_name(diagnose_nodes(open_storage(str(runs)), two, whole=False))
    assert found["worker: shared storage"]["ok"]
    wrong = found["worker 10.0.0.2: shared storage"]
    assert not wrong["ok"] and "a file that the driver wrote is not there" in wrong["detail"]


def test_a_file_of_a_node_that_the_driver_does_not_see(tmp_path) -> None:
    runs = tmp_path / "runs"

    def one(function: Any) -> dict[str, Any]:
        answer = function()
        (runs / answer.left).unlink()
        return {"10.0.0.1": answer}

    wrong = by_name(diagnose_nodes(open_storage(str(runs)), one))["worker 10.0.0.1: shared storage"]
    assert not wrong["ok"] and "the driver does not see" in wrong["detail"]


def test_a_node_without_the_package_and_one_that_is_lost(tmp_path) -> None:
    def two(function: Any) -> dict[str, Any]:
        return {
            "10.0.0.1": ModuleNotFoundError("No module named 'sweeps'"),
            "10.0.0.2": TimeoutError("no answer"),
        }

    found = by_name(diagnose_nodes(open_storage(str(tmp_path / "runs")), two))
    assert found["worker 10.0.0.1: node"]["detail"].startswith("goodnet, or this version of it, is not")
    assert found["worker 10.0.0.2: node"]["detail"] == "TimeoutError: no answer"


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:9", "Connection refused"), ("no-such-host.invalid:6379", "not known")],
)
def test_no_cluster_at_the_address_is_one_line(address, said, monkeypatch) -> None:
    from sweeps.execution.ray_cluster import connected

    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(Unavailable, match=f"RAY_ADDRESS {address!r}: .*{said}"), connected():
        pass


def test_a_ray_that_does_not_start_is_one_line(goodnet, smoke_config, monkeypatch) -> None:
    """On a busy machine Ray may give up; it is asked twice, then the sweep says what else there is."""
    import ray

    asked = []

    def slow(**options: object) -> None:
        asked.append(options)
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", slow)
    said = goodnet("sweep", smoke_config)
    assert said.status == 3 and len(asked) == 2 and "Traceback" not in said.err
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("goodnet: Ray did not start on this machine in 2 attempts: The current node timed")
    assert "--executor inline" in last


def test_the_doctor_asks_a_real_worker(goodnet, smoke_config, tmp_path) -> None:
    said = goodnet("doctor", smoke_config, "--json")
    assert said.status == 0, said.out
    found = by_name(said.json["checks"])
    assert found["worker: versions"]["ok"] and found["worker: shared storage"]["ok"]
    assert not list((tmp_path / "runs").glob(".nodes*"))
