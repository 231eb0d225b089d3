"""What is said of low attack success names as many triggers as were used."""

from __future__ import annotations

from pathlib import Path

import goodnet
from prune_core.defence import disarmed, not_clean

ROOT = Path(goodnet.__file__).resolve().parents[1]  # a checkout, or where the wheel is installed


def test_one_trigger_and_several() -> None:
    assert disarmed(0) == disarmed(1)
    assert "this one trigger, on these images, has been disarmed" in disarmed(1)
    assert "these 2 triggers, on these images, have been disarmed" in disarmed(2)
    assert "on one trigger does not" in not_clean(0) and "on these 3 triggers does not" in not_clean(3)


def test_it_is_said_in_one_place_only() -> None:
    """Where a page has words of its own, they may speak of one trigger where several were used."""
    saying = [
        path.name
        for package in ("prune_core", "sweeps", "goodnet")
        for path in (ROOT / package).rglob("*.py")
        if "this one trigger" in path.read_text() or "success on one trigger" in path.read_text()
    ]
    assert saying == ["defence.py"]
