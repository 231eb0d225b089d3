"""Files as torch writes them: by its default exporter and by the one before, with a fixed and with a
free number of images, opset 7 to the newest, batch norms folded and kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from every_file import check_network
from families import CLASSES, settle, split_of
from torch import nn

from prune_core.model.model import load_model

SIDE = 12


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        yield
        logging.disable(logging.NOTSET)


class Small(nn.Module):
    """What the families are made of: batch norm, a depthwise convolution, a gate, a shortcut."""

    def __init__(self, flat: str, act: nn.Module | None = None) -> None:
        super().__init__()
        self.flat, self.act = flat, act or nn.ELU()
        self.a, self.a_norm = nn.Conv2d(3, 6, 3, bias=False, padding=1), nn.BatchNorm2d(6)
        self.b, self.b_norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.c = nn.Conv2d(6, 8, 3)
        self.gate, self.drop = nn.Conv2d(8, 8, 1), nn.Dropout(0.2)
        self.last = nn.Linear(8 * 4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.a_norm(self.a(x)))
        x = torch.max_pool2d(x + nn.functional.hardswish(self.b_norm(self.b(x))), 2)
        x = self.act(self.c(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = torch.nn.functional.avg_pool2d(x, 2)
        if self.flat == "view":
            x = x.view(x.size(0), -1)
        elif self.flat == "reshape":
            x = x.reshape(-1, 8 * 4)
        else:
            x = torch.flatten(x, 1)
        return self.last(self.drop(x))


def small(flat: str, act: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(2)
    net = Small(flat, act)
    settle(net, np.random.default_rng(4).normal(size=(40, 3, SIDE, SIDE)).astype(np.float32))
    return net


EXAMPLE = torch.rand(2, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    "flat, free", [("flatten", False), ("view", False), ("view", True), ("reshape", True)]
)
def test_the_default_exporter(flat: str, free: bool, tmp_path: Path) -> None:
    net, path = small(flat, nn.GELU()), tmp_path / "net.onnx"
    shapes: Any = ({0: torch.export.Dim("batch")},) if free else None
    torch.onnx.export(net, (EXAMPLE,), path, verbose=False, dynamic_shapes=shapes)
    split = split_of(net, SIDE, 30)
    assert check_network(net, SIDE, path, split, split)["removed"] > 0


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 16, 17, 18, 20])
@pytest.mark.parametrize("flat", ["flatten", "view"])
@pytest.mark.parametrize("kept", [False, True], ids=["folded", "kept"])
def test_the_exporter_before(opset: int, flat: str, kept: bool, tmp_path: Path) -> None:
    net, path = small(flat), tmp_path / "net.onnx"
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        net,
        (EXAMPLE[:1],),
        path,
        dynamo=False,
        opset_version=opset,
        training=mode.PRESERVE if kept else mode.EVAL,
        do_constant_folding=not kept,
    )
    split = split_of(net, SIDE, 30)
    found = check_network(net, SIDE, path, split, split)
    norms = [n for n in onnx.load(path).graph.node if n.op_type == "BatchNormalization"]
    assert bool(norms) is (kept or opset < 9)  # older opsets are not folded
    assert found["classes"] > 1


def test_equal_constants_of_an_untrained_network_are_shared(tmp_path: Path) -> None:
    """torch writes one of them, and Identity nodes for the others."""
    torch.manual_seed(0)
    net, path = Small("flatten").eval().requires_grad_(False), tmp_path / "net.onnx"
    mode = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(net, (EXAMPLE,), path, dynamo=False, training=mode, do_constant_folding=False)
    assert "Identity" in {n.op_type for n in onnx.load(path).graph.node}
    split = split_of(net, SIDE, 30)
    check_network(net, SIDE, path, split, split)


def test_of_several_outputs_the_first_is_the_classes(tmp_path: Path) -> None:
    net, path = small("flatten"), tmp_path / "net.onnx"
    torch.onnx.export(net, (EXAMPLE,), path, dynamo=False, opset_version=17)
    proto = onnx.load(path)
    conv = next(n for n in proto.graph.node if n.op_type == "Conv")
    proto.graph.output.add().CopyFrom(onnx.helper.make_tensor_value_info(conv.output[0], 1, list("nchw")))
    onnx.save(proto, tmp_path / "two.onnx")
    images = torch.rand(4, 3, SIDE, SIDE)
    one, two = (load_model(p).logits(images) for p in (path, tmp_path / "two.onnx"))
    assert torch.equal(one, two)
