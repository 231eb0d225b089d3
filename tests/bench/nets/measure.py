"""One network, in a process of its own: ``python -m tests.bench.nets.measure NAME IMAGES MEMORY_GB``
prints JSON.

CPU seconds of one thread. What takes less than ``SHORT`` seconds is repeated; of every cost the median, the
least and the most are told.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prune_core.counts import Ask, Counts
from prune_core.data.images import Split
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.masks import ChannelMask
from prune_core.torch_nets.torchvision_import import torchvision_models
from tests.bench.gpu_nets import Pictures, ResNet18
from tests.nets.networks import as_model

SHORT, REPEATS = 1.0, 5
FEW = 32  # images of each kind on which counts are compared
ALIKE = Ask(margin=False)
PICTURES = Pictures((3, 32, 32), 10)
NETS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": ResNet18,
    "VGG-16-BN": lambda: vgg16(),
    "MobileNetV2": lambda: torchvision_models().mobilenet_v2(weights=None, num_classes=10),
    "small": lambda: ResNet18(8),
}
Found = dict[str, Any]


def vgg16() -> nn.Module:
    """As it is used for 32 x 32: one dense layer behind the 13 convolutions."""
    net: nn.Module = torchvision_models().vgg16_bn(weights=None)
    net.avgpool, net.classifier = nn.Identity(), nn.Linear(512, 10)
    return net


def cost(work: Callable[[], object]) -> list[float]:
    """CPU seconds: median, least, most."""
    spent: list[float] = []
    while not spent or (len(spent) < REPEATS and spent[0] < SHORT):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return [median(spent), min(spent), max(spent)]


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matrix_rate() -> float:
    """Operations a CPU second of products of 2048 x 2048 float32 matrices, the best of several."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / min(cost(lambda: a @ b)[1] for _ in range(3))


def by_hooks(net: nn.Module, layer: nn.Module, channel: int, split: Split, batch: int = 128) -> list[int]:
    """The usual loop in plain PyTorch: a hook that zeroes a channel, all images of both kinds through the
    whole network; right and attacked."""

    def zero(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        output[:, channel] = 0
        return output

    handle, found = layer.register_forward_hook(zero), []
    with torch.inference_mode():
        for images in (split.clean, split.poisoned):
            right = 0
            for start in range(0, len(images), batch):
                stop = min(start + batch, len(images))
                said = net(torch.from_numpy(images.floats(start, stop))).argmax(1).numpy()
                right += int((said == images.labels[start:stop]).sum())
            found.append(right)
    handle.remove()
    return found


def operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measured(name: str, images: int, memory_gb: float) -> Found:
    torch.manual_seed(0)
    net = NETS[name]().eval()
    settle(net)
    model = as_model(net, PICTURES.shape, name)
    split = PICTURES.split(images, 1)
    before, rate = peak_gib(), matrix_rate()
    whole = cost(lambda: PlainEvaluator(model, split))  # two images more than one evaluation
    few = PICTURES.split(FEW, 2)
    plain, checked = PlainEvaluator(model, few), make_evaluator(model, few, "incremental", 1.0)
    mask = ChannelMask.of({model.layers[0].name: [0]})
    per_image = operations(lambda: plain.counts(mask, ALIKE)) / (len(few.clean) + len(few.poisoned))
    done = per_image * (len(split.clean) + len(split.poisoned))
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    hooks = cost(lambda: by_hooks(net, first, 0, split))
    begun = time.process_time()
    evaluator = make_evaluator(model, split, "incremental", memory_gb)
    caches = time.process_time() - begun
    layers = []
    for number in depths(len(model.layers)):
        layer = model.layers[number - 1]
        channels = iter(np.unique(np.linspace(0, layer.channels - 1, REPEATS + 1).astype(int)).tolist())
        mask = ChannelMask.of({layer.name: [next(channels)]})
        counted = operations(partial(evaluator.counts, mask, ALIKE))
        others = (ChannelMask.of({layer.name: [channel]}) for channel in channels)
        spent = cost(partial(ask_next, evaluator, others))
        layers.append({
            "depth": number, "channels": layer.channels, "question": spent, "operations": counted,
            "equal": checked.counts(mask, ALIKE) == plain.counts(mask, ALIKE),
        })  # fmt: skip
    return {
        "name": name, "images": [len(split.clean), len(split.poisoned)], "memory_gb": memory_gb,
        "channels": sum(layer.channels for layer in model.layers), "convolutions": len(model.layers),
        "plain": whole, "hooks": hooks, "operations": done, "share": done / whole[0] / rate,
        "rate": rate, "caches": caches, "layers": layers, "before_gib": before, "peak_gib": peak_gib(),
    }  # fmt: skip


def settle(net: nn.Module) -> None:
    """Running statistics of batch norms from noise, so that random networks do not say one class alone."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        net(torch.rand(64, *PICTURES.shape, generator=torch.Generator().manual_seed(0)))
    net.eval()


def ask_next(evaluator: Evaluator, masks: Iterator[ChannelMask]) -> Counts:
    return evaluator.counts(next(masks), ALIKE)


def depths(convolutions: int) -> list[int]:
    """Six, the first and the last among them."""
    return sorted(set(np.linspace(1, convolutions, 6).round().astype(int).tolist()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
