"""Where the weights are found in what training scripts save."""

from __future__ import annotations

from typing import Any

import pytest

from prune_core.errors import InputError
from prune_core.torch_files.checkpoint import said_of, state_of, unwrapped

STATE = {"conv.weight": 1.5, "conv.bias": 2.5}


def is_tensor(value: Any) -> bool:
    return isinstance(value, float)


@pytest.mark.parametrize(
    "saved",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"epoch": 3, "model": STATE, "optimizer": {"state": {0: {"exp_avg": 0.5}}, "lr": 0.5}},
        {"net": {"module." + k: v for k, v in STATE.items()}, "acc": 0.5},
        {"model_state_dict": {"module._orig_mod." + k: v for k, v in STATE.items()}},
        {"_orig_mod." + k: v for k, v in STATE.items()},
        {"checkpoint": {"model": {"state_dict": STATE}}},
        {"netC": STATE, "netG": {"conv.weight": 9.0}},
        {**STATE, "epoch": 3},
    ],
)
def test_weights_are_found(saved: dict[str, Any]) -> None:
    assert state_of(saved, is_tensor, "net.pth") == STATE


@pytest.mark.parametrize("saved", [{}, {"epoch": 3}, [1.5], 1.5, {"a": {"b": {"c": {"d": {"e": 1.5}}}}}])
def test_no_weights_is_one_line(saved: Any) -> None:
    with pytest.raises(InputError, match="net.pth: no weights found in it"):
        state_of(saved, is_tensor, "net.pth")


def test_several_networks_under_unknown_names_are_not_guessed_at() -> None:
    with pytest.raises(InputError, match="no weights found in it .it holds 'teacher', 'student'"):
        state_of({"teacher": STATE, "student": STATE}, is_tensor, "net.pth")


def test_wrappers_inside_go_and_names_stay_different() -> None:
    assert unwrapped({"body._orig_mod.conv.weight": 1, "fc.weight": 2}) == {
        "body.conv.weight": 1,
        "fc.weight": 2,
    }
    both = {"_orig_mod.a": 1, "a": 2}
    assert unwrapped(both) == both
    assert unwrapped({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


def test_what_backdoorbench_says() -> None:
    saved = {"model_name": "preactresnet18", "num_classes": 10, "img_size": [32, 32, 3], "model": STATE}
    assert said_of(saved) == {"model_name": "preactresnet18", "num_classes": 10, "img_size": [32, 32, 3]}
    assert said_of({**saved, "img_size": "large"}) == {"model_name": "preactresnet18", "num_classes": 10}
    assert said_of(STATE) == said_of({"model_name": 3, "num_classes": 10}) == {}
