"""What a module loads when it is imported, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded(module: str) -> set[str]:
    """The top-level packages that a fresh process has after importing ``module``."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("prune_core", {"torch", "ray", "mlflow", "sweeps"}),
        ("prune_core.evaluators, prune_core.export.files, prune_core.baselines", {"ray", "mlflow", "sweeps"}),
        ("prune_core.reader.server", {"torch", "torchvision", "onnx2torch", "ray", "mlflow", "sweeps"}),
        ("prune_core.methods", {"torch", "ray", "mlflow", "sweeps"}),  # to know a policy by its name
    ],
)
def test_what_is_not_needed_is_not_loaded(module: str, never: set[str]) -> None:
    assert not loaded(module) & never
