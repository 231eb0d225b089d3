"""Every order: a permutation, the same by seed, the net left as found; and a hand-made backdoor
channel comes to the front where the order's theory says so."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_core.data.images import LabeledImages, make_split
from prune_core.errors import InputError
from prune_core.masks import Channel
from prune_core.model.model import PrunableModel, build_model
from prune_core.orders import ORDERS, OrderInput, channel_order

ALL = [*ORDERS, *(f"across:{name}" for name, known in ORDERS.items() if known.scale)]
LAYERS = [("conv_a", [0, 1, 2, 3, 4, 5]), ("conv_b", [0, 1, 2, 3])]
BACKDOOR = Channel("conv_a", 4)

# Where theory expects the backdoor channel, of the six of its layer. It answers only to the trigger
# and carries all of the attack: silent on clean images (activation), awake on poisoned ones (gap,
# tac, bnp), with the largest kernel (clp; so l1 puts it last), and its removal ends the attack at
# no cost. Orders that know nothing of images cannot find it.
FIRST = ["activation", "activation-gap", "tac", "bnp", "clp", "ablation", "taylor",
         "attack-clean-ratio", "shapley", "learned-mask"]  # fmt: skip
BLIND = {"index": 4, "reverse-index": 1, "l1": 5}
CHANCE = ["random"]


def backdoored_net() -> PrunableModel:
    """Images (n, 2, 6, 6), three classes. Input channel 0 shows the class by its brightness in one of
    three columns; input channel 1 is dark unless there is a trigger. conv_a (1x1): channels 0-3
    look at input 0, 4 is the trigger's, 5 is noise that nothing reads. conv_b passes three of them
    on, each summed over its own column by the dense layer; the trigger adds 40 to class 0."""
    a = np.zeros((6, 2, 1, 1), np.float32)
    a[:4, 0, 0, 0] = [1.0, 0.9, 1.1, 1.05]
    a[4, 1], a[5, 0] = 3.0, 0.5
    b = np.zeros((4, 6, 1, 1), np.float32)
    b[0, 0] = b[1, 1] = b[2, 2] = 1.0
    b[3, 4] = 2.0
    dense = np.zeros((4, 6, 6, 3), np.float32)  # conv_b's channel, row, column -> class
    for k in range(3):
        for column in range(3):
            dense[k, :, column, column] = 0.4
    dense[3, :, :, 0] = 0.4
    weights = {"wa": a, "ba": np.full(6, 0.01, np.float32), "wb": b,
               "bb": np.zeros(4, np.float32), "wd": dense.reshape(144, 3)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], name="conv_a"),
        helper.make_node("Relu", ["a"], ["ra"], name="relu_a"),
        helper.make_node("Conv", ["ra", "wb", "bb"], ["b"], name="conv_b"),
        helper.make_node("Relu", ["b"], ["rb"], name="relu_b"),
        helper.make_node("Flatten", ["rb"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "wd"], ["logits"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "backdoored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return build_model(proto, "hand-made", "backdoored.onnx")


def images(truth_known: bool = False, paired: bool = True):
    draw = np.random.default_rng(5)
    labels = np.arange(60) % 3
    pixels = np.zeros((60, 2, 6, 6), np.float32)
    pixels[:, 0] = draw.uniform(0, 0.2, (60, 6, 6))
    pixels[:, 1] = draw.uniform(0, 0.02, (60, 6, 6))
    for row, label in enumerate(labels):
        pixels[row, 0, :, label] += 1.0
    clean = LabeledImages(pixels, labels, name="clean.h5")
    stamped = pixels.copy()
    stamped[:, 1, :2] = 1.0
    others = np.flatnonzero(labels != 0)
    rows = others if paired else others[::-1]
    truth = labels[rows] if truth_known else None
    poisoned = LabeledImages(stamped[rows], np.zeros(len(rows), np.int64), truth, "poisoned.h5")
    return make_split(clean, poisoned)


def state(model: PrunableModel):
    """Everything of a net that a score could leave changed."""
    modules = dict(model.graph.named_modules())
    return (
        {n: t.clone().numpy().tobytes() for n, t in model.graph.state_dict().items()},
        {
            n: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
            for n, m in modules.items()
        },
        {n: (p.requires_grad, p.grad is None) for n, p in model.graph.named_parameters()},
    )


@pytest.fixture(scope="module")
def net() -> PrunableModel:
    return backdoored_net()


@pytest.mark.parametrize("name", ALL)
def test_conformance(net, name) -> None:
    split, before = images(), state(net)
    order = channel_order(name, OrderInput.of(net, split, LAYERS, seed=3))
    assert state(net) == before
    everyone = [Channel(layer, k) for layer, ids in LAYERS for k in ids]
    assert sorted(order) == sorted(everyone) and len(order) == len(everyone)
    assert channel_order(name, OrderInput.of(net, split, LAYERS, seed=3)) == order
    if not name.startswith("across:"):
        assert [c.layer for c in order] == ["conv_a"] * 6 + ["conv_b"] * 4
    if not ORDERS[name.removeprefix("across:")].chance:
        assert channel_order(name, OrderInput.of(net, split, LAYERS, seed=4)) == order


@pytest.mark.parametrize("name", ORDERS)
def test_read_only_images_are_looked_at_without_a_warning(net, name) -> None:
    """As a worker gets them from the object store."""
    split = images()
    for side in (split.clean, split.poisoned):
        side.pixels.flags.writeable = side.labels.flags.writeable = False
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else torch warns once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert channel_order(name, OrderInput.of(net, split, LAYERS))
    finally:
        torch.set_warn_always(always)


@pytest.mark.parametrize("name", ALL)
def test_only_the_channels_of_the_set_are_ordered(net, name) -> None:
    few = [("conv_b", [3, 1]), ("conv_a", [4, 0, 2])]
    order = channel_order(name, OrderInput.of(net, images(), few))
    assert sorted(order) == sorted(Channel(layer, k) for layer, ids in few for k in ids)


def test_the_expectations_below_leave_no_order_out() -> None:
    assert sorted([*FIRST, *BLIND, *CHANCE]) == sorted(ORDERS)


@pytest.mark.parametrize("name", FIRST)
def test_the_backdoor_channel_comes_first(net, name) -> None:
    order = channel_order(name, OrderInput.of(net, images(), LAYERS))
    assert order[0] == BACKDOOR


@pytest.mark.parametrize("name", ["ablation", "taylor", "shapley", "learned-mask"])
def test_across_layers_the_backdoor_comes_first_too(net, name) -> None:
    order = channel_order(f"across:{name}", OrderInput.of(net, images(), LAYERS[::-1]))
    assert {BACKDOOR, Channel("conv_b", 3)} == set(order[:2])  # its own channel, and its reader's


@pytest.mark.parametrize(("name", "place"), BLIND.items())
def test_an_order_without_images_cannot_find_it(net, name, place) -> None:
    order = channel_order(name, OrderInput.of(net, images(), LAYERS))
    assert order.index(BACKDOOR) == place


def test_random_by_seed(net) -> None:
    orders = {tuple(channel_order("random", OrderInput.of(net, images(), LAYERS, seed=s))) for s in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize(("name", "missing"), [
    ("activation-gap", "poisoned"), ("learned-mask", "poisoned"), ("tac", "pairs"),
    ("taylor", "true labels"), ("attack-clean-ratio", "true labels"),
])  # fmt: skip
def test_what_is_missing_is_said(net, name, missing) -> None:
    split = images(paired=False)
    given = OrderInput.of(net, split, LAYERS)
    if missing == "poisoned":
        given = OrderInput(net, split.clean, None, LAYERS)
    with pytest.raises(InputError, match=f"order '{name}' needs (the )?{missing}"):
        channel_order(name, given)


def test_true_labels_of_the_file_do_as_well_as_pairs(net) -> None:
    told = OrderInput.of(net, images(truth_known=True, paired=False), LAYERS)
    assert channel_order("taylor", told)[0] == BACKDOOR


def test_unknown_orders_and_orders_without_a_common_scale(net) -> None:
    given = OrderInput.of(net, images(), LAYERS)
    with pytest.raises(InputError, match="'best' is unknown; expected one of index"):
        channel_order("best", given)
    with pytest.raises(InputError, match="does not compare channels of different layers"):
        channel_order("across:index", given)


def test_scores_by_hand(net) -> None:
    """clp: conv_a's kernels are columns, whose singular value is their length. activation-gap and
    bnp of an unwoken channel are about nought."""
    given = OrderInput.of(net, images(), LAYERS)
    from prune_core.orders.plain import clp

    assert np.allclose(-clp(given)["conv_a"], [1.0, 0.9, 1.1, 1.05, 3.0, 0.5])
    from prune_core.orders.activations import activation

    mean = images().clean.pixels[:, 0].mean(dtype=np.float64)
    expected = np.array([1.0, 0.9, 0.5]) * mean + 0.01
    assert np.allclose(activation(given)["conv_a"][[0, 1, 5]], expected)


def test_batch_norm_scales_clp() -> None:
    """|gamma| / sigma times the kernel's singular value: 2 / sqrt(4) and 6 / sqrt(4) here."""
    rng = np.random.default_rng(0)
    kernel = np.zeros((2, 1, 1, 1), np.float32)
    kernel[:, 0] = 1.0
    weights = {"w": kernel, "gamma": np.array([2, -6], np.float32), "beta": np.zeros(2, np.float32),
               "mean": np.zeros(2, np.float32), "var": np.full(2, 4.0, np.float32),
               "wd": rng.normal(size=(72, 3)).astype(np.float32)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["n"],
                         name="norm", epsilon=0.0),
        helper.make_node("Flatten", ["n"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "wd"], ["logits"], name="dense"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "normed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    from prune_core.orders.plain import clp

    model = build_model(proto, "normed", "normed.onnx")
    pixels = np.zeros((2, 1, 6, 6), np.float32)
    given = OrderInput(model, LabeledImages(pixels, np.zeros(2, np.int64)), None, [("conv", [0, 1])])
    assert np.allclose(-clp(given)["conv"], [1.0, 3.0])
