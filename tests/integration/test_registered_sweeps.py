"""Sweeps from Python, with an order and a policy that only the driver's process has registered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import goodnet
import prune_core.orders as orders
from prune_core.policies import registry
from sweeps.execution.travelling import Travelling


@pytest.fixture(autouse=True)
def mine() -> Iterator[None]:
    """Both are made here, so that a worker cannot find them by importing anything."""

    def last_first(given):
        return {n: -np.arange(given.model.layer(n).channels) for n in given.layers}

    def walk(evaluator, order, x):
        from prune_core.policies.registry import prune

        return prune("margin", x, evaluator, order)

    goodnet.register_order("last-first", last_first, needs="nothing", version="1")
    goodnet.register_policy("mine", walk, version="1")
    yield
    orders.OTHERS.forget("last-first")
    registry.OTHERS.forget("mine")


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_sweep_from_python(smoke_config: Path, tmp_path: Path, executor: str) -> None:
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {
        "orders": ["last-first", "reverse-index"],
        "layer_sets": ["last:2"],
        "x_thresholds": [10],
        "policies": ["mine", "margin"],
    }
    swept = goodnet.sweep(tree, executor=executor)
    rows = {(row["order"], row["policy"]): row for row in swept.trials()}
    assert len(rows) == 4 and {row["status"] for row in rows.values()} == {"done"}
    # The order is reverse-index by another name, the policy margin: so is what they find.
    for what in ("channels_pruned", "valid_clean_accuracy", "test_attack_success"):
        assert len({row[what] for row in rows.values()}) == 1
    points = swept.frontier()
    assert points and {"order", "x", "mask", "test_clean_accuracy"} <= set(points[0])
    picked = swept.pick(knee=True, out=tmp_path / "out")
    told = swept.report(out=tmp_path / "page.html", picked=tmp_path / "out")
    assert told["chosen"]["point"] == picked["point"] and len(told["files"]) == len(picked["files"]) + 1
    assert Path(picked["mask_file"]).is_file() and picked["point"]["trial_key"] == points[0]["trial_key"]
    assert goodnet.sweep(tree, executor=executor).result.skipped == 4
    with pytest.raises(goodnet.InputError, match="no criteria to pick by"):
        swept.pick(out=tmp_path / "out")


def test_what_cannot_travel_is_one_line_before_the_sweep() -> None:
    lock = threading.Lock()

    def locked(given):
        with lock:
            return {}

    goodnet.register_order("locked", locked, version="1")
    try:
        config = goodnet_config(["locked"])
        with pytest.raises(goodnet.InputError, match="order 'locked' is registered in this process alone"):
            Travelling.of(config)
    finally:
        orders.OTHERS.forget("locked")
    assert Travelling.of(goodnet_config(["index"])).packed == ()


def goodnet_config(names: list[str]):
    from sweeps.config.schema import make_config

    return make_config({"name": "a", "badnet": "embedded", "sweep": {"orders": names}}, "a test").sweep


def test_what_is_no_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(goodnet.InputError, match="config is a int; expected the path"):
        goodnet.sweep(7)
    with pytest.raises(goodnet.InputError, match="no such file"):
        goodnet.sweep(tmp_path / "none.yaml")
    with pytest.raises(goodnet.InputError, match="config: unknown key 'sweeep'; did you mean 'sweep'"):
        goodnet.sweep({"badnet": "embedded", "sweeep": {}})
    with pytest.raises(goodnet.InputError, match="are for a file"):
        goodnet.sweep({"badnet": "embedded"}, "sweep.seeds=[0]")
