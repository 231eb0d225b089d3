"""What the tests of a cluster share: machines with data and ssh, what infra/ starts on them, Ray's token."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from machines import ROOT, SHARED, Machine

from sweeps.inputs.embedded import EmbeddedFiles

BIN = ROOT / ".venv" / "bin"
NODE = str(ROOT / "infra" / "node.sh")
TOKEN = "/root/.ray/auth_token"
PATIENCE = 900.0  # nothing here is a test of speed


def put_data(shared: Path, files: EmbeddedFiles) -> dict[str, Any]:
    """Copies BadNet and images into the folder that the machines share. Returns the configuration that
    names them, as the machines see them."""
    (shared / "data").mkdir()
    names = {}
    for field in ("badnet", "clean_valid", "poisoned_valid", "clean_test", "poisoned_test"):
        path = getattr(files, field)
        shutil.copy(path, shared / "data" / path.name)
        names[field] = f"{SHARED}/data/{path.name}"
    return {"badnet": names.pop("badnet"), "data": names, "storage": f"{SHARED}/runs"}


def put_config(shared: Path, name: str, tree: dict[str, Any]) -> str:
    """Returns the path at which the machines see it."""
    (shared / name).write_text(yaml.safe_dump(tree))
    return f"{SHARED}/{name}"


def result_in(output: str) -> dict[str, Any]:
    """The JSON object of a ``goodnet`` command among what ssh and Ray have said around it."""
    lines = [line.strip() for line in output.splitlines() if line.strip().startswith('{"')]
    assert lines, output
    return dict(json.loads(lines[-1]))


def give_token(head: Machine, other: Machine) -> None:
    token = head.run("cat", TOKEN).stdout
    other.run("bash", "-c", f"umask 077; mkdir -p /root/.ray; printf %s {token} >{TOKEN}")


def wait_for(what: str, true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} seconds: {what}"
        time.sleep(0.1)
