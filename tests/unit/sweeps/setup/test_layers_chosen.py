"""Which layers init proposes, and when a gradient is to choose among their channels."""

from __future__ import annotations

import pytest

from sweeps.setup import layers
from tests.nets.networks import made


def test_a_screen_where_even_the_last_layer_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = made("Residual", 1)
    total, last = sum(la.channels for la in model.layers), model.layers[-1].channels
    sets, _ = layers.layer_sets(model)
    assert layers.screen(model, sets) is None
    monkeypatch.setattr(layers, "CHANNELS", total - 1)
    sets, _ = layers.layer_sets(model)
    assert layers.screen(model, sets) is None  # chosen to be few enough
    monkeypatch.setattr(layers, "CHANNELS", last - 1)
    sets, said = layers.layer_sets(model)
    assert sets == ["last:1"] and layers.screen(model, sets) == layers.SCREEN and f"{last} of" in said
