"""``python -m tests.bench.gpu``: does a GPU count what the CPU counts, and how long do trials take on it?

At most eight minutes, with nothing but the core's packages (torch, numpy, onnx, onnx2torch, h5py), without a
network and without files. Writes one JSON file. Without a GPU it runs smaller, on the CPU, where both sides
of the comparison are the same device. Exit status 1 where counts differ.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from prune_core.data.images import Split
from prune_core.evaluators import make_evaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.memory import free_memory
from prune_core.model.model import PrunableModel
from prune_core.orders import OrderInput, channel_order
from prune_core.policies.registry import prune
from tests.bench.gpu_nets import Pictures, deepid, resnet

Found = dict[str, Any]
T = TypeVar("T")
X = 4.0
ORDER = "across:activation-gap"
KINDS = ("plain", "incremental")
POLICIES = ("margin", "best-first")  # whose steps are compared
TRIALS = ("prefix", *POLICIES)
WHOLE = 400.0  # seconds for all, about: trials get what comparing counts has left of it


@dataclass(frozen=True)
class Size:
    """How much is measured; images are clean ones, with about as many poisoned."""

    steps: int  # of training
    deepid_classes: int
    deepid_seen: int
    deepid_images: int
    resnet_width: int
    resnet_images: int
    checked: tuple[int, int]  # images on which counts are compared: DeepID, ResNet-18
    masks: int
    trial_channels: int  # of the trial whose steps are compared
    seconds: float  # for all trials of a net together, at most; what is not done by then is said


SIZES = {
    "full": Size(600, 1283, 40, 11_547, 64, 5000, (2000, 256), 12, 48, 100.0),
    "small": Size(80, 1283, 10, 600, 16, 200, (80, 32), 3, 12, 12.0),
    "tiny": Size(12, 20, 4, 24, 4, 16, (16, 16), 2, 4, 0.5),
}


def on(model: PrunableModel, device: torch.device) -> PrunableModel:
    """A copy on another device."""
    return replace(model, graph=copy.deepcopy(model.graph).to(device))


def masks(model: PrunableModel, count: int) -> Iterator[ChannelMask]:
    """A walk as of a pruner: candidates, accepted and refused, and now and then half a net."""
    rng = np.random.default_rng(3)
    every = [Channel(la.name, c) for la in model.layers for c in range(la.channels)]
    late = every[-sum(la.channels for la in model.layers[-4:]) :]
    mask = ChannelMask()
    for number in range(count):
        pool = every if number % 3 == 2 else late
        yield mask.adding(pool[rng.integers(len(pool))])
        mask = mask.adding(pool[rng.integers(len(pool))])
        yield mask
        if number % 4 == 3:
            yield ChannelMask(frozenset(every[i] for i in rng.permutation(len(every))[: len(every) // 2]))


def compared(model: PrunableModel, split: Split, device: torch.device, size: Size) -> Found:
    """Counts, margins and steps on the CPU and on ``device``: whether they are equal, and where not."""
    sides = [model, on(model, device)]
    walk = list(masks(model, size.masks))
    told: dict[str, list[Any]] = {}
    for kind in KINDS:
        for side in sides:
            evaluator = make_evaluator(side, split, kind)
            told[f"{kind} {side.device.type} {len(told)}"] = [
                evaluator.badnet.to_json(), *(evaluator.counts(mask).to_json() for mask in walk)
            ]  # fmt: skip
    first, *others = told.values()
    differ = [i for i, each in enumerate(first) if any(other[i] != each for other in others)]
    order = last_channels(model)[: size.trial_channels]
    walks = [
        [step for policy in POLICIES for step in prune(policy, X, make_evaluator(side, split), order)]
        for side in sides
    ]
    found: Found = {
        "images": [len(split.clean), len(split.poisoned)], "masks": len(first), "counts_equal": not differ,
        "steps": len(walks[0]), "steps_equal": walks[0] == walks[1],
    }  # fmt: skip
    if differ:
        found["differ"] = [{name: each[i] for name, each in told.items()} for i in differ[:5]]
    return found


def last_channels(model: PrunableModel) -> list[Channel]:
    return [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)]


def timed(model: PrunableModel, split: Split, layers: int, seconds: float) -> Found:
    """One evaluation, a question for each layer, and whole trials over the last ``layers`` convolutions."""
    gpu = model.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    free = free_memory(model.device)
    memory_gb = 4.0 if free is None else 0.6 * free / 2**30
    found: Found = {"device": model.device.type, "images": [len(split.clean), len(split.poisoned)]}
    found |= questions(model, split, memory_gb)
    order, found["order_seconds"] = clocked(lambda: last(model, split, layers))
    found["trials"] = {}
    begun = time.monotonic()
    for number, policy in enumerate(TRIALS, 1):
        ends = begun + seconds * number / len(TRIALS)
        found["trials"][policy] = trial(model, split, order, policy, memory_gb, ends)
    if gpu:
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    else:
        found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def questions(model: PrunableModel, split: Split, memory_gb: float) -> Found:
    """Seconds of a whole evaluation, and of one question a layer to the incremental evaluator."""
    plain, starting = clocked(lambda: make_evaluator(model, split, "plain"))
    _, whole = clocked(lambda: plain.counts(ChannelMask.of({model.layers[-1].name: [0]})))
    evaluator, caching = clocked(lambda: make_evaluator(model, split, memory_gb=memory_gb))
    layers = {}
    for layer in reversed(model.layers):
        mask = ChannelMask.of({layer.name: [1]})
        layers[layer.name] = clocked(partial(evaluator.counts, mask))[1]
    return {"plain_start_seconds": starting, "evaluation_seconds": whole, "start_seconds": caching,
            "question_seconds": layers}  # fmt: skip


def last(model: PrunableModel, split: Split, layers: int) -> list[Channel]:
    layer_set = resolve_layer_set(f"last:{layers}", model)
    return channel_order(ORDER, OrderInput.of(model, split, layer_set, 0))


def trial(
    model: PrunableModel, split: Split, order: list[Channel], policy: str, memory_gb: float, ends: float
) -> Found:
    """A whole trial, caches included, cut off at ``ends``."""
    begun, cpu = time.monotonic(), time.process_time()
    evaluator = make_evaluator(model, split, memory_gb=memory_gb)
    steps: list[PruneStep] = []
    finished = True
    for step in prune(policy, X, evaluator, order):
        steps.append(step)
        if time.monotonic() > ends:
            finished = False
            break
    now, mask = (steps[-1].now, steps[-1].mask) if steps else (evaluator.badnet, ())
    return {
        "seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu, "finished": finished,
        "candidates": len(order), "steps": len(steps), "pruned": len(mask),
        "clean_accuracy": [evaluator.badnet.clean_accuracy, now.clean_accuracy],
        "attack_success": [evaluator.badnet.attack_success, now.attack_success],
    }  # fmt: skip


def clocked(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the seconds it took. Counts are whole numbers on the host: nothing is still
    under way on a GPU when they are there."""
    begun = time.monotonic()
    return work(), time.monotonic() - begun


def machine(device: torch.device) -> Found:
    found: Found = {
        "torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
        "device": device.type, "processor": platform.processor() or platform.machine(),
    }  # fmt: skip
    if device.type == "cuda":
        found |= {"card": torch.cuda.get_device_name(), "free_gib": (free_memory(device) or 0) / 2**30}
    return found


def net_measured(
    made: tuple[PrunableModel, Pictures], images: int, checked: int, layers: int, device: torch.device,
    size: Size, ends: float,
) -> Found:  # fmt: skip
    """``ends``: when all of it should be done."""
    model, pictures = made
    told(f"{model.name}: counts compared")
    found: Found = {
        "channels": sum(la.channels for la in model.layers),
        "compared": compared(model, pictures.split(checked, 1), device, size),
    }
    told(f"{model.name}: trials on {device.type}")
    split = pictures.split(images, 2)
    seconds = max(1.0, min(size.seconds, 0.6 * (ends - time.monotonic())))
    found["timed"] = timed(on(model, device), split, layers, seconds)
    if device.type == "cuda":
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        told(f"{model.name}: a trial on two cores")
        until = time.monotonic() + 0.4 * seconds
        found["two_cores"] = trial(model, split, last(model, split, layers), "margin", 16.0, until)
        torch.set_num_threads(threads)
    return found


def told(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def measured(size: Size, device: torch.device) -> Found:
    begun = time.monotonic()
    found: Found = {"machine": machine(device), "size": asdict(size), "nets": {}}
    made = deepid(size.deepid_classes, size.deepid_seen, size.steps, device)
    found["nets"]["DeepID"] = net_measured(made, size.deepid_images, size.checked[0], 3, device, size,
                                            begun + WHOLE / 2)  # fmt: skip
    made = resnet(size.resnet_width, size.steps, device)
    found["nets"]["ResNet-18"] = net_measured(made, size.resnet_images, size.checked[1], 8, device, size,
                                               begun + WHOLE)  # fmt: skip
    each = [net["compared"] for net in found["nets"].values()]
    found["equal"] = all(one["counts_equal"] and one["steps_equal"] for one in each)
    found["seconds"] = time.monotonic() - begun
    return found


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 where counts or steps differ."""
    there = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full" if there else "small")
    parser.add_argument("--device", default="cuda" if there else "cpu")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    given = parser.parse_args(arguments)
    found = measured(SIZES[given.size], torch.device(given.device))
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    told(f"{given.out}: counts and steps {'equal' if found['equal'] else 'DIFFER'}, {found['seconds']:.0f} s")
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
