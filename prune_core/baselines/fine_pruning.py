"""Fine-Pruning. Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv 1805.12185."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from prune_core.baselines.masked import CleanBatches
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.model.parameters import changed_weights, parameters_of, student_of
from prune_core.orders import OrderInput
from prune_core.orders.activations import activation
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.threads import steps_on_fixed_threads

SHARES = tuple(x / 20 for x in range(1, 20))  # of the last layer's channels that are pruned
RATE, STEPS = 1e-4, 20  # steps of fine-tuning after each share, from the net before


@steps_on_fixed_threads
def fine_pruning(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """Prune the channels of the last convolution that clean images activate least, and fine-tune all
    weights on the clean images' labels; a net for each share of pruned channels. Fine-tuning goes on
    from one share to the next, with pruned channels held at zero."""
    model = given.model
    names = [name for name, _ in layer_set]
    last = next(layer.name for layer in reversed(model.layers) if layer.name in names)
    channels = dict(layer_set)[last]
    scores = activation(OrderInput.of(model, given.valid, [(last, channels)], given.seed))[last]
    order = sorted(channels, key=lambda c: (scores[c], c))
    student, batches = student_of(model), CleanBatches(given)
    before = {p.name: p.value() for p in parameters_of(model)}
    parameters = [p for p in parameters_of(student) if p.kind in ("conv", "dense")]
    for parameter in parameters:
        parameter.tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([p.tensor for p in parameters], lr=RATE)
    for number, share in enumerate(SHARES, 1):
        count = int(np.ceil(share * len(order)))
        mask = ChannelMask.of({last: order[:count]})
        held = list(student.tensors_of(mask))
        with torch.no_grad():
            for tensor, rows in held:
                tensor[rows] = 0
        for pixels, labels in batches.take(STEPS):
            loss = functional.cross_entropy(student.graph(student.arranged(pixels)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for tensor, rows in held:
                    tensor[rows] = 0
        tell(number, len(SHARES), "Fine-Pruning")
        yield MadeNet(mask, changed_weights(parameters, before), f"Fine-Pruning, {share:.0%} of {last}")
