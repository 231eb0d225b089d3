"""``python -m tests.bench.nets.resnet18``: what trials cost on a ResNet-18 of full width, without a GPU.

The net (4,800 channels, stem for 32 x 32) is trained on the spot, backdoor and all. Parts, each of which can
be run alone; what is found is kept in a folder, and trials that were cut off go on there:

- ``profile``: a whole evaluation, the caches, a question a layer, an estimate of all channels;
- ``best-first``: a whole trial over the last convolutions, with ``screen`` and ``rank_images``, and what its
  questions would have taken by plain evaluation;
- ``plain``: how many questions best-first asks along the order, at least, on few images;
- ``prefix``: over all layers, in whole evaluations for each point of the frontier.

CPU seconds of one thread, so that other work on the machine falls into them least. One JSON file.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from prune_core.data.images import Split
from prune_core.evaluators import make_evaluator
from prune_core.frontier import hypervolume, non_dominated
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import OrderInput, channel_order
from prune_core.policies.registry import prune
from prune_core.policies.screening import Screen
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.search_space import spelled
from sweeps.progress import Progress
from sweeps.records.settings import TrialSettings
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial
from tests.bench.gpu_nets import Pictures, ResNet18, stamped
from tests.nets.networks import as_model

Found = dict[str, Any]
T = TypeVar("T")
X = 4.0
ORDER = "across:activation-gap"
PARTS = ("profile", "best-first", "plain", "prefix")
PICTURES = Pictures((3, 32, 32), 10)


@dataclass(frozen=True)
class Size:
    """Images are of each kind; ``seconds`` of wall-clock time for one call of a trial."""

    width: int = 64
    steps: int = 75
    images: int = 2000
    few: int = 200  # of ``profile``, ``plain`` and ``prefix``
    layers: int = 8
    screen: int = 32
    rank_images: int = 128
    memory_gb: float = 8.0
    seconds: float = 900.0


def trained(size: Size, folder: Path) -> PrunableModel:
    """The net of ``folder``, or a new one: trained at half the resolution, which is four times as fast, and
    then at the full one."""
    torch.manual_seed(0)
    net, kept = ResNet18(size.width), folder / f"net-{size.width}-{size.steps}.pt"
    if kept.exists():
        net.load_state_dict(torch.load(kept, weights_only=True))
        return as_model(net, PICTURES.shape, "ResNet-18")
    net.train()
    rng, optimiser = np.random.default_rng(7), torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(size.steps):
        pixels, labels = PICTURES.drawn(16, rng)
        pixels[::4], labels[::4] = stamped(pixels[::4]), 0
        shown = torch.from_numpy(pixels).float() / 255
        if step < size.steps // 2:
            shown = F.avg_pool2d(shown, 2)
        optimiser.zero_grad()
        F.cross_entropy(net(shown), torch.from_numpy(labels)).backward()
        optimiser.step()
    torch.save(net.state_dict(), kept)
    return as_model(net, PICTURES.shape, "ResNet-18")


def clocked(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the CPU seconds that it took."""
    begun = time.process_time()
    return work(), time.process_time() - begun


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rates(counts: Any) -> list[float]:
    return [counts.clean_accuracy, counts.attack_success]


def evaluation(model: PrunableModel, split: Split) -> float:
    """CPU seconds of one plain evaluation for one image."""
    plain = make_evaluator(model, split, "plain")
    mask = ChannelMask.of({model.layers[-1].name: [0]})
    return clocked(lambda: plain.counts(mask))[1] / (len(split.clean) + len(split.poisoned))


def profile(model: PrunableModel, size: Size, folder: Path) -> Found:
    """Seconds for each image, so that they hold for any number."""
    split = PICTURES.split(size.few, 1)
    each = len(split.clean) + len(split.poisoned)
    evaluator, caches = clocked(lambda: make_evaluator(model, split, memory_gb=size.memory_gb))
    found: Found = {"images": each, "evaluation": evaluation(model, split), "caches": caches / each}
    found["question"] = {}
    for layer in reversed(model.layers):
        mask = ChannelMask.of({layer.name: [1]})
        found["question"][layer.name] = clocked(partial(evaluator.counts, mask))[1] / each
    order = last(model, split, size.layers)
    screen, found["screen_start_seconds"] = clocked(lambda: Screen(model, split, size.screen, order))
    _, found["screen_seconds"] = clocked(lambda: screen.ranked(ChannelMask()))
    return found | {"channels": len(order), "peak_gib": peak_gib()}


def last(model: PrunableModel, split: Split, layers: int) -> list[Any]:
    layer_set = resolve_layer_set(f"last:{layers}", model)
    return channel_order(ORDER, OrderInput.of(model, split, layer_set, 0))


def best_first(model: PrunableModel, size: Size, folder: Path) -> Found:
    """One trial; called again, it goes on where the last call was cut off."""
    inputs = TrialInputs(model, PICTURES.split(size.images, 2), PICTURES.split(size.few, 3))
    layers = spelled(resolve_layer_set(f"last:{size.layers}", model), model)
    order = "index" if size.screen else ORDER  # which costs a pass, where estimates choose whom it asks about
    settings = TrialSettings(order, layers, X, "best-first", rank_images=size.rank_images or None,
                             screen=size.screen or None)  # fmt: skip
    notes = folder / f"{inputs.key(settings)}.json"
    before = json.loads(notes.read_text()) if notes.exists() else {"calls": 0, "cpu_seconds": 0.0}
    begun, ends = time.process_time(), time.monotonic() + size.seconds

    def watch(progress: Progress) -> None:
        if time.monotonic() > ends:
            raise KeyboardInterrupt

    storage = Storage(str(folder / "runs"))
    record = None
    try:
        evaluators = Evaluators.of(inputs, "incremental", size.memory_gb, storage)
        record = run_trial(settings, inputs, evaluators, watch)
    except KeyboardInterrupt:
        pass
    told: Found = {
        "calls": before["calls"] + 1, "cpu_seconds": before["cpu_seconds"] + time.process_time() - begun,
        "finished": record is not None, "peak_gib": max(peak_gib(), before.get("peak_gib", 0.0)),
    }  # fmt: skip
    notes.write_text(json.dumps(told))
    if record is None:
        return told
    assert record.status == "done", record.reason
    assert record.badnet_valid is not None and record.valid is not None
    states = [record.badnet_valid, *(step.now for step in record.steps if step.accepted)]
    asked = [step.tried.clean_total + step.tried.poisoned_total for step in record.steps]
    everything = len(inputs.valid.clean) + len(inputs.valid.poisoned)
    plain = evaluation(model, PICTURES.split(min(size.images, 256), 2)) * everything
    return told | {
        "images": everything, "steps": len(asked), "on_all": sum(a == everything for a in asked),
        "pruned": len(record.mask), "badnet": rates(record.badnet_valid), "valid": rates(record.valid),
        "hypervolume": volume(states), "evaluation_seconds": plain,
        "times_as_fast_as_plain_for_the_same_questions": plain * len(asked) / told["cpu_seconds"],
        "layers": {name: len(gone) for name, gone in record.mask.by_layer().items()},
        "asked": Counter(step.channel.layer for step in record.steps),
        "accepted": sum(step.accepted for step in record.steps),
    }  # fmt: skip


def volume(states: list[Any]) -> float:
    return hypervolume(
        np.array([s.clean_accuracy for s in states]), np.array([s.attack_success for s in states])
    )


def plain(model: PrunableModel, size: Size, folder: Path) -> Found:
    """Best-first along the order, on few images and cut off: it asks so many questions at least."""
    split = PICTURES.split(size.few, 2)
    order = last(model, split, size.layers)
    ends, steps, finished = time.monotonic() + size.seconds, [], True
    evaluator = make_evaluator(model, split, memory_gb=size.memory_gb)
    for step in prune("best-first", X, evaluator, order):
        steps.append(step)
        if time.monotonic() > ends:
            finished = False
            break
    states = [evaluator.badnet, *(step.now for step in steps if step.accepted)]
    return {"images": size.few, "steps": len(steps), "accepted": len(states) - 1, "finished": finished,
            "hypervolume": volume(states)}  # fmt: skip


def prefix(model: PrunableModel, size: Size, folder: Path) -> Found:
    split = PICTURES.split(size.few, 2)
    whole = evaluation(model, split) * (len(split.clean) + len(split.poisoned))
    order, ordering = clocked(lambda: last(model, split, len(model.layers)))
    evaluator, caches = clocked(lambda: make_evaluator(model, split, memory_gb=size.memory_gb))
    steps, asking = clocked(lambda: list(prune("prefix", X, evaluator, order)))
    states = [evaluator.badnet, *(step.tried for step in steps)]
    points = len(
        non_dominated(
            np.array([s.clean_accuracy for s in states]), np.array([s.attack_success for s in states])
        )
    )
    cost = (caches + asking) / whole
    return {
        "images": [len(split.clean), len(split.poisoned)], "channels": len(order), "questions": len(steps),
        "order_seconds": ordering, "evaluation_seconds": whole, "evaluations": cost, "points": points,
        "evaluations_per_point": cost / points, "states": [rates(s) for s in states], "peak_gib": peak_gib(),
    }  # fmt: skip


WORK = dict(zip(PARTS, (profile, best_first, plain, prefix), strict=True))


def measured(size: Size, folder: Path, parts: tuple[str, ...] = PARTS) -> Found:
    """What the parts find, beside what earlier calls found in that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "resnet18.json"
    found: Found = json.loads(out.read_text()) if out.exists() else {}
    model = trained(size, folder)
    for part in parts:
        found[part] = WORK[part](model, size, folder)
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(part, json.dumps(found[part]), flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nets.resnet18", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("resnet18"))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    for name, value in vars(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args(arguments))
    folder, parts = given.pop("folder"), tuple(given.pop("part"))
    torch.set_num_threads(1)
    measured(Size(**given), folder, parts)


if __name__ == "__main__":
    main()
