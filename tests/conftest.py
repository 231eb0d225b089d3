"""Fixtures that all tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sweeps.cli import app
from sweeps.inputs.embedded import EmbeddedFiles, make_embedded

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws at random it draws again the next time."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real networks and images, or a skip that says how to have it."""
    shared = Path(os.environ.get("GOODNET_SHARED", ROOT.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data at {shared / 'data'}; set GOODNET_SHARED to the folder above it")
    return shared / "data"


@pytest.fixture(scope="session")
def smoke_files(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedFiles:
    """The embedded default's tiny variation, made once: a real BadNet and its images."""
    pytest.importorskip("sklearn", reason="the digits of the embedded default come with goodnet[embedded]")
    return make_embedded(tmp_path_factory.mktemp("embedded"), smoke=True)


@pytest.fixture
def smoke_config(smoke_files: EmbeddedFiles, tmp_path: Path) -> Path:
    """A configuration file of a sweep of seconds, with its storage beside it."""
    tree = {
        "badnet": str(smoke_files.badnet),
        "data": {
            "clean_valid": str(smoke_files.clean_valid),
            "poisoned_valid": str(smoke_files.poisoned_valid),
            "clean_test": str(smoke_files.clean_test),
            "poisoned_test": str(smoke_files.poisoned_test),
        },
        "sweep": {
            "orders": ["index", "l1"],
            "layer_sets": ["last:1", "last:2"],
            "x_thresholds": [4, 10],
            "policies": ["margin"],
            "study": "none",  # half a second each
        },
        "storage": str(tmp_path / "runs"),
    }
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@dataclass(frozen=True)
class Said:
    """What a command left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def goodnet(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a ``goodnet`` command in this process."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        try:
            app([str(a) for a in arguments], standalone_mode=True)
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Said(status, out, err)

    return run
