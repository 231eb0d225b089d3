"""On the embedded default: a third of the grid's trials, chosen by Optuna, find what the grid finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.config.schema import Config, load_config
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep
from sweeps.sweep_result import SweepResult

DEFAULT = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"
SEEDS = range(5)


class Quiet(SweepEvents):
    """Watches nothing."""


def swept(config: Config) -> SweepResult:
    return run_sweep(config, open_storage(config.storage), make_executor("inline", config), Quiet())


@pytest.mark.slow
def test_optuna_needs_a_third_of_the_grid(tmp_path: Path) -> None:
    """For every seed at least 95 % of the grid's hypervolume. The sweeps share one storage, so what the
    grid has done is looked up; a search that asks for anything else would run it."""
    given = [f"storage={tmp_path}"]
    grid = swept(load_config(DEFAULT, given))
    assert {r.status for r in grid.records} == {"done"}
    third = len(grid.records) // 3
    for seed in SEEDS:
        found = swept(
            load_config(
                DEFAULT,
                [
                    *given,
                    "sweep.search=optuna",
                    f"sweep.samples={third}",
                    f"sweep.seeds=[{seed}]",
                ],
            )
        )
        assert len(found.records) == len({r.key for r in found.records}) == third
        share = found.frontier.hypervolume / grid.frontier.hypervolume
        print(f"seed {seed}: {third} of {len(grid.records)} trials, {share:.2%} of the hypervolume")
        assert share >= 0.95
