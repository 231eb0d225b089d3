"""Published defences, each from its paper, for comparison on the same images and the same frontier.

Each yields its nets from the mildest on, along a threshold and along a count; which one is taken is chosen
on validation like any other state. What they see is what their papers give them, clean images or the
weights alone. Where papers and their authors' code part, these follow the code, since its figures are
what is quoted.

A name alone is the published settings; ``NAME:VARIANT`` are others, as many for each method that has any
to set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from prune_core.baselines.anp import AnpSettings, anp
from prune_core.baselines.clp import clp
from prune_core.baselines.fine_pruning import FinePruningSettings, fine_pruning
from prune_core.baselines.rnp import RnpSettings, rnp
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.nets import Given, MadeNet, Tell

Baseline = Callable[[Given, LayerSet, Tell], Iterator[MadeNet]]


def _set(function: Callable[..., Iterator[MadeNet]], settings: object) -> Baseline:
    return partial(function, settings=settings)


BASELINES: dict[str, Baseline] = {
    "baseline:fine-pruning": fine_pruning,
    "baseline:fine-pruning:long": _set(fine_pruning, FinePruningSettings(steps=60)),
    "baseline:fine-pruning:fast": _set(fine_pruning, FinePruningSettings(rate=1e-3)),
    "baseline:fine-pruning:long-fast": _set(fine_pruning, FinePruningSettings(rate=1e-3, steps=60)),
    "baseline:anp": anp,
    "baseline:anp:plain": _set(anp, AnpSettings(batch=64, augmented=False)),
    "baseline:anp:mild": _set(anp, AnpSettings(budget=0.1, rate=0.1)),
    "baseline:anp:mild-plain": _set(anp, AnpSettings(budget=0.1, rate=0.1, batch=64, augmented=False)),
    "baseline:clp": clp,
    "baseline:rnp": rnp,
    "baseline:rnp:plain": _set(rnp, RnpSettings(augmented=False)),
    "baseline:rnp:slow": _set(rnp, RnpSettings(recovering_rate=0.05)),
    "baseline:rnp:slow-plain": _set(rnp, RnpSettings(recovering_rate=0.05, augmented=False)),
}
