"""Of layer sets with many channels the doctor says that best-first can be told whom to ask about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.doctor import sweep
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records.settings import TrialSettings
from tests.nets.networks import made


def test_a_note_on_best_first_along_many_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = made("Residual", 1)
    inputs = TrialInputs(model, split, split)
    layers = tuple(la.name for la in model.layers)
    total = sum(la.channels for la in model.layers)
    asking = TrialSettings("index", layers, 4.0, "best-first")
    assert not sweep._unscreened([asking], inputs)
    monkeypatch.setattr(sweep, "MANY", total - 1)
    (note,) = sweep._unscreened([asking], inputs)
    assert note["ok"] and note["level"] == "note" and f"{total} channels" in note["detail"]
    assert not sweep._unscreened([replace(asking, screen=4), replace(asking, policy="margin")], inputs)


def test_what_a_screened_trial_is_expected_to_ask() -> None:
    model, split = made("Residual", 1)
    inputs = TrialInputs(model, split, split)
    layers = tuple(la.name for la in model.layers)
    seconds = dict.fromkeys(layers, 1.0)
    asking = TrialSettings("index", layers, 4.0, "best-first")
    whole, _ = sweep._questions(asking, inputs, seconds)
    few, spent = sweep._questions(replace(asking, screen=2), inputs, seconds)
    assert few == pytest.approx(2 * sweep.SCREENED) == spent and few < whole
    assert sweep._questions(replace(asking, screen=1000), inputs, seconds)[0] == whole
