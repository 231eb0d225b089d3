"""What can be known of infra/ without a cloud, Kubernetes or Docker: schemas, linters, dry runs."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps.config.schema import make_config

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
PROJECT = (ROOT / "pyproject.toml").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
LISTED = re.search(r"^packages = .*", PROJECT, re.M)[0]
PACKAGES = {name.split(".")[0] for name in re.findall(r'"([\w.]+)"', LISTED)}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INFRA / name).read_text()))


def said(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("name", ["local.yaml", "aws.yaml", "gcp.yaml"])
def test_ray_takes_the_cluster_files(name) -> None:
    (tree,) = documents(name)
    validate_config(prepare_config(tree))
    with pytest.raises(Exception, match="dockr"):
        validate_config(prepare_config({**tree, "dockr": {}}))
    head, worker = tree["head_start_ray_commands"][-1], tree["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head  # whoever reaches it can run code
    by_image = "-e RAY_AUTH_MODE=token" in tree.get("docker", {}).get("run_options", [])
    assert by_image or all("RAY_AUTH_MODE=token" in command for command in (head, worker))
    assert tree["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_what_is_sent_to_machines_of_ones_own_is_all_that_the_package_needs() -> None:
    sent = {path for path in documents("local.yaml")[0]["file_mounts"].values() if "~" not in path}
    assert PACKAGES | {"pyproject.toml", "README.md", "Makefile", "infra"} <= sent
    assert all((ROOT / path).exists() for path in sent)
    tracked = set(said("git", "ls-files").stdout.split())
    assert all(any(t == path or t.startswith(f"{path}/") for t in tracked) for path in sent)


def test_heads_stay_and_workers_are_cheap() -> None:
    (aws,), (gcp,) = documents("aws.yaml"), documents("gcp.yaml")
    kinds = {tree["provider"]["type"]: tree["available_node_types"] for tree in (aws, gcp)}
    assert kinds["aws"]["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["aws"]["head"]["node_config"]
    assert kinds["gcp"]["gpu"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "scheduling" not in kinds["gcp"]["head"]["node_config"]


# Of KubeRay's types (ray-operator/apis/ray/v1): RayJobSpec, RayClusterSpec, HeadGroupSpec, WorkerGroupSpec.
RAYJOB = {
    "entrypoint",
    "submissionMode",
    "submitterConfig",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
}
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
HEAD = {"rayStartParams", "template"}
WORKERS = HEAD | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def test_kubernetes_takes_the_job() -> None:
    settings, claim, job = documents("rayjob.yaml")
    for tree in (settings, claim):
        kubernetes_validate.validate(tree, "1.34", strict=True)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(spec) <= RAYJOB and set(cluster) <= CLUSTER and set(cluster["headGroupSpec"]) <= HEAD
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(set(group) <= WORKERS for group in groups[1:])
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        template = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "x"},
            "template": group["template"],
        }
        kubernetes_validate.validate(template, "1.34", strict=True)
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted["storage"] == "/storage" and set(mounted) == {v["name"] for v in pod["volumes"]}
    with pytest.raises(kubernetes_validate.ValidationError):
        wrong = {**template, "template": {"spec": {"continers": []}}}
        kubernetes_validate.validate(wrong, "1.34", strict=True)
    assert cluster["rayVersion"] == re.search(r"^ray==([\d.]+)", CONSTRAINTS, re.M)[1]
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["entrypoint"].endswith("job.py /etc/goodnet/sweep.yaml") and spec["backoffLimit"] > 0


def test_the_sweep_of_the_job_is_one() -> None:
    tree = yaml.safe_load(documents("rayjob.yaml")[0]["data"]["sweep.yaml"])
    config = make_config({"name": "sweep", **tree}, "rayjob.yaml")
    assert config.storage.startswith("/storage/") and (config.badnet or "").startswith("/storage/")


def test_the_dockerfile_is_well_made() -> None:
    linted = said(Path(sys.executable).parent / "hadolint", "infra/Dockerfile")
    assert linted.returncode == 0, linted.stdout
    text = (INFRA / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()}
    assert copied >= PACKAGES | {"pyproject.toml", "README.md", "infra"}
    let_in = set(re.findall(r"^!(.*)", (INFRA / "Dockerfile.dockerignore").read_text(), re.M))
    assert let_in == copied
    assert re.findall(r"^USER (.*)", text, re.M)[-1] == "1000"
    assert all(
        ":" in image and "latest" not in image or image == "base"
        for image in re.findall(r"^FROM (\S+)", text, re.M)
    )


def test_services_are_pinned_and_listen_on_loopback() -> None:
    (tree,) = documents("compose.yaml")
    images = [s["image"] for s in tree["services"].values() if "image" in s]
    assert all(re.search(r":[\w.-]*\d", image) for image in images), images
    assert [s.get("ports") for s in tree["services"].values() if s.get("ports")] == [
        ["${LISTEN:-127.0.0.1}:5000:5000"]
    ]
    text = (INFRA / "compose.yaml").read_text()
    assert not re.search(r"PASSWORD: (?!\$\{\w+:\?)", text)  # none has a default


@pytest.mark.cluster
def test_docker_compose_takes_the_services() -> None:
    """By Debian's docker-compose, which needs no Docker for this."""
    checked = said(
        "docker-compose",
        "-f",
        "infra/compose.yaml",
        "config",
        "-q",
        POSTGRES_PASSWORD="x",
        S3_PASSWORD="12345678",
    )
    assert checked.returncode == 0, checked.stderr
    unset = {key: value for key, value in os.environ.items() if not key.endswith("_PASSWORD")}
    refused = subprocess.run(
        ["docker-compose", "-f", "infra/compose.yaml", "config", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=unset,
    )
    assert refused.returncode != 0 and "set POSTGRES_PASSWORD" in refused.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["infra/submit.sh"], "infra/submit.sh infra/local.yaml"),
        (
            ["infra/submit.sh", "infra/none.yaml", "configs/smoke.yaml"],
            "goodnet: infra/none.yaml: no such file",
        ),
        (["infra/node.sh"], "infra/node.sh worker HEAD:PORT"),
    ],
)
def test_scripts_say_what_they_expect(command, message) -> None:
    done = said("bash", *command)
    assert done.returncode == 2 and message in done.stderr


def test_make_submit_runs_the_script() -> None:
    plan = said("make", "-n", "submit", "CLUSTER=infra/aws.yaml", "CONFIG=configs/csaw.yaml", "VENV=.venv")
    assert 'infra/submit.sh "infra/aws.yaml" configs/csaw.yaml' in plan.stdout


def job(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(INFRA / "job.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **env},
    )


def test_the_job_needs_an_installed_package(tmp_path) -> None:
    done = job(tmp_path, "sweep.yaml")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("goodnet is not installed on the head")


def test_the_job_asks_the_doctor_first(tmp_path) -> None:
    """With a stand-in for the installed command, that notes how it is called."""
    script = tmp_path / "goodnet" / ".venv" / "bin" / "goodnet"
    script.parent.mkdir(parents=True)
    script.write_text(
        '#!/bin/sh\necho "$PWD $RAY_ADDRESS $*"\nif [ "$1" = doctor ]; then exit $SICK; fi\nexit 7\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    well = job(tmp_path, "x.yaml", "--json", SICK="0")
    assert well.returncode == 7
    assert well.stderr == f"{tmp_path}/goodnet auto doctor x.yaml\n"
    assert well.stdout == f"{tmp_path}/goodnet auto sweep x.yaml --json\n"
    sick = job(tmp_path, "x.yaml", SICK="2", RAY_ADDRESS="10.0.0.1:6379")
    assert sick.returncode == 2 and not sick.stdout and "10.0.0.1:6379 doctor" in sick.stderr
