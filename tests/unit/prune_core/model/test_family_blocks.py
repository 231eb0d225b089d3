"""One block of each family of networks, by each way in, through all that the product does. Whole families:
tests/acceptance/test_families.py, and ``make families`` for the table of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from every_file import check_network
from families import exported, pixels, settle, split_of
from family_blocks import BLOCKS, SIDE, around
from torch import nn


@pytest.fixture(params=BLOCKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def net_of(name: str) -> nn.Module:
    net = around(name)
    settle(net, pixels(40, (3, SIDE, SIDE), seed=9))
    return net


def check(net: nn.Module, given: Any) -> None:
    split = split_of(net, SIDE, 20)
    assert check_network(net, SIDE, given, split, split)["classes"] > 1


@pytest.mark.slow
def test_by_the_exporter_before(name: str, tmp_path: Path) -> None:
    if name == "alexnet":
        pytest.skip("torch cannot write an adaptive pool of a size that does not divide the image's")
    net = net_of(name)
    check(net, exported(net, "torchscript", SIDE, tmp_path / "net.onnx"))


@pytest.mark.slow
def test_by_state_dict(name: str, tmp_path: Path) -> None:
    net, path = net_of(name), tmp_path / "net.pth"
    torch.save(net.state_dict(), path)
    told = {"architecture": "family_blocks:around", "architecture_args": {"name": name}}
    check(net, (path, {**told, "image": (3, SIDE, SIDE)}))


@pytest.mark.slow
def test_by_the_default_exporter(name: str, tmp_path: Path) -> None:
    net = net_of(name)
    check(net, exported(net, "dynamo", SIDE, tmp_path / "net.onnx"))
