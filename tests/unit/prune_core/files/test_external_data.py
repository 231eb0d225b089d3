"""ONNX weights that lie in a file beside the model: they name the network, and may be large."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_core.errors import InputError
from prune_core.export.zeroed import write_goodnet
from prune_core.masks import ChannelMask
from prune_core.model.model import file_digest, load_model


def net(seed: int, wide: int = 4) -> onnx.ModelProto:
    """A convolution of ``wide`` channels, means, and 3 classes; images (1, 6, 6)."""
    rng = np.random.default_rng(seed)
    weights = {"k": rng.normal(size=(wide, 1, 3, 3)), "w": rng.normal(size=(wide, 3))}
    nodes = [
        helper.make_node("Conv", ["images", "k"], ["c"], "conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved_apart(folder: Path, seed: int, wide: int = 4) -> Path:
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save(net(seed, wide), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    return path


def test_networks_that_differ_beside_the_file_alone_have_different_names(tmp_path: Path) -> None:
    one, same, other = (saved_apart(tmp_path / n, s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert one.read_bytes() == other.read_bytes()
    assert load_model(one).digest == load_model(same).digest == file_digest(one)
    assert load_model(one).digest != load_model(other).digest
    assert load_model(one).badnet_digest == load_model(one).digest


def test_a_network_in_one_file_keeps_the_name_that_it_has_in_old_records(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(net(1), path)
    assert load_model(path).digest == hashlib.sha256(path.read_bytes()).hexdigest() == file_digest(path)


def test_a_goodnet_is_not_written_when_the_weights_beside_the_file_have_changed(tmp_path: Path) -> None:
    path = saved_apart(tmp_path / "a", 1)
    model, mask = load_model(path), ChannelMask.of({"conv": [1]})
    assert write_goodnet(model, mask, path, tmp_path / "good")[0].is_file()
    other = saved_apart(tmp_path / "b", 2)
    (path.parent / "net.onnx.data").write_bytes((other.parent / "net.onnx.data").read_bytes())
    with pytest.raises(InputError, match="not the BadNet that was pruned"):
        write_goodnet(model, mask, path, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [160, 515])
def test_large_weights_beside_the_file_are_read(tmp_path: Path, megabytes: int) -> None:
    proto = net(1)
    wide = megabytes * 2**18 // 64
    for node in proto.graph.node:
        if node.output[0] == "f":
            node.input[0] = "c"
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((64, wide), np.float32), "w"))
    last = numpy_helper.from_array(np.ones((wide, 3), np.float32), "w2")
    proto.graph.node[-1].output[0] = "hidden"
    proto.graph.node.append(helper.make_node("MatMul", ["hidden", "w2"], ["logits"]))
    proto.graph.initializer.append(last)
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.onnx.data")
    assert load_model(tmp_path / "net.onnx").check_images((1, 6, 6), "black") == 3
