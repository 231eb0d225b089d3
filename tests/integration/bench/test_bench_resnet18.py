"""The ResNet-18 benchmark runs in small, and a trial that was cut off goes on to the same end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.nets import resnet18


@pytest.mark.slow
def test_in_small_and_cut_off(tmp_path: Path) -> None:
    size = resnet18.Size(4, 40, 40, 20, 4, screen=4, rank_images=0, memory_gb=2.0, seconds=0.0)
    cut = resnet18.measured(size, tmp_path / "a", ("best-first",))["best-first"]
    size = replace(size, seconds=600.0)
    found = resnet18.measured(size, tmp_path / "a")
    assert not cut["finished"] and set(found) == set(resnet18.PARTS)
    whole, alone = found["best-first"], resnet18.measured(size, tmp_path / "b", ("best-first",))["best-first"]
    assert whole["calls"] == 2 and whole["finished"] and whole["steps"] == whole["on_all"] > 0
    for name in ("steps", "pruned", "badnet", "valid", "hypervolume", "layers"):
        assert whole[name] == alone[name]
    assert len(found["profile"]["question"]) == 20 and found["profile"]["evaluation"] > 0
    assert found["plain"]["finished"] and found["prefix"]["points"] > 0
