"""The things that are measured, each in a process of its own: ``python -m tests.bench.measure NAME
'{"argument": value}'`` prints what was measured as JSON on its last line."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prune_core.counts import Ask
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.policies.registry import empty_mask, prune
from sweeps.config.schema import ResourcesConfig
from sweeps.config.sweep import SweepConfig
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.grid import trials_of
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial
from tests.bench.author.loop import as_deepid, seconds_of
from tests.bench.lab import the_lab
from tests.factories import handed_out
from tests.nets.networks import as_model

Found = dict[str, Any]


def clock() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rate() -> Found:
    """Floating-point operations a second of the machine's matrix product, the best of several."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(12):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return {"flops_per_second": best, "threads": torch.get_num_threads()}


def author(images: int, candidates: int) -> Found:
    lab = the_lab()
    split, net = lab.split("valid", images), as_deepid(lab.model)
    spread = np.linspace(0, 179, candidates).round().astype(int)
    order = lab.order()
    seconds_of(net, small(split), order[0])
    return {"seconds": [seconds_of(net, split, order[i]) for i in spread], "real": lab.real}


def small(split: Split) -> Split:
    rows = range(min(128, len(split.clean)))
    return make_split(split.clean.keeping(rows), split.poisoned.keeping(rows))


def plain(images: int) -> Found:
    lab = the_lab()
    evaluator = PlainEvaluator(lab.model, lab.split("valid", images))
    times = []
    for channel in range(3):
        before = clock()
        evaluator.counts(ChannelMask.of({"conv_3": [channel]}), Ask(margin=False))
        times.append(clock() - before)
    return {"wall": min(t[0] for t in times), "cpu": min(t[1] for t in times),
            "spread": [t[0] for t in times], "peak_gib": peak_gib()}  # fmt: skip


def trial(images: int, policy: str, x: float, memory_gb: float = 4.0) -> Found:
    """One walk over 180 candidates, caches included."""
    lab = the_lab()
    split = lab.split("valid", images)
    before = clock()
    evaluator = make_evaluator(lab.model, split, "incremental", memory_gb)
    built = clock()
    steps = list(prune(policy, x, evaluator, lab.order()))
    after = clock()
    return {
        "build": (built - before)[0], "wall": (after - before)[0], "cpu": (after - before)[1],
        "peak_gib": peak_gib(), "steps": len(steps), "accepted": len(steps[-1].mask),
        "evaluations": asked(steps, empty_mask(policy).keep_bias),
        "refused_early": sum(not s.tried.complete for s in steps),
    }  # fmt: skip


def asked(steps: list[PruneStep], two_nets: bool) -> int:
    """Whole evaluations that the plain evaluator makes for the same steps: one a candidate, and one
    more where the net with it accepted is another one than it was tried in."""
    earlier_layers = (
        sum(s.accepted and any(c.layer != s.channel.layer for c in s.mask) for s in steps) if two_nets else 0
    )
    return len(steps) + earlier_layers


def operations(images: int, policy: str, x: float) -> Found:
    """Floating-point operations (convolutions and matrix products), counted on fewer images."""
    lab = the_lab()
    split = lab.split("valid", images)
    with FlopCounterMode(display=False) as of_plain:
        PlainEvaluator(lab.model, split)
    with FlopCounterMode(display=False) as of_trial:
        evaluator = make_evaluator(lab.model, split)
        steps = list(prune(policy, x, evaluator, lab.order()))
    per = 2 * images
    return {"plain_per_image": of_plain.get_total_flops() / per,
            "trial_per_image": of_trial.get_total_flops() / per,
            "evaluations": asked(steps, empty_mask(policy).keep_bias)}  # fmt: skip


def grid(images: int, alone: int) -> Found:
    """A sweep's 27 trials in one worker, and ``alone`` of them as separate runs."""
    lab = the_lab()
    inputs = TrialInputs(lab.model, lab.split("valid", images), lab.split("test", images))
    trials = handed_out(trials_of(SweepConfig(
        orders=["index", "l1", "activation"], layer_sets=["last:1", "last:2", "last:3"],
        x_thresholds=[2, 4, 10], policies=["margin"],
    ), lab.model))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        before = clock()
        together = Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb, Storage(folder))
        records = [run_trial(s, inputs, together) for s in trials]
        wall, cpu = clock() - before
    peak = peak_gib()
    del together
    separate, equal = [], 0
    picked = np.linspace(0, len(trials) - 1, alone).round().astype(int)
    for i in picked:
        before = clock()
        evaluators = Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb)
        record = run_trial(trials[i], inputs, evaluators)
        separate.append((clock() - before).tolist())
        equal += replace(record, seconds=0.0) == replace(records[i], seconds=0.0)
        del evaluators
    failed = sum(r.status != "done" for r in records)
    return {"trials": len(trials), "wall": wall, "cpu": cpu, "peak_gib": peak,
            "separate": separate, "equal": equal, "failed": failed}  # fmt: skip


def chain(images: int, channels: int, depth: int) -> Found:
    """A made net: ``depth`` convolutions of ``channels`` channels; a whole margin trial at X = 10."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for level in range(depth):
        layers += [nn.Conv2d(channels if level else 3, channels, 3, padding=1), nn.ReLU()]
        if level < 3:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(channels * 16, 64), nn.ReLU(), nn.Linear(64, 10)]
    model = as_model(nn.Sequential(*layers), (3, 32, 32), "chain")
    split = made_split(model, images)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(la.channels)]
    before = clock()
    evaluator = make_evaluator(model, split)
    steps = list(prune("margin", 10, evaluator, order))
    wall, cpu = clock() - before
    whole = PlainEvaluator(model, split)
    times = []
    for channel in range(3):
        before = clock()
        whole.counts(ChannelMask.of({model.layers[1].name: [channel]}), Ask())
        times.append((clock() - before).tolist())
    best = min(times)
    return {"candidates": len(order), "wall": wall, "cpu": cpu, "evaluations": len(steps),
            "plain_wall": best[0], "plain_cpu": best[1]}  # fmt: skip


def made_split(model: PrunableModel, images: int) -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(2 * images, 3, 32, 32)).astype(np.float32)
    said = np.concatenate(
        [
            model.logits(torch.from_numpy(pixels[i : min(i + 256, images)])).argmax(dim=1).numpy()
            for i in range(0, images, 256)
        ]
    )
    return make_split(
        LabeledImages(pixels[:images], said, None, "made"),
        LabeledImages(pixels[images:], np.zeros(images, np.int64), None, "made"),
    )


MEASURES: dict[str, Callable[..., Found]] = {
    f.__name__: f for f in (rate, author, plain, trial, operations, grid, chain)
}


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](**json.loads(sys.argv[2]))))
