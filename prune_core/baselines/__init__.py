"""Published defences, each from its paper, for comparison on the same images and the same frontier.

Each yields its nets from the mildest threshold on; which one is taken is chosen on validation like any
other state. What they see is what their papers give them, clean images or the weights alone.

ANP, CLP and RNP are written for networks with batch norm, whose scales they read, mask or perturb. A
network without (or with batch norm folded into the convolutions, which is the same function) has a
factor on each channel's output in their place; where a batch norm follows, the factor stands behind
it. CLP reads the kernel, times the batch norm's scale over deviation where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prune_core.baselines.anp import anp
from prune_core.baselines.clp import clp
from prune_core.baselines.fine_pruning import fine_pruning
from prune_core.baselines.rnp import rnp
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.nets import Given, MadeNet, Tell

BASELINES: dict[str, Callable[[Given, LayerSet, Tell], Iterator[MadeNet]]] = {
    "baseline:fine-pruning": fine_pruning,
    "baseline:anp": anp,
    "baseline:clp": clp,
    "baseline:rnp": rnp,
}
