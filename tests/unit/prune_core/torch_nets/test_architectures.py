"""Weights in an architecture by name, and one line for what does not fit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_nets import SMALL, in_working_folder, module_of, shaken

from prune_core.errors import InputError
from prune_core.model.from_module import from_module
from prune_core.model.model import load_model
from prune_core.torch_nets.architectures import enlarging, parsed
from prune_core.torch_nets.preact_resnet import preactresnet18
from prune_core.torch_nets.torchvision_import import torchvision_models
from prune_core.torch_nets.wide_resnet import wide_resnet

IMAGE = (3, 16, 16)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return in_working_folder(tmp_path, monkeypatch) + ":build"


@pytest.fixture
def net(tmp_path: Path, users: str) -> nn.Module:
    return shaken(module_of(tmp_path).build(**SMALL))


def refusal(*given: object, **how: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(*given, **how)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    return str(caught.value)


def logits_equal(model: object, net: nn.Module, image: tuple[int, int, int] = IMAGE) -> bool:
    """But for rounding, which such deep networks of random weights magnify: to 2e-4 of the largest logit."""
    images = 255 * torch.rand((5, *image), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, wanted = model.logits(images), net(images)  # type: ignore[attr-defined]
    return float((found - wanted).abs().max()) <= 2e-3 * float(wanted.abs().max())


def test_a_users_function_in_the_working_folder(tmp_path: Path, users: str, net: nn.Module) -> None:
    torch.save(net.state_dict(), "net.pth")
    save_file(net.state_dict(), "net.safetensors")
    path = list(sys.path)
    one = load_model("net.pth", users, architecture_args=SMALL, image=IMAGE)
    two = load_model("net.safetensors", users, architecture_args=SMALL, image=IMAGE)
    assert sys.path == path
    assert one.digest == two.digest and logits_equal(one, net) and logits_equal(two, net)
    assert [la.name for la in one.layers][-2:] == ["layers.2.conv2", "layers.2.shortcut.0"]
    assert all(la.batch_norm for la in one.layers) and one.image_shape == IMAGE


def test_another_function_of_that_name_is_another_network(
    tmp_path: Path, users: str, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights, arguments and name, and a forward pass that does something else."""
    torch.save(net.state_dict(), "net.pth")
    one = load_model("net.pth", users, architecture_args=SMALL, image=IMAGE)
    code = Path("users_net.py").read_text()
    in_working_folder(tmp_path, monkeypatch, code.replace("x / 255", "x / 128"))
    assert load_model("net.pth", users, architecture_args=SMALL, image=IMAGE).digest != one.digest


def test_keys_that_do_not_fit_are_named(users: str, net: nn.Module) -> None:
    state = net.state_dict()
    del state["fc.bias"]
    state["head.bias"] = torch.zeros(5)
    state["conv1.weight"] = torch.zeros(4, 1, 3, 3)
    torch.save(state, "net.pth")
    said = refusal("net.pth", users, architecture_args=SMALL)
    assert "1 missing (fc.bias)" in said and "1 left over (head.bias)" in said
    assert "1 of another shape (conv1.weight is (4, 1, 3, 3), expected (4, 3, 3, 3))" in said


def test_the_number_of_classes_is_taken_from_the_file(users: str, net: nn.Module) -> None:
    torch.save({"model." + k: v for k, v in net.state_dict().items()}, "net.pth")
    model = load_model("net.pth", users, architecture_args={"widths": SMALL["widths"]}, image=IMAGE)
    assert model.check_images(IMAGE, "images") == 5
    said = refusal("net.pth", users, architecture_args={**SMALL, "num_classes": 7}, image=IMAGE)
    assert "fc.bias is (5,), expected (7,)" in said


def test_weights_without_a_name_say_what_to_give(users: str, net: nn.Module) -> None:
    torch.save(net.state_dict(), "net.pth")
    said = refusal("net.pth")
    assert "--architecture" in said and "torchvision:resnet18" in said


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet18", "expected torchvision:NAME"),
        ("torchvision:resnet81", "near it are resnet18"),
        ("backdoorbench:preactresnet81", "did you mean 'preactresnet18'"),
        ("abl:wrn-17-1", "6 k + 4"),
        ("no_such_module:build", "there is no module 'no_such_module', neither installed nor in the working"),
        ("users_net:bild", "did you mean 'build'"),
        ("users_net:torch", "torch is a module; expected a function"),
        ("users_net:functional.relu", "functional is a module; expected a function"),
        ("os:system", "os is a part of Python itself"),
        ("subprocess:run", "subprocess is a part of Python itself"),
        ("builtins:eval", "builtins is a part of Python itself"),
        ("users net:build", "expected torchvision:NAME"),
        ("users_net:a:b", "expected torchvision:NAME"),
    ],
)
def test_names_that_lead_nowhere(users: str, net: nn.Module, architecture: str, expected: str) -> None:
    torch.save(net.state_dict(), "net.pth")
    assert expected in refusal("net.pth", architecture)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import nothing_of_that_name\n", "importing it failed: broken.py, line 1"),
        ("def build(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "importing it failed"),
        ("def build():\n    return 3\n", "returned a int; expected a torch.nn.Module"),
        (
            "def build():\n    raise ValueError('mine\\ntwo')\n",
            "broken.py, line 2, in build: ValueError: mine",
        ),
        ("from os import system as build\n", "is a function of Python itself (posix), not yours"),
        ("def build(widths):\n    pass\n", "missing 1 required positional argument: 'widths'"),
    ],
)
def test_a_users_code_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: str
) -> None:
    in_working_folder(tmp_path, monkeypatch, code, "broken")
    torch.save({"conv.weight": torch.ones(1)}, "net.pth")
    assert expected in refusal("net.pth", "broken:build")


def test_timm_that_is_not_installed_is_one_line(
    users: str, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(net.state_dict(), "net.pth")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "needs timm, which is not installed: pip install timm" in refusal("net.pth", "timm:resnet18")


def test_torchvision_by_name(tmp_path: Path) -> None:
    net = shaken(torchvision_models().resnet18(num_classes=7), seed=3)
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}},
        tmp_path / "n.pth",
    )
    model = load_model(tmp_path / "n.pth", "torchvision:resnet18", image=(3, 32, 32))
    wanted = {name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    assert {la.name for la in model.layers} == wanted


def test_backdoorbench_names_its_own_network(tmp_path: Path) -> None:
    net = shaken(preactresnet18(num_classes=4))
    saved = {
        "model_name": "preactresnet18",
        "num_classes": 4,
        "img_size": (32, 32, 3),
        "model": net.state_dict(),
    }
    torch.save({**saved, "bd_test": {"index": np.arange(3)}}, tmp_path / "attack_result.pt")
    model = load_model(tmp_path / "attack_result.pt")
    assert model.image_shape == (3, 32, 32) and model.check_images((3, 32, 32), "images") == 4
    torch.save({**saved, "model_name": "unknown9"}, tmp_path / "attack_result.pt")
    assert "weights of 'unknown9', which is not built in" in refusal(tmp_path / "attack_result.pt")


@pytest.mark.parametrize(
    "name, tensors, keys",
    [
        ("vgg19_bn", 118, {"features.49.weight": (512, 512, 3, 3), "classifier.6.weight": (10, 4096)}),
        ("densenet161", 967, {"features.conv0.weight": (96, 3, 7, 7), "classifier.weight": (10, 2208)}),
        ("mobilenet_v3_large", 312, {"features.16.0.weight": (960, 160, 1, 1), "classifier.3.bias": (10,)}),
        ("efficientnet_b3", 574, {"features.0.0.weight": (40, 3, 3, 3), "classifier.1.weight": (10, 1536)}),
        ("convnext_tiny", 182, {"features.0.0.weight": (96, 3, 4, 4), "classifier.2.weight": (10, 768)}),
        ("vit_b_16", 152, {"1.conv_proj.weight": (768, 3, 16, 16), "1.heads.head.weight": (10, 768)}),
    ],
)
def test_backdoorbenchs_networks_have_the_keys_of_its_files(
    name: str, tensors: int, keys: dict[str, tuple[int, ...]]
) -> None:
    """As its files hold them for ten classes; no weights are made for that."""
    with torch.device("meta"):
        state = parsed(f"backdoorbench:{name}").made().state_dict()
    assert len(state) == tensors
    assert {key: tuple(state[key].shape) for key in keys} == keys


def test_a_file_of_backdoorbench_of_a_network_of_torchvision(tmp_path: Path) -> None:
    net = shaken(torchvision_models().mobilenet_v3_large(num_classes=10)).eval()
    saved = {"model_name": "mobilenet_v3_large", "num_classes": 10, "img_size": (32, 32, 3)}
    torch.save({**saved, "model": net.state_dict()}, tmp_path / "attack_result.pt")
    model = load_model(tmp_path / "attack_result.pt")
    assert logits_equal(model, net, (3, 32, 32)) and len(model.layers) == 62


def test_a_vision_transformer_of_backdoorbench_enlarges_images(tmp_path: Path) -> None:
    """Bilinear, as torchvision's Resize does it on a tensor. A small one stands for it."""
    made = torchvision_models().VisionTransformer
    small = made(224, 32, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=10)
    nn.init.normal_(small.heads.head.weight)
    resize = importlib.import_module("torchvision.transforms").Resize((224, 224))
    net = nn.Sequential(resize, small).eval()
    ours = enlarging(small).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        wanted = net(images)
        model = from_module(ours, images)
        torch.testing.assert_close(model.logits(images), wanted, rtol=1e-4, atol=1e-4)
    assert ours.state_dict().keys() == net.state_dict().keys()
    assert [la.name for la in model.layers] == ["1.conv_proj"]


def test_the_networks_have_the_published_names() -> None:
    """BackdoorBench's PreAct-ResNet-18 has no batch norm behind its last block; ABL's WRN names its
    shortcuts convShortcut."""
    keys = preactresnet18().state_dict().keys()
    assert {"conv1.weight", "layer2.0.shortcut.0.weight", "layer4.1.bn2.running_var", "linear.bias"} <= keys
    assert not {"bn.weight", "bn1.weight", "layer1.0.shortcut.0.weight"} & keys
    keys = wide_resnet(16, 1).state_dict().keys()
    assert {
        "block1.layer.1.conv2.weight",
        "block2.layer.0.convShortcut.weight",
        "bn1.bias",
        "fc.bias",
    } <= keys
    assert "block1.layer.0.convShortcut.weight" not in keys


def test_arguments_have_names() -> None:
    with pytest.raises(InputError, match="expected names of its arguments"):
        parsed("torchvision:resnet18", {"num classes": 3})
