"""What a command imports, counted in modules rather than in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "numpy",
    "pydantic",
    "pyarrow",
    "onnx",
    "h5py",
    "rich",
    "omegaconf",
    "pandas",
    "torchvision",
)
HEAVY += ("mlflow", "ray", "optuna", "matplotlib", "plotly", "sklearn", "torch._dynamo")


def loaded(code: str) -> set[str]:
    """The heavy modules that are there once ``code`` has run in a process of its own."""
    script = (
        f"import atexit, json, sys\n"
        f"atexit.register(lambda: print(json.dumps([m for m in {HEAVY} if m in sys.modules])))\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: object) -> set[str]:
    """Of a command that ends well."""
    return loaded(f"from sweeps.cli import app\napp({[str(a) for a in arguments]})")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option: str) -> None:
    assert command(option) == set()


def test_help_of_a_command_loads_nothing_heavy() -> None:
    assert command("sweep", "--help") <= {"pydantic"}  # typer looks whether an option is one of its types


def test_a_frontier_is_read_without_torch() -> None:
    assert loaded("import sweeps.commands, sweeps.looking") <= {"numpy", "pydantic", "pyarrow", "omegaconf"}


def test_a_network_is_read_without_torchvision() -> None:
    """It takes as long to import as torch does, and no network that is read needs it."""
    found = loaded("from prune_core.model.onnx2torch_import import load_onnx2torch\nload_onnx2torch()")
    assert "torch" in found and not found & {"torchvision", "torch._dynamo"}


def test_a_converter_that_is_imported_first_needs_no_torchvision() -> None:
    """As tools do that import every module of a package."""
    assert "torchvision" not in loaded("import prune_core.model.converters.activations")


def test_torchvision_is_there_for_who_wants_it() -> None:
    found = loaded(
        "from prune_core.model.onnx2torch_import import load_onnx2torch\nload_onnx2torch()\n"
        "import sys\nassert 'torchvision' not in sys.modules\n"
        "from onnx2torch.node_converters.roialign import roi_align\n"
        "assert roi_align.__name__ == 'roi_align'"
    )
    assert "torchvision" not in found


@pytest.mark.slow
def test_a_sweep_with_nothing_to_do(smoke_config: Path) -> None:
    """After a call that logged all, the next asks neither Ray nor MLflow, and draws nothing."""
    first = command("sweep", smoke_config, "--executor", "inline")
    assert "mlflow" in first
    again = command("sweep", smoke_config)
    assert "torch" in again
    assert not again & {"mlflow", "ray", "matplotlib", "plotly", "sklearn", "pandas", "torchvision"}


@pytest.mark.slow
def test_mlflow_that_lost_a_sweep_is_asked_again(smoke_config: Path) -> None:
    command("sweep", smoke_config, "--executor", "inline")
    database = smoke_config.parent / "runs" / "mlflow.db"
    database.unlink()
    assert "mlflow" in command("sweep", smoke_config, "--executor", "inline")
    assert database.exists()
