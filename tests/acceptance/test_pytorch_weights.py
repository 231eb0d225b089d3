"""Published and small real networks as PyTorch people hand them over: weights in, a GoodNet, weights out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torch_nets import in_working_folder, module_of, shaken

import goodnet as product
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.torch_nets.torchvision_import import torchvision_models
from prune_core.torch_nets.wide_resnet import wide_resnet

pytestmark = pytest.mark.acceptance


def classes_of(net: nn.Module, pixels: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """By a plain loop over the module."""
    found = []
    with torch.no_grad():
        for part in np.array_split(pixels, 8):
            found.append(net(torch.from_numpy(part.astype(np.float32) * np.float32(scale))).argmax(1).numpy())
    return np.concatenate(found)


def counts_of(net: nn.Module, split: product.Split) -> tuple[int, int]:
    """Clean images right, poisoned ones attacked."""
    clean, poisoned = split.clean, split.poisoned
    return (
        int((classes_of(net, clean.pixels, clean.scale) == clean.labels).sum()),
        int((classes_of(net, poisoned.pixels, poisoned.scale) == poisoned.labels).sum()),
    )


def abl_split(folder: Path, split: str) -> product.Split:
    clean, poisoned = (np.load(folder / f"{kind}_{split}.npz") for kind in ("clean", "poisoned"))
    images = [np.ascontiguousarray(f["images"].transpose(0, 3, 1, 2)) for f in (clean, poisoned)]
    return product.Split.from_arrays(
        images[0],
        clean["label"],
        images[1],
        int(poisoned["target"].flat[0]),
        poisoned["label"],
        scale=1 / 255,
    )


@pytest.mark.slow
def test_abl_as_published(shared_data: Path, tmp_path: Path) -> None:
    """The authors' net.pth counts as their ONNX file does, and its GoodNet goes back into the module."""
    folder = shared_data / "abl"
    split = abl_split(folder, "valid")
    net = product.load(folder / "net.pth", architecture="abl:wrn-16-1", image=(3, 32, 32))
    badnet = PlainEvaluator(net, split).badnet
    published = PlainEvaluator(product.load(folder / "net.onnx"), _raw(split)).badnet
    assert (
        (badnet.clean_correct, badnet.attacked) == (published.clean_correct, published.attacked) == (738, 900)
    )

    split = split.keeping(np.arange(200), np.arange(200))
    badnet = PlainEvaluator(net, split).badnet
    result = product.prune(net, split, layers="last:1", order="activation-gap", policy="margin", x=10)
    assert len(result.mask) and result.counts.attacked < badnet.attacked
    files = result.save(tmp_path / "good", folder / "net.pth")
    module = wide_resnet(16, 1).eval()
    module.load_state_dict(torch.load(folder / "net.pth", weights_only=True), strict=True)
    assert counts_of(module, split) == (badnet.clean_correct, badnet.attacked)
    wanted = (result.counts.clean_correct, result.counts.attacked)
    for made in (result.apply(module), product.apply_mask(module, files["mask"])):
        assert counts_of(made, split) == wanted
    module.load_state_dict(load_file(files["safetensors"]), strict=True)
    assert counts_of(module, split) == wanted


def _raw(split: product.Split) -> product.Split:
    """The ONNX file divides by 255 itself."""
    return product.Split.from_arrays(
        split.clean.pixels,
        split.clean.labels,
        split.poisoned.pixels,
        split.target,
        split.poisoned.true_labels,
    )


def few_of(file: Path, made: Path) -> str:
    """The first 150 images, so that the test is quick."""
    with h5py.File(file) as whole, h5py.File(made, "w") as part:
        for name in whole:
            part[name] = whole[name][:150]
    return str(made)


@pytest.mark.slow
def test_zoo_by_a_users_function_from_sweep_to_module(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    goodnet: Callable[..., Any],
) -> None:
    """evaluate, doctor, sweep and pick on the command line, then load_state_dict(strict=True)."""
    folder = shared_data / "zoo" / "sig"
    users = in_working_folder(tmp_path, monkeypatch)
    meta = json.loads((folder / "meta.json").read_text())
    data = {
        **{f"clean_{s}": str(shared_data / "zoo" / f"cl_{s}.h5") for s in ("valid", "test")},
        **{f"poisoned_{s}": str(folder / f"bd_{s}.h5") for s in ("valid", "test")},
    }
    said = goodnet(
        "evaluate", folder / "net.safetensors",
        "--architecture", f"{users}:build", "--architecture-arg", "num_classes=43",
        "--clean", data["clean_test"], "--poisoned", data["poisoned_test"], "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert [said.json["clean_correct"], said.json["attacked"]] == [meta["clean_test"][0], meta["bd_test"][0]]
    data = {name: few_of(Path(file), tmp_path / f"{name}.h5") for name, file in data.items()}
    tree = {
        "badnet": str(folder / "net.pth"),
        "architecture": f"{users}:build",
        "data": data,
        "sweep": {
            "orders": ["across:activation-gap"],
            "layer_sets": [["layers.2.conv2[0-7]"], ["layers.2.conv2[8-15]"]],
            "x_thresholds": [10],
            "policies": ["margin"],
        },
        "storage": str(tmp_path / "runs"),
    }
    Path("zoo.yaml").write_text(yaml.safe_dump(tree))
    assert goodnet("doctor", "zoo.yaml", "--executor", "inline").status == 0
    assert goodnet("sweep", "zoo.yaml", "--executor", "inline", "--json").json["done"] == 2
    picked = goodnet("pick", "--storage", "runs", "--knee", "--no-register", "--json")
    assert picked.status == 0, picked.err
    (weights,) = (f for f in picked.json["files"] if f["kind"] == "safetensors")
    module = module_of(tmp_path).build()
    module.load_state_dict(load_file(weights["path"]), strict=True)
    split = product.Split.from_files(data["clean_valid"], data["poisoned_valid"])
    point = picked.json["point"]["valid"]
    assert counts_of(module.eval(), split) == (point["clean_correct"], point["attacked"])
    assert picked.json["point"]["channels_pruned"] > 0
    card = Path(picked.json["card"]).read_text()
    assert "net.load_state_dict(load_file(" in card and "strict=True" in card
    # The network is known by what it computes: the same function changed is another network.
    source = Path(f"{users}.py").read_text()
    in_working_folder(tmp_path, monkeypatch, source.replace("x / 255", "x / 250"))
    refused = goodnet("pick", "--storage", "runs", "--knee", "--no-register")
    assert refused.status == 2 and "the BadNet is not the one that the sweep used" in refused.err


@pytest.mark.slow
def test_torchvision_resnet18_there_and_back(tmp_path: Path) -> None:
    """A training checkpoint of small images: state_dict -> goodnet -> state_dict, counts equal."""
    models = torchvision_models()
    net = shaken(models.resnet18(num_classes=4), seed=2)
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"epoch": 9, "model": state, "optimizer": {"state": {}}}, tmp_path / "last.ckpt")
    pixels = np.random.default_rng(0).random((2, 20, 3, 32, 32), np.float32)
    clean, poisoned = classes_of(net, pixels[0]), classes_of(net, pixels[1])
    split = product.Split.from_arrays(pixels[0], clean, pixels[1], int(np.bincount(poisoned).argmax()))
    loaded = product.load(tmp_path / "last.ckpt", architecture="torchvision:resnet18")
    chosen = "layer4.1.conv2[0-9]"
    result = product.prune(loaded, split, layers=chosen, order="l1", policy="margin", x=60, evaluator="plain")
    assert len(result.mask) > 0
    files = result.save(tmp_path / "good")
    again = models.resnet18(num_classes=4).eval()
    again.load_state_dict(load_file(files["safetensors"]), strict=True)
    assert counts_of(again, split) == (result.counts.clean_correct, result.counts.attacked)
    read = product.load(files["safetensors"], architecture="torchvision:resnet18", image=(3, 32, 32))
    assert PlainEvaluator(read, split).badnet.clean_correct == result.counts.clean_correct


@pytest.mark.slow
def test_a_users_function_on_ray(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goodnet: Callable[..., Any]
) -> None:
    """Workers get the ONNX form; the function need not be there."""
    users = in_working_folder(tmp_path, monkeypatch)
    folder = shared_data / "zoo"
    tree = {
        "badnet": str(folder / "sig" / "net.pth"),
        "architecture": f"{users}:build",
        "data": {
            **{f"clean_{s}": str(folder / f"cl_{s}.h5") for s in ("valid", "test")},
            **{f"poisoned_{s}": str(folder / "sig" / f"bd_{s}.h5") for s in ("valid", "test")},
        },
        "sweep": {
            "orders": ["l1"],
            "layer_sets": ["last:1"],
            "x_thresholds": [4, 10],
            "policies": ["margin"],
        },
        "storage": str(tmp_path / "runs"),
    }
    Path("zoo.yaml").write_text(yaml.safe_dump(tree))
    said = goodnet("sweep", "zoo.yaml", "--json")
    assert said.status == 0 and said.json["done"] == 2, said.err[-2000:]
