"""`ray up`, `ray submit`, `ray job submit` and `ray down`, over ssh, with the files of infra/."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_of_machines import BIN, PATIENCE, put_config, put_data, result_in, wait_for
from machines import ROOT, SHARED, Machine

pytestmark = pytest.mark.cluster

SSHD = """
Port 22
ListenAddress 127.0.0.1
HostKey {ssh}/host
AuthorizedKeysFile {ssh}/key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
"""
SSH = "/root/ssh"
JOBS = "http://127.0.0.1:8265"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, smoke_files: Any) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    sweep = {
        "orders": ["index", "l1"],
        "layer_sets": ["last:1", "last:2"],
        "x_thresholds": [4, 10],
        "policies": ["margin"],
    }
    put_config(folder, "submitted.yaml", {**put_data(folder, smoke_files), "sweep": sweep})
    return folder


@pytest.fixture(scope="module")
def machine(shared: Path) -> Iterator[Machine]:
    """A machine with an ssh server on its loopback and nothing of goodnet on it."""
    made = Machine("headquarters", shared)
    try:
        made.run("mkdir", "-m", "700", SSH)
        for name in ("host", "key"):
            made.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{SSH}/{name}")
        made.run("tee", f"{SSH}/sshd_config", input=SSHD.format(ssh=SSH))
        made.run("/usr/sbin/sshd", "-f", f"{SSH}/sshd_config")
        yield made
    finally:
        made.off()


@pytest.fixture(scope="module")
def cluster(shared: Path) -> str:
    """infra/local.yaml with the machine's address and key. Its environment is a thin one over that of the
    tests, in place of some gigabytes of downloads; the rest of the set-up is as it stands there."""
    tree = yaml.safe_load((ROOT / "infra" / "local.yaml").read_text())
    tree["provider"].update(head_ip="127.0.0.1", worker_ips=[])
    tree["auth"] = {"ssh_user": "root", "ssh_private_key": f"{SSH}/key"}
    tree["setup_commands"].insert(0, f"bash {SHARED}/thin-environment {BIN}")
    (shared / "thin-environment").write_text(
        """
set -e
cd ~/goodnet
"$1/python" -m venv --without-pip .venv
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$1/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/packages.pth"
.venv/bin/python -m pip install -q --no-index --no-deps --no-build-isolation -e .
printf '#!/bin/sh\\nexec %s -m ray.scripts.scripts "$@"\\n' "$PWD/.venv/bin/python" >.venv/bin/ray
chmod +x .venv/bin/ray
touch .venv/ready
"""
    )
    return put_config(shared, "cluster.yaml", tree)


def here(machine: Machine, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """From the root of the checkout, as a person would."""
    return machine.run(
        "env",
        "-C",
        str(ROOT),
        *command,
        check=check,
        timeout=PATIENCE,
        env={"GOODNET_BIN": str(BIN), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **env},
    )


def test_a_sweep_by_ray_submit_and_by_ray_job_submit(machine: Machine, cluster: str, shared: Path) -> None:
    config = f"{SHARED}/submitted.yaml"
    submitted = here(machine, "infra/submit.sh", cluster, config, "--json")
    result = result_in(submitted.stdout)
    assert (result["trials"], result["done"], result["failed"]) == (8, 8, 0)
    assert len(list((shared / "runs" / "trials").glob("*.parquet"))) == 8
    assert "ok   worker: shared storage" in submitted.stdout  # the doctor was there first
    assert machine.run("pgrep", "-x", "raylet").stdout.count("\n") == 1

    # The package that ran is the one that was sent, whatever `python` a login shell finds.
    found = machine.run("bash", "--login", "-c", "python -c 'import sweeps; print(sweeps.__file__)'")
    assert found.stdout.strip() == "/root/goodnet/sweeps/__init__.py"

    ray = str(BIN / "ray")
    job = here(
        machine,
        ray,
        "job",
        "submit",
        "--address",
        JOBS,
        "--",
        "python",
        "/root/goodnet/infra/job.py",
        "/root/submitted.yaml",
        "--set",
        "sweep.x_thresholds=[2]",
    )
    assert "succeeded" in job.stdout and "4 trials: 4 done" in job.stdout, job.stdout
    assert len(list((shared / "runs" / "trials").glob("*.parquet"))) == 12

    lost = here(
        machine,
        ray,
        "submit",
        cluster,
        "infra/job.py",
        "--",
        config,
        "--set",
        "data.clean_valid=data/not-sent.h5",
        check=False,
    )
    assert lost.returncode != 0 and "Traceback" not in lost.stdout
    assert "FAIL data.clean_valid: data/not-sent.h5: no such file" in lost.stdout

    here(machine, ray, "down", "-y", cluster)
    wait_for("an end of Ray", lambda: machine.run("pgrep", "-x", "raylet", check=False).returncode == 1)
