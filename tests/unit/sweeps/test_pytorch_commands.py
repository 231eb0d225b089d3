"""inspect, prune and doctor on PyTorch weights: what the commands say, with and without mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torch_nets import SMALL, images_of, in_working_folder, module_of, shaken

ARGS = ("--architecture-arg", "num_classes=5", "--architecture-arg", "widths=[4, 6, 8]")


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    in_working_folder(tmp_path, monkeypatch)
    made = shaken(module_of(tmp_path).build(**SMALL))
    torch.save({"net": made.state_dict(), "acc": 93.5, "epoch": 7}, "net.pth")
    return made


@pytest.fixture
def config(net: nn.Module) -> dict[str, Any]:
    """A configuration whose clean images have the labels that the network gives them."""
    data = {}
    target = 0
    for number, split in enumerate(("valid", "test")):
        clean, other = (images_of(40, seed=number + further) for further in (0, 2))
        with torch.no_grad():
            labels, given = (net(torch.from_numpy(p).float()).argmax(1).numpy() for p in (clean, other))
        target = int(given[0]) if split == "valid" else target
        poisoned = other[given == target]  # what leads the network to the target
        for kind, rows, label in (("clean", clean, labels), ("poisoned", poisoned, [target] * len(poisoned))):
            with h5py.File(f"{kind}_{split}.h5", "w") as file:
                file["data"] = rows
                file["label"] = label
            data[f"{kind}_{split}"] = f"{kind}_{split}.h5"
    return {
        "badnet": "net.pth",
        "architecture": "users_net:build",
        "architecture_args": SMALL,
        "data": data,
        "sweep": {"layer_sets": ["last:1"], "x_thresholds": [100], "orders": ["l1"], "policies": ["margin"]},
    }


def test_inspect_and_what_was_changed(net: nn.Module, goodnet: Callable[..., Any]) -> None:
    with torch.no_grad():
        net.conv1.weight[2] = 0
        net.bn1.weight[2] = net.bn1.bias[2] = 0
    save_file(net.state_dict(), "good.safetensors")
    said = goodnet(
        "inspect", "good.safetensors", "--against", "net.pth", "--architecture", "users_net:build", *ARGS,
        "--image-size", "3x16x16", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert said.json["changed"] == {"conv1": [2]} and said.json["layers"][0]["zeroed"] == [2]
    assert said.json["layers"][0]["constant"] == [] and said.json["compared_by"] == "name"
    text = goodnet("inspect", "net.pth", "--architecture", "users_net:build", *ARGS)
    assert text.status == 0 and "layers.1.shortcut.0" in text.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "say by --architecture"),
        (("--architecture", "users_net:build", "--architecture-arg", "classes=3"), "unexpected keyword"),
        (("--architecture", "users_net:build", "--architecture-arg", "3"), "expected name=value"),
        (("--architecture", "users_net:build", *ARGS, "--image-size", "32"), "as 3x32x32"),
        (
            ("--architecture", "users_net:build", *ARGS, "--image-size", "1x16x16"),
            "does not take images of (1",
        ),
        (("--architecture", "torchvision:alexnet"), "its keys do not fit torchvision:alexnet"),
    ],
)
def test_mistakes_are_one_line(
    net: nn.Module, goodnet: Callable[..., Any], options: tuple[str, ...], expected: str
) -> None:
    said = goodnet("inspect", "net.pth", *options)
    assert said.status == 2 and expected in said.err and said.err.count("\n") == 1


def test_prune_and_doctor(config: dict[str, Any], goodnet: Callable[..., Any]) -> None:
    Path("users.yaml").write_text(yaml.safe_dump(config))
    said = goodnet("prune", "users.yaml", "--json")
    assert said.status == 0, said.err
    looked = goodnet("doctor", "users.yaml", "--executor", "inline", "--json")
    (badnet,) = (check for check in looked.json["checks"] if check["name"] == "badnet")
    assert "layers.2.shortcut.0 (8)" in badnet["detail"]
    refused = goodnet("prune", "users.yaml", "--set", "architecture_args.num_classes=7")
    assert refused.status == 2 and "expected (7,)" in refused.err
    refused = goodnet("prune", "users.yaml", "--set", "architecture_arg.num_classes=7")
    assert refused.status == 2 and "did you mean 'architecture_args'" in refused.err


def test_images_of_another_size_make_the_network_anew(
    net: nn.Module, config: dict[str, Any], goodnet: Callable[..., Any]
) -> None:
    """The size is that of the images, not the usual one."""
    for kind in ("clean", "poisoned"):
        with h5py.File(f"{kind}_valid.h5", "a") as file:
            pixels = images_of(len(file["label"]), side=24)
            del file["data"]
            file["data"] = pixels
    said = goodnet(
        "evaluate", "net.pth", "--architecture", "users_net:build", *ARGS, "--clean", "clean_valid.h5",
        "--poisoned", "poisoned_valid.h5", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    refused = goodnet(
        "evaluate", "net.pth", "--architecture", "users_net:build", *ARGS, "--clean", "clean_valid.h5",
        "--poisoned", "poisoned_test.h5",
    )  # fmt: skip
    assert refused.status == 2
