"""Networks as the field has them (torchvision), at reduced image size, with random weights that tell
images apart, and what they do when channels are gone."""

from __future__ import annotations

import copy
import functools
import importlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.torch_nets.onnx_export import attention_in_parts
from prune_core.torch_nets.torchvision_import import torchvision_models

CLASSES = 5
WAYS = ("dynamo", "torchscript", "state_dict")


@dataclass(frozen=True)
class Family:
    """A network of the field.

    Attributes:
        said: its name, for people.
        side: of an image.
        architecture: as a configuration names it; "families:NAME" is a function of this file, with fewer
            channels than the field's own.
        arguments: of the architecture, the number of classes apart.
    """

    said: str
    side: int
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def slim(self) -> bool:
        return self.architecture.startswith("families:") or self.architecture.endswith(":preactresnet18")

    def make(self) -> nn.Module:
        torch.manual_seed(0)
        place, _, name = self.architecture.partition(":")
        if place == "torchvision":
            made = getattr(torchvision_models(), name)
        elif place == "timm":
            torchvision_models()
            made = functools.partial(importlib.import_module("timm").create_model, name)
        else:
            made = getattr(importlib.import_module(place), name)
        net: nn.Module = made(num_classes=CLASSES, **self.arguments)
        return net


PLAIN = {"aux_logits": False, "init_weights": False}
FAMILIES: dict[str, Family] = {
    "alexnet": Family("AlexNet", 64, "families:alexnet"),
    "vgg11_bn": Family("VGG-11-BN", 32, "families:vgg11_bn"),
    "resnet18": Family("ResNet-18", 32, "torchvision:resnet18"),
    "resnext50_32x4d": Family("ResNeXt-50 32x4d", 32, "torchvision:resnext50_32x4d"),
    "wide_resnet50_2": Family("Wide-ResNet-50-2", 32, "families:wide_resnet50_2"),
    "densenet121": Family("DenseNet-121", 32, "torchvision:densenet121"),
    "googlenet": Family("GoogLeNet", 32, "torchvision:googlenet", PLAIN),
    "inception_v3": Family("Inception-v3", 75, "torchvision:inception_v3", PLAIN),
    "mobilenet_v2": Family("MobileNet v2", 32, "torchvision:mobilenet_v2"),
    "mobilenet_v3_small": Family("MobileNet v3 small", 32, "torchvision:mobilenet_v3_small"),
    "mnasnet0_5": Family("MnasNet 0.5", 32, "torchvision:mnasnet0_5"),
    "shufflenet_v2_x0_5": Family("ShuffleNet v2 x0.5", 32, "torchvision:shufflenet_v2_x0_5"),
    "squeezenet1_1": Family("SqueezeNet 1.1", 48, "torchvision:squeezenet1_1"),
    "efficientnet_b0": Family("EfficientNet b0", 32, "torchvision:efficientnet_b0"),
    "efficientnet_v2_s": Family("EfficientNet v2-s", 32, "torchvision:efficientnet_v2_s"),
    "regnet_y_400mf": Family("RegNet Y 400MF", 32, "torchvision:regnet_y_400mf"),
    "convnext_tiny": Family("ConvNeXt tiny", 32, "families:convnext_tiny"),
    "preactresnet18": Family("PreAct-ResNet-18", 32, "backdoor_nets:preactresnet18"),
    "wrn_16_1": Family("WRN-16-1", 32, "backdoor_nets:wrn_16_1"),
    "timm_resnet": Family("timm: test_resnet", 32, "timm:test_resnet"),
    "timm_efficientnet": Family("timm: test_efficientnet", 32, "timm:test_efficientnet"),
    "timm_convnext": Family("timm: test_convnext", 32, "timm:test_convnext"),
    "vit": Family("vision transformer", 32, "families:vit"),
}


def alexnet(num_classes: int) -> nn.Module:
    net: nn.Module = torchvision_models().alexnet()
    net.avgpool = nn.AdaptiveAvgPool2d(1)  # of images of 64 pixels there is one left
    last = nn.Linear(64, num_classes)
    drop = nn.Dropout()
    net.classifier = nn.Sequential(
        drop, nn.Linear(256, 64), nn.ReLU(inplace=True), drop, nn.Linear(64, 64), nn.ReLU(inplace=True), last
    )
    return net


def vgg11_bn(num_classes: int) -> nn.Module:
    vgg = torchvision_models().vgg
    net: nn.Module = vgg.VGG(vgg.make_layers([32, "M", 64, "M", 64, 64, "M", 96, 96, "M", 96, 96, "M"], True))
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = nn.Sequential(
        nn.Linear(96, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(True), nn.Dropout(),
        nn.Linear(64, num_classes),
    )  # fmt: skip
    return net


def wide_resnet50_2(num_classes: int) -> nn.Module:
    resnet = torchvision_models().resnet
    net: nn.Module = resnet.ResNet(
        resnet.Bottleneck, [3, 4, 6, 3], num_classes=num_classes, width_per_group=32
    )
    return net


def convnext_tiny(num_classes: int) -> nn.Module:
    convnext = torchvision_models().convnext
    blocks = [(24, 48, 3), (48, 96, 3), (96, 192, 9), (192, None, 3)]
    net: nn.Module = convnext.ConvNeXt([convnext.CNBlockConfig(*b) for b in blocks], num_classes=num_classes)
    return net


def vit(num_classes: int) -> nn.Module:
    made = torchvision_models().VisionTransformer
    net: nn.Module = made(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=48,
        num_classes=num_classes,
    )
    nn.init.normal_(net.heads.head.weight)  # type: ignore[union-attr, arg-type]  # torchvision's are 0
    return net


def family(name: str) -> tuple[nn.Module, int]:
    """A network of ``CLASSES`` classes in evaluation mode and the side of its images. Batch norms hold
    the statistics of noise, and the classes are about equally frequent where the last layer allows."""
    found = FAMILIES[name]
    net = found.make()
    settle(net, pixels(48, (3, found.side, found.side), seed=9))
    return net, found.side


def file_of(name: str, net: nn.Module, way: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A file of the network, and what ``load_model`` has to be told beside it."""
    found = FAMILIES[name]
    if way != "state_dict":
        return exported(net, way, found.side, folder / "net.onnx"), {}
    torch.save(net.state_dict(), folder / "net.pth")
    arguments = {"num_classes": CLASSES, **found.arguments}
    image = (3, found.side, found.side)
    return folder / "net.pth", {
        "architecture": found.architecture, "architecture_args": arguments, "image": image
    }  # fmt: skip


def settle(net: nn.Module, images: np.ndarray) -> None:
    """Statistics of batch norms from some images; logits moved so that each class is called."""
    given = torch.from_numpy(images)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    net.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        net(given)
        net.eval()
        # SqueezeNet's last layer is a convolution, behind which a ReLU stands.
        kinds = (nn.Linear,) if any(isinstance(m, nn.Linear) for m in net.modules()) else (nn.Conv2d,)
        last = [m for m in net.modules() if isinstance(m, kinds)][-1]
        seen: list[torch.Tensor] = []
        handle = last.register_forward_hook(lambda module, given, output: seen.append(output))
        net(given)
        handle.remove()
        logits = seen[0].transpose(0, 1).flatten(1)  # (classes, ...)
        last.weight /= logits.std()  # type: ignore[operator]
        last.bias.copy_((last.bias - logits.mean(1)) / logits.std())  # type: ignore[operator]
    net.requires_grad_(False)


def pixels(count: int, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """(count, C, H, W) float32: blocks of colour and noise."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    blocks = rng.normal(size=(count, channels, 4, 4))
    large = np.kron(blocks, np.ones((1, 1, -(-height // 4), -(-width // 4))))[:, :, :height, :width]
    return (large + 0.3 * rng.normal(size=(count, *shape))).astype(np.float32)


def exported(net: nn.Module, exporter: str, side: int, path: Path) -> Path:
    """As users do it: torch's default exporter, or the one before, with a free batch."""
    example = torch.rand(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if exporter == "dynamo":
                free: Any = ({0: torch.export.Dim("batch")},)
                torch.onnx.export(net, (example,), path, dynamic_shapes=free, verbose=False)
            else:
                axes = {"images": {0: "n"}, "logits": {0: "n"}}
                names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": axes}
                buffer = io.BytesIO()
                with attention_in_parts():
                    torch.onnx.export(net, (example,), buffer, dynamo=False, **names)
                path.write_bytes(buffer.getvalue())
        finally:
            logging.disable(logging.NOTSET)
    return path


def split_of(net: nn.Module, side: int, images: int = 100) -> Split:
    """So many clean and so many poisoned images, labelled by the network itself."""
    clean, poisoned = (pixels(images, (3, side, side), seed) for seed in (1, 2))
    labels = classes_of(net, clean)
    target = int(np.bincount(classes_of(net, poisoned), minlength=CLASSES).argmax())
    return make_split(
        LabeledImages(clean, labels, name="clean"),
        LabeledImages(poisoned, np.full(images, target), name="poisoned"),
    )


def logits_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """In float64."""
    exact = copy.deepcopy(net).double().eval()
    with torch.no_grad():
        return np.concatenate(
            [exact(torch.from_numpy(part).double()).numpy() for part in np.array_split(images, 4)]
        )


def classes_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    return logits_of(net, images).argmax(axis=1)


def convolutions(net: nn.Module, side: int) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions in the order in which they run, each with the batch norm that takes its output."""
    found: list[nn.Conv2d] = []
    norms: dict[int, nn.BatchNorm2d] = {}
    outputs: list[torch.Tensor] = []  # kept, so that ids stay theirs

    def see(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            found.append(module)
            outputs.append(output)
            return
        for place, made in enumerate(outputs):
            if made is given[0]:
                norms[place] = module  # type: ignore[assignment]

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    handles = [m.register_forward_hook(see) for m in net.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net(torch.rand(2, 3, side, side))
    for handle in handles:
        handle.remove()
    return [(conv, norms.get(place)) for place, conv in enumerate(found)]


def with_channels_gone(net: nn.Module, side: int, pruned: Mapping[int, list[int]]) -> nn.Module:
    """A copy in which channels of convolutions (by their place in the order) are zero, batch norm too."""
    made = copy.deepcopy(net)
    order = convolutions(made, side)
    with torch.no_grad():
        for place, rows in pruned.items():
            conv, norm = order[place]
            conv.weight[rows] = 0
            if conv.bias is not None:
                conv.bias[rows] = 0
            if norm is not None:
                norm.weight[rows] = 0
                norm.bias[rows] = 0
    return made
