"""What is installed only where wanted: Ray, MLflow, pictures, the digits of the embedded default."""

from __future__ import annotations

import importlib.util

from prune_core.errors import InputError

# The packages of each extra that are imported; as in pyproject.toml.
EXTRAS = {
    "sweep": ("ray", "optuna"),
    "tracking": ("mlflow",),
    "plots": ("matplotlib", "plotly"),
    "embedded": ("sklearn",),
}


def installed(extra: str) -> bool:
    """Whether all packages of an extra are there; none of them is imported."""
    return all(importlib.util.find_spec(package) is not None for package in EXTRAS[extra])


def command(extra: str) -> str:
    """What installs an extra."""
    return f"pip install 'goodnet[{extra}]'"


def need(extra: str, what: str) -> None:
    """Raises InputError, in which ``what`` needs the extra, unless it is installed."""
    missing = [package for package in EXTRAS[extra] if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"{what} needs {' and '.join(missing)}: {command(extra)}")
