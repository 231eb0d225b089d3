"""Changed weights: a net that has them is in memory, as ONNX and as .h5 the same net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from small_nets import TARGET, TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.zeroed import BADNET_KEY, pruned_onnx, remeasured, write_goodnet
from prune_core.files.constants import from_safetensors, to_safetensors, weights_digest
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, build_model, load_model
from prune_core.model.parameters import changed_weights, last_dense, parameters_of, student_of


def shaken(model: PrunableModel, seed: int = 0) -> dict[str, np.ndarray]:
    """All that can be trained, a little changed: no two values alike, so a wrong order shows."""
    rng = np.random.default_rng(seed)
    return {
        p.name: p.value() + 0.05 * rng.normal(size=p.value().shape).astype(np.float32)
        for p in parameters_of(model)
    }


def test_the_small_badnet_is_one(tmp_path: Path) -> None:
    """Right on clean images, wholly attacked, and its trigger channel is the one that says so."""
    plain = PlainEvaluator(small_badnet(tmp_path), small_split(1))
    assert plain.badnet.clean_accuracy == 1 and plain.badnet.attack_success == 1
    without = plain.counts(ChannelMask.of({"c2": [TRIGGER_CHANNEL]}))
    assert without.clean_accuracy == 1 and without.attack_success < 0.5


def test_the_net_with_weights_is_the_same_net_everywhere(tmp_path: Path) -> None:
    """In memory, as ONNX in another runtime, read back from .onnx and from .h5: with a mask too."""
    model, split = small_badnet(tmp_path), small_split(1)
    weights = shaken(model)
    assert sorted(weights) == sorted(
        f"{layer}/{role}" for layer in ("c1", "c2", "hidden", "out") for role in ("kernel", "bias")
    )
    net = model.with_weights(weights)
    mask = ChannelMask.of({"c2": [1]})
    *files, _ = write_goodnet(net, mask, tmp_path / "badnet.h5", tmp_path / "good")
    assert [f.suffix for f in files] == [".onnx", ".h5"]
    pixels = split.poisoned.pixels
    with net.pruned(mask):
        expected = net.logits(torch.from_numpy(pixels)).numpy()
    assert np.abs(expected - model.logits(torch.from_numpy(pixels)).numpy()).max() > 0.1
    for file in files:
        read = load_model(file).logits(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(read, expected, rtol=1e-6, atol=1e-6)
        assert load_model(file).kernels()["c2"][1].any() == False  # noqa: E712
    session = onnxruntime.InferenceSession(str(files[0]))
    (softmax,) = session.run(None, {"images": pixels})
    np.testing.assert_allclose(softmax, torch.from_numpy(expected).softmax(1).numpy(), rtol=1e-4, atol=1e-6)
    with net.pruned(mask):
        counted = PlainEvaluator(net, split).badnet
    badnet = PlainEvaluator(model, split)
    for file in files:
        found = remeasured(file, None, badnet)
        assert (found.clean_correct, found.attacked) == (counted.clean_correct, counted.attacked)


def test_identity_and_provenance(tmp_path: Path) -> None:
    """The digest tells BadNet and weights; the file's own digest stays known; changes add up."""
    model = small_badnet(tmp_path)
    weights = shaken(model)
    first = {k: weights[k] for k in ("c2/kernel", "out/bias")}
    net, again = model.with_weights(first), model.with_weights(dict(reversed(first.items())))
    assert net.digest == again.digest != model.digest == net.badnet_digest
    assert model.with_weights({}) is model
    more = net.with_weights({"c1/bias": weights["c1/bias"]})
    assert sorted(more.weights) == ["c1/bias", "c2/kernel", "out/bias"]
    assert more.badnet_digest == model.digest and more.digest not in (net.digest, model.digest)
    assert more.digest == model.with_weights(more.weights).digest
    np.testing.assert_array_equal(more.kernels()["c2"], weights["c2/kernel"])
    np.testing.assert_array_equal(more.kernels()["c1"], model.kernels()["c1"])
    props = {e.key: e.value for e in pruned_onnx(more, ChannelMask()).metadata_props}
    assert props[BADNET_KEY] == model.digest


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"c3/kernel": np.zeros(3)}, "'c3/kernel', which it does not have; it has c1/kernel"),
        ({"c1/bias": np.zeros(4)}, r"'c1/bias' have shape \(4,\); expected \(3,\)"),
        ({"c1/bias": np.array([0, np.nan, 0])}, "'c1/bias' hold NaN or infinity"),
        ({"c1/bias": np.full(3, 1e300)}, "'c1/bias' hold NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, weights: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(InputError, match=says):
        small_badnet(tmp_path).with_weights(weights)


def two_convolutions(shared: bool) -> PrunableModel:
    """ONNX with a Constant node's bias in half precision; the kernels are one constant, or two."""
    kernel = np.arange(4, dtype=np.float16).reshape(2, 2, 1, 1)
    constants = [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(kernel + 1, "k2")]
    bias = numpy_helper.from_array(np.array([1, 2], np.float16), "")
    nodes = [
        helper.make_node("Constant", [], ["b"], value=bias),
        helper.make_node("Conv", ["images", "k", "b"], ["a"], name="a"),
        helper.make_node("Conv", ["a", "k" if shared else "k2"], ["l"], name="b"),
        helper.make_node("GlobalAveragePool", ["l"], ["g"]),
        helper.make_node("Flatten", ["g"], ["logits"]),
    ]
    half = onnx.TensorProto.FLOAT16
    images = helper.make_tensor_value_info("images", half, ["n", 2, 1, 1])
    logits = helper.make_tensor_value_info("logits", half, ["n", 2])
    graph = helper.make_graph(nodes, "net", [images], [logits], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return build_model(proto, "digest", "net")


def test_constant_nodes_and_precision() -> None:
    """A bias in a Constant node can be changed; what a file of half precision cannot hold is
    rounded in memory too, so that net and file agree."""
    model = two_convolutions(shared=False)
    net = model.with_weights({"b": np.array([0.1, 5], np.float32)})
    layer = net.layer("a")
    assert net.conv(layer).bias is not None
    np.testing.assert_array_equal(
        net.conv(layer).bias.detach().numpy(), np.array([0.1, 5], np.float16).astype(np.float32)
    )
    assert net.weights["b"].dtype == np.float16


def test_a_constant_of_two_layers_is_not_trained() -> None:
    """To train one layer's copy would untie them."""
    assert [p.name for p in parameters_of(two_convolutions(shared=True))] == ["b"]
    assert [p.name for p in parameters_of(two_convolutions(shared=False))] == ["k", "b", "k2"]


def test_a_student_is_apart(tmp_path: Path) -> None:
    """What is trained on the copy shows as changed weights, in ONNX order, and not in the BadNet."""
    model = small_badnet(tmp_path)
    before = model.kernels()
    student = student_of(model)
    held = parameters_of(student)
    assert last_dense(held) == next(p.node for p in held if p.name == "out/kernel")
    (hidden,) = [p for p in held if p.name == "hidden/kernel"]
    assert hidden.transposed and hidden.value().shape == (20, 6)
    with torch.no_grad():
        hidden.tensor[TARGET, 7] += 1  # torch has (out, in)
    changed = changed_weights(held, {p.name: p.value() for p in parameters_of(model)})
    assert list(changed) == ["hidden/kernel"]
    (original,) = [p.value() for p in parameters_of(model) if p.name == "hidden/kernel"]
    assert np.argwhere(changed["hidden/kernel"] != original).tolist() == [[7, TARGET]]
    for name, kernel in model.kernels().items():
        np.testing.assert_array_equal(kernel, before[name])


def test_safetensors_round_trip(tmp_path: Path) -> None:
    weights = shaken(small_badnet(tmp_path))
    data = to_safetensors(weights)
    back = from_safetensors(data, "w")
    assert weights_digest(back) == weights_digest(weights)
    assert weights_digest({**weights, "c1/bias": weights["c1/bias"] + 1}) != weights_digest(weights)
    for broken in (data[:-1], data[: len(data) // 2], b"", b"\xff" * 64):
        with pytest.raises(InputError, match="w: not a safetensors file"):
            from_safetensors(broken, "w")
