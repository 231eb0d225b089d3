"""CLP: channels with an outlying Lipschitz bound. Zheng et al., ECCV 2022, arXiv 2208.03111."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from prune_core.baselines.neurons import Neuron, Silencer, along
from prune_core.model.layer_sets import LayerSet
from prune_core.orders.plain import lipschitz_bounds
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.repair.training_copy import places_of
from prune_core.threads import steps_on_fixed_threads

# The paper's u is 3; the walk goes from nobody's outlier down to the mean.
U = tuple(x / 4 for x in range(24, -1, -1))


@steps_on_fixed_threads
def clp(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """Prune channels whose bound (largest singular value of the kernel, times the scale over deviation of
    the batch norm that takes it in) exceeds its layer's mean by u standard deviations (with n - 1); a net
    for each u. Needs no images; none to train with, either.

    Scale and shift of the batch norm go, as in the authors' code: where another layer takes the
    convolution's output too, it still does.
    """
    model = given.model
    neurons = []
    for name, channels in layer_set:
        (place,) = places_of(model, [name])
        norm = place.module if place.is_norm else None
        outlying = _deviations(lipschitz_bounds(model, model.layer(name), norm))
        neurons += [Neuron(place, c, -float(outlying[c])) for c in channels]
    neurons.sort(key=lambda neuron: neuron.value)
    silencer = Silencer(model)
    tell(1, 1, "CLP")
    for first, note in along(neurons, [-u for u in U], counts=False):
        yield silencer.net(first, f"CLP, minus u as {note}")


def _deviations(bounds: np.ndarray) -> np.ndarray:
    """How many standard deviations each bound lies above the mean of its layer."""
    spread = bounds.std(ddof=1) if len(bounds) > 1 else 0.0
    deviations: np.ndarray = (bounds - bounds.mean()) / (spread if spread > 0 else 1.0)
    return deviations
