"""An object store that is full, in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_of_machines import BIN, NODE, PATIENCE, put_config, put_data, result_in, wait_for
from machines import ROOT, SHARED, Machine

pytestmark = pytest.mark.cluster

HOG = """
import os, time, numpy, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
kept = []
try:
    while True:
        kept.append(ray.put(numpy.ones(4 << 20, dtype="uint8")))
except ray.exceptions.RayError as error:
    print("full", os.getpid(), type(error).__name__, flush=True)
time.sleep(900)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, smoke_files: Any) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    sweep = {
        "orders": ["index"],
        "layer_sets": ["last:1", "last:2"],
        "x_thresholds": [4, 10],
        "policies": ["margin"],
    }
    put_config(folder, "full.yaml", {**put_data(folder, smoke_files), "sweep": sweep})
    return folder


@pytest.fixture(scope="module")
def machine(shared: Path) -> Iterator[Machine]:
    made = Machine("small", shared)
    try:
        # A small disk for what does not fit into memory; Ray's logs and the driver's files lie elsewhere.
        made.run("bash", "-c", "mkdir /mnt/spill && mount -t tmpfs -o size=100m tmpfs /mnt/spill")
        made.run(
            NODE,
            "head",
            "--num-cpus",
            "2",
            "--object-store-memory",
            "80000000",
            "--object-spilling-directory",
            "/mnt/spill",
            timeout=PATIENCE,
            env={"NODE_IP": "127.0.0.1"},
        )
        yield made
    finally:
        made.off()


def test_a_sweep_waits_for_a_full_object_store(machine: Machine, shared: Path) -> None:
    """Full in memory and on the disk that Ray takes then; until whoever filled it ends."""
    env = {"RAY_ADDRESS": "auto", "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}
    hog = machine.start(str(BIN / "python"), "-c", HOG, env=env)
    driver = None
    try:
        assert hog.stdout is not None
        # Ray speaks on the same stream.
        lines = (line.split() for line in hog.stdout)
        number = next(words[1] for words in lines if words[:1] == ["full"])
        sweep = f"exec {BIN}/goodnet sweep {SHARED}/full.yaml --json 2>{SHARED}/err"
        driver = machine.start("bash", "-c", sweep, env=env)
        said = shared / "err"
        wait_for(
            "a line about it",
            lambda: (
                driver.poll() is not None
                or (said.exists() and "Ray's object store is full (" in said.read_text())
            ),
        )
        assert driver.poll() is None, said.read_text()
        machine.run("kill", "-9", number)
        out, _ = driver.communicate(timeout=PATIENCE)
    finally:
        for process in (hog, driver):
            if process is not None:
                process.kill()
    result = result_in(out)
    assert driver.returncode == 0, said.read_text()
    assert "Traceback" not in said.read_text()  # Ray's own processes write one when the disk is full
    assert (result["trials"], result["done"], result["failed"]) == (4, 4, 0)
