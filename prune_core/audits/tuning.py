"""Fine-tuning a repaired net: with a few poisoned images among clean ones, or with clean ones alone.

A repair may have put the backdoor to sleep and no more; then very few poisoned images wake it. Source:
the retuning attack of Min et al., arXiv 2410.09838, whose authors fine-tune for 5 epochs on 2 % of the
training images, a few of them poisoned. Every net learns a trigger from enough images, one that never had a
backdoor too: the same audit of a benign net says how much of a figure that is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from prune_core.audits.entries import Entry
from prune_core.audits.subject import Asked, Heap, hits, right, unchanged
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of, student_of
from prune_core.threads import fixed_threads

STEPS, BATCH, RATE = 40, 64, 3e-4  # Adam: about 5 epochs of 500 images
PART = 8  # one image in so many of a batch is poisoned


def tuning_settings(images: int) -> dict[str, Any]:
    """The setting of an entry; ``images``: poisoned ones, of each trigger."""
    return {"poisoned_images": images, "steps": STEPS, "batch": BATCH, "learning_rate": RATE}


def reactivated(asked: Asked, setting: dict[str, Any], seed: int) -> Entry:
    """Fine-tuned with ``setting["poisoned_images"]`` poisoned images of each trigger."""
    images = setting["poisoned_images"]
    return _entry(asked, "reactivation", setting, seed, f"{images} poisoned images of each trigger")


def clean_tuned(asked: Asked, setting: dict[str, Any], seed: int) -> Entry:
    """Fine-tuned on clean images with their labels, as an owner may who suspects nothing."""
    return _entry(asked, "clean-tuning", setting, seed, "nothing: the owner trains on clean images")


def _entry(asked: Asked, audit: str, setting: dict[str, Any], seed: int, assumed: str) -> Entry:
    net = tuned(asked, setting, seed)
    shown = asked.exhibits
    return Entry(
        audit,
        setting,
        seed,
        clean=right(net, shown.clean_test),
        attacked=hits(net, shown.test, unchanged),
        valid=hits(net, shown.valid, unchanged),
        before=asked.clean,
        assumed=assumed + f" and {len(shown.clean[1])} clean ones",
    )


@fixed_threads()
def tuned(asked: Asked, setting: dict[str, Any], seed: int) -> PrunableModel:
    """The net after fine-tuning; pruned channels stay zero, as in files from which they are removed, and
    statistics of batch norms stay as they are. The model itself is left as found."""
    student = student_of(asked.subject.model)
    held = list(student.tensors_of(asked.subject.mask))
    parameters = parameters_of(student)
    generator = torch.Generator().manual_seed(seed)
    pools = [_drawn(heap, setting["poisoned_images"], generator) for heap in asked.exhibits.pool]
    pixels, labels = asked.exhibits.clean
    for parameter in parameters:
        parameter.tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([p.tensor for p in parameters], lr=setting["learning_rate"])
    _hold(held)
    for _ in range(setting["steps"]):
        batch = setting["batch"]
        bad = batch // PART if setting["poisoned_images"] else 0
        rows = torch.randint(len(labels), (batch - bad,), generator=generator).to(labels.device)
        seen, wanted = [pixels[rows]], [labels[rows]]
        if bad:
            heap = pools[int(torch.randint(len(pools), (), generator=generator))]
            drawn = torch.randint(len(heap.targets), (bad,), generator=generator).to(labels.device)
            seen.append(heap.pixels[drawn])
            wanted.append(heap.targets[drawn])
        logits = student.graph(student.arranged(torch.cat(seen)))
        optimizer.zero_grad()
        functional.cross_entropy(logits, torch.cat(wanted)).backward()
        optimizer.step()
        _hold(held)
    for parameter in parameters:
        parameter.tensor.requires_grad_(False)
    return student


def _drawn(heap: Heap, count: int, generator: torch.Generator) -> Heap:
    rows = torch.randperm(len(heap.targets), generator=generator)[:count].to(heap.targets.device)
    return Heap(heap.pixels[rows], heap.targets[rows])


def _hold(held: list[tuple[torch.Tensor, list[int]]]) -> None:
    with torch.no_grad():
        for tensor, rows in held:
            tensor[rows] = 0
