"""The greatest margins that any image gives a class."""

from __future__ import annotations

import pytest
import torch
from shortcut_net import CLASSES, SIDE, TARGET, images_of, net_of

from prune_core.inversion import plan
from prune_core.inversion.margins import greatest_margins
from prune_core.inversion.scan import stages_of

ENDS = (torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def climbed(shortcut: bool) -> list[float]:
    targets = torch.arange(CLASSES).repeat_interleave(2)
    generator = torch.Generator().manual_seed(0)
    found = greatest_margins(net_of(shortcut), (1, SIDE, SIDE), targets, ENDS, 50, generator)
    return found.view(CLASSES, 2).max(1).values.tolist()


def test_in_closed_form() -> None:
    """A class is its column, ten logits when all of it is white and all else black; the target gains
    20 (2 - 0.1) more by the shortcut, whose two corners are columns 0 and 7 and give these 10 / 8 each. A
    climb comes near that, and never beyond."""
    assert all(8.5 < margin < 10.01 for margin in climbed(False))
    with_it = climbed(True)
    others = [margin for one, margin in enumerate(with_it) if one != TARGET]
    assert 45 < with_it[TARGET] < 46.76
    assert all(8.5 < margin < 10.01 for margin in others)


def test_of_many_classes_the_easiest_are_searched_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        ("scan", "SCREENED", 4),
        ("stages", "EASIEST", 2),
        ("stages", "OTHERS", 3),
    ):
        monkeypatch.setattr(f"prune_core.inversion.{module}.{name}", value)
    stages = stages_of(net_of(True), images_of(), kinds=["patch"])
    assert stages.plan.screened and plan.SCREENED > 4
    found = stages._margins()
    assert len(found.targets) == 5 and TARGET in found.targets
    assert found.anomalies[TARGET] == max(found.anomalies.values()) > 5
