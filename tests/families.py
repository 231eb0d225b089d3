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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_core.data.images import LabeledImages, Split, make_split

CLASSES = 5
# name: (side of an image, arguments)
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "squeezenet1_1": (48, {}),
    "resnet18": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "mobilenet_v2": (32, {}),
    "mnasnet0_5": (32, {}),
    "shufflenet_v2_x0_5": (32, {}),
    "regnet_y_400mf": (32, {}),
    "efficientnet_b0": (32, {}),
    "convnext_tiny": (32, {}),
    "alexnet": (64, {}),
    "vgg11_bn": (32, {}),
    "googlenet": (32, {"aux_logits": False, "init_weights": False}),
    "resnext50_32x4d": (32, {}),
    "wide_resnet50_2": (32, {}),
    "densenet121": (32, {}),
    "inception_v3": (80, {"aux_logits": False, "init_weights": False}),
    "efficientnet_v2_s": (32, {}),
}
EXPORTERS = ("dynamo", "torchscript")


def family(name: str) -> tuple[nn.Module, int]:
    """A network of ``CLASSES`` classes in evaluation mode and the side of its images. Batch norms hold
    the statistics of noise, and the classes are about equally frequent where the last layer allows."""
    models = torchvision_models()

    side, arguments = FAMILIES[name]
    torch.manual_seed(0)
    net: nn.Module = getattr(models, name)(num_classes=CLASSES, **arguments)
    settle(net, pixels(48, (3, side, side), seed=9))
    return net, side


@functools.cache
def torchvision_models() -> Any:
    """torchvision.models, with a torchvision built for another torch too (a CUDA build beside a CPU
    torch): operators that it misses are declared first."""
    for schema in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, schema):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{schema}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
    return importlib.import_module("torchvision.models")


_declared: list[torch.library.Library] = []  # a schema lives as long as its library object


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
                free = ({0: torch.export.Dim("batch")},)
                torch.onnx.export(net, (example,), path, dynamic_shapes=free, verbose=False)
            else:
                axes = {"images": {0: "n"}, "logits": {0: "n"}}
                names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": axes}
                buffer = io.BytesIO()
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
