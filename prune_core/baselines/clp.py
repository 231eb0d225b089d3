"""CLP: channels with an outlying Lipschitz bound. Zheng et al., ECCV 2022, arXiv 2208.03111."""

from __future__ import annotations

from collections.abc import Iterator

from prune_core.baselines.thresholds import pruned_below
from prune_core.model.layer_sets import LayerSet
from prune_core.orders import OrderInput
from prune_core.orders.plain import clp as minus_bounds
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.threads import steps_on_fixed_threads

# The paper's u is 3; the walk goes from nobody's outlier down to the mean.
U = tuple(x / 4 for x in range(24, -1, -1))


@steps_on_fixed_threads
def clp(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """Prune channels whose bound (largest singular value of the kernel) exceeds its layer's mean by u
    standard deviations; a net for each u. Needs no images; none to train with, either."""
    bounds = minus_bounds(OrderInput.of(given.model, given.valid, layer_set, given.seed))
    values = {}
    for layer, _ in layer_set:
        spread = bounds[layer].std()
        # Scores are the negated bounds, so an outlier lies below: (mean - bound) / deviation.
        values[layer] = (bounds[layer] - bounds[layer].mean()) / (spread if spread > 0 else 1.0)
    tell(1, 1, "CLP")
    yield from pruned_below(values, layer_set, [-u for u in U], "CLP, minus u as")
