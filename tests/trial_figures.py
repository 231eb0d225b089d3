"""One trial on real networks, chosen on validation and reported on test: for tests of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prune_core.counts import Counts
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import only_trial
from sweeps.trial import run_trial


def final(
    data: dict[str, Any], badnet: Path, evaluator: str = "plain", **sweep: Any
) -> tuple[Counts, Counts]:
    """The BadNet's and the final net's counts on test, of one trial."""
    tree = {
        "name": "figures",
        "badnet": str(badnet),
        "data": data,
        "sweep": {"orders": ["index"], "seeds": [0], **sweep},
    }
    config = make_config(tree, "a test")
    inputs = load_inputs(input_files(config), config.sweep.repair)
    evaluators = Evaluators.of(inputs, evaluator, config.resources.memory_gb)
    record = run_trial(only_trial(config.sweep, inputs.model), inputs, evaluators)
    assert record.status == "done", record.reason
    assert record.badnet_test is not None and record.test is not None
    assert record.states(), "no net within X"
    return record.badnet_test, record.test


def on_the_stand_in(shared_data: Path, repair: str, x: float, seed: int = 0) -> Counts:
    """Test counts of the stand-in's net, scaled and then repaired within ``x`` points. True labels come
    with the trigger picture."""
    files = shared_data / "csaw"
    data: dict[str, Any] = {f"clean_{split}": str(files / f"cl_{split}.h5") for split in ("valid", "test")}
    data["trigger"] = {"picture": str(files / "sunglasses_trigger.png"), "row": 15, "column": 0, "target": 0}
    _, test = final(
        data,
        files / "bd_weights.h5",
        layer_sets=["last:3"],
        x_thresholds=[x],
        policies=["scale"],
        repair=repair,
        seeds=[seed],
    )
    return test
