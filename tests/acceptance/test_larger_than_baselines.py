"""Ours beside four published defences on the stand-in: hypervolume on validation, one X for all."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from prune_core.baselines import BASELINES
from sweeps.config.schema import load_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.results import hypervolumes
from sweeps.trial import run_trial

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def part(name: str) -> ModuleType:
    return importlib.import_module(f"prune_core.baselines.{name}")


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer shares of Fine-Pruning and fewer places where masks are cut; their training as it is."""
    monkeypatch.setattr(part("fine_pruning"), "SHARES", (0.5, 0.9))
    monkeypatch.setattr(part("neurons"), "GROWTH", 2)


@pytest.mark.usefixtures("shorter")
def test_pruning_alone_has_the_larger_hypervolume(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of docs/baselines.md, pruning and baselines only; the page has all of it, and
    the residual net, whose baselines take too long for a test."""
    monkeypatch.setenv("GOODNET_SHARED", str(shared_data.parent))
    config = load_config(CONFIGS / "baselines-csaw.yaml")
    inputs = load_inputs(input_files(config), config.sweep.repair)
    evaluators = Evaluators.of(inputs, "incremental", config.resources.memory_gb)
    trials = [t for t in trials_of(config.sweep, inputs.model) if t.policy != "scale"]
    records = [run_trial(trial, inputs, evaluators) for trial in trials]
    assert [r.reason for r in records if r.status != "done"] == []
    volumes = hypervolumes(records)
    ours = volumes.pop("pruning")
    assert volumes and set(volumes) <= set(BASELINES)
    assert all(ours > theirs for theirs in volumes.values()), (ours, volumes)
