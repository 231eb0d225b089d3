"""Audits by hand, and of the seed author's published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_core.errors import InputError
from prune_core.export.audit import inspect_model
from prune_core.export.zeroed import pruned_onnx
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, build_model
from sweeps.reading import inspect_files


def net(
    names: tuple[str, ...] = ("first", "second", "third"),
    channels: tuple[int, ...] = (2, 3, 4),
    dense: float = 1.0,
    norm: bool = False,
) -> PrunableModel:
    """A chain of 1 x 1 convolutions with kernels and biases of ones on (1, 2, 2) images; behind the
    last one, if asked, a batch norm of ones; averaged, times a dense kernel (4, 2)."""

    def tensor(name: str, shape: tuple[int, ...], value: float = 1.0) -> TensorProto:
        return numpy_helper.from_array(np.full(shape, value, np.float32), name)

    nodes, constants, value, width = [], [], "images", 1
    for name, count in zip(names, channels, strict=True):
        constants += [tensor(f"{name}/k", (count, width, 1, 1)), tensor(f"{name}/b", (count,))]
        inputs = [value, f"{name}/k", f"{name}/b"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}:0"], name))
        value, width = f"{name}:0", count
    if norm:
        parts = [f"norm/{part}" for part in ("scale", "shift", "mean", "var")]
        constants += [tensor(part, (width,)) for part in parts]
        nodes.append(helper.make_node("BatchNormalization", [value, *parts], ["norm:0"], "norm", epsilon=0.0))
        value = "norm:0"
    constants.append(tensor("dense/k", (width, 2), dense))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "dense/k"], ["logits"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(proto)
    return build_model(proto, "digest", f"{'-'.join(names)}.onnx")


def pruned(model: PrunableModel, mask: dict[str, list[int]], keep_bias: bool = False) -> PrunableModel:
    return build_model(pruned_onnx(model, ChannelMask.of(mask, keep_bias)), "", "pruned.onnx")


def test_an_untouched_network() -> None:
    found = inspect_model(net(), net())
    assert found["layers"] == [
        {"name": "first", "channels": 2, "zeroed": [], "constant": []},
        {"name": "second", "channels": 3, "zeroed": [], "constant": []},
        {"name": "third", "channels": 4, "zeroed": [], "constant": []},
    ]
    assert found["channels_total"] == 7 and found["channels_pruned"] == 0  # without the first
    assert found["changed"] == found["bias_changed"] == {} and found["other_changed"] == []
    assert found["compared_by"] == "name" and found["channels_changed"] == 0


def test_networks_that_were_exchanged_are_told() -> None:
    made = pruned(net(), {"first": [1], "third": [3, 0]})
    assert inspect_model(made, net())["findings"] == inspect_model(net(), net())["findings"] == []
    (found,) = inspect_model(net(), made)["findings"]
    assert (found["name"], found["counts"]) == ("networks-exchanged", {"kernels": 3})


def test_pruned_channels_are_zeroed_and_changed() -> None:
    found = inspect_model(pruned(net(), {"first": [1], "third": [3, 0]}), net())
    assert [layer["zeroed"] for layer in found["layers"]] == [[1], [], [0, 3]]
    assert found["changed"] == found["bias_changed"] == {"first": [1], "third": [0, 3]}
    assert found["channels_pruned"] == found["channels_changed"] == 2
    assert found["other_changed"] == []


def test_a_bias_that_was_left_makes_a_constant() -> None:
    found = inspect_model(pruned(net(), {"second": [2]}, keep_bias=True), net())
    assert found["layers"][1] == {"name": "second", "channels": 3, "zeroed": [2], "constant": [2]}
    assert found["bias_changed"] == {}


@pytest.mark.parametrize(("keep_bias", "constant"), [(False, []), (True, [2])])
def test_what_a_batch_norm_makes_of_a_pruned_channel(keep_bias: bool, constant: list[int]) -> None:
    """Kept: (bias 1 - mean 1) * 1 + shift 1 = 1. Pruned: scale and shift are zero."""
    model = net(norm=True)
    found = inspect_model(pruned(model, {"third": [2]}, keep_bias), model)
    assert found["layers"][2]["constant"] == constant
    assert found["other_changed"] == ([] if keep_bias else ["norm/scale", "norm/shift"])


def test_changed_is_not_zeroed() -> None:
    """A fine-tuned kernel differs without being zero; a kernel that was zero before does not."""
    tuned, badnet = net(), pruned(net(), {"third": [1]})
    found = inspect_model(tuned, badnet)
    assert found["channels_pruned"] == 0 and found["changed"] == {"third": [1]}
    assert inspect_model(badnet, badnet)["channels_pruned"] == 1
    assert inspect_model(badnet, badnet)["changed"] == {}


def test_a_changed_dense_layer_is_told() -> None:
    assert inspect_model(net(dense=2.0), net())["other_changed"] == ["dense/k"]


def test_chosen_layers_are_counted() -> None:
    model = pruned(net(), {"first": [0], "third": [0]})
    found = inspect_model(model, None, ["first", "second", "first"])
    assert found["channels_total"] == 5 and found["channels_pruned"] == 1
    assert found["changed"] == {} and found["against"] is None
    with pytest.raises(InputError, match="no convolution named 'conv_9'; it has first, second"):
        inspect_model(net(), None, ["conv_9"])


def test_renamed_layers_are_matched_by_position() -> None:
    badnet = net(names=("a", "b", "c"))
    found = inspect_model(pruned(net(), {"third": [1]}), badnet)
    assert found["compared_by"] == "position" and found["changed"] == {"third": [1]}


def test_other_networks_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"second has shape \(3, 2, 1, 1\), .*\(2, 2, 1, 1\)"):
        inspect_model(net(), net(channels=(2, 2, 4)))
    shorter = net(names=("first", "second"), channels=(2, 4))
    for one, other in ((net(), shorter), (shorter, net())):
        with pytest.raises(InputError, match="third of first-second-third.onnx is not in"):
            inspect_model(one, other)


def ids(text: str) -> list[int]:
    """'1-3,7' -> [1, 2, 3, 7]."""
    runs = [part.split("-") for part in text.split(",")]
    return [i for run in runs for i in range(int(run[0]), int(run[-1]) + 1)]


AUTHORS: dict[str, dict[str, Any]] = {
    "gn-x2": {"conv_3": ids("11-17,19-27,29-34,36-42")},
    "gn-x4": {"conv_3": ids("11-18")},
    "gn-x10": {"conv_2": [18], "conv_3": ids("11-27,29-34,36-51,53,55-56,59")},
}


@pytest.mark.acceptance
@pytest.mark.parametrize(("name", "count"), [("gn-x2", 29), ("gn-x4", 8), ("gn-x10", 44)])
def test_the_seed_authors_files(shared_data: Path, name: str, count: int) -> None:
    """Source: the published weights; the report says 40, 33 and 44."""
    folder = shared_data / "csaw"
    found = inspect_files(folder / f"{name}_weights.h5", folder / "bd_weights.h5")
    assert found["channels_total"] == 180
    assert found["channels_pruned"] == found["channels_changed"] == count
    assert found["changed"] == AUTHORS[name]
    # Their script leaves biases, so every pruned channel is a constant.
    assert {la["name"]: la["constant"] for la in found["layers"] if la["constant"]} == AUTHORS[name]
    assert found["bias_changed"] == {} and found["other_changed"] == []
