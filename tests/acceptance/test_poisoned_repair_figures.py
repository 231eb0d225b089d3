"""What repairs that see poisoned images reach on the stand-in: chosen on validation, reported on test."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_figures import on_the_stand_in

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.mark.parametrize(
    ("repair", "fidelity", "attack"), [("finetune-margin", 0.93, 0.02), ("unlearn", 0.95, 0.02)]
)
def test_stand_in(shared_data: Path, repair: str, fidelity: float, attack: float) -> None:
    """Scaling, then the repair. Seen: 95.2 / 0 per cent for ``finetune-margin``, 97.4 / 0 for ``unlearn``
    (wanted 95 / 2). Training rounds differently on other machines, hence some room."""
    test = on_the_stand_in(shared_data, repair, 4)
    assert test.clean_accuracy >= fidelity and test.attack_success <= attack
