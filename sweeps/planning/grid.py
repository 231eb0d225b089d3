"""The trials of a configuration whose choices are lists: the whole grid, or one trial."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prune_core.errors import InputError
from prune_core.methods import Inverted
from prune_core.model.model import PrunableModel
from sweeps.config.search import XRange
from sweeps.config.sweep import SweepConfig
from sweeps.planning.search_space import SearchSpace
from sweeps.records.settings import FINAL_LAYER, WHOLE_LAYER, TrialSettings


def trials_of(
    sweep: SweepConfig, model: PrunableModel, inverted: Inverted | None = None
) -> list[TrialSettings]:
    """Every trial of the search space once, X being a list; of ``search: random`` as many as
    ``samples`` says. Raises InputError for layers that the model does not have.

    Policy ``final-layer`` gets a trial with X = 100 besides: the report's row where the whole layer is
    gone. That is a row of a table, not a choice that a search may learn from. ``inverted``: as
    ``TrialInputs`` has it.
    """
    assert not isinstance(sweep.x_thresholds, XRange)  # ``search_space`` draws from it
    trials = SearchSpace.of(sweep, model, inverted).all
    final = (s for s in trials if s.policy == FINAL_LAYER and s.repair == "none")
    trials = list(dict.fromkeys([*trials, *(replace(s, x=WHOLE_LAYER) for s in final)]))
    if sweep.search == "random" and sweep.samples is not None and sweep.samples < len(trials):
        drawn = np.random.default_rng(sweep.search_seed).permutation(len(trials))[: sweep.samples]
        trials = [trials[i] for i in sorted(drawn)]
    return trials


def only_trial(sweep: SweepConfig, model: PrunableModel, inverted: Inverted | None = None) -> TrialSettings:
    """The one trial of a configuration whose lists have one entry each. Raises InputError."""
    for field in ("orders", "layer_sets", "x_thresholds", "policies", "repair", "seeds"):
        entries = getattr(sweep, field)
        if isinstance(entries, XRange):
            raise InputError(
                "goodnet prune does one trial, but sweep.x_thresholds is a range; choose one with "
                "--set sweep.x_thresholds=4"
            )
        if len(entries) != 1:
            shown = ", ".join(map(str, entries[:4]))
            raise InputError(
                f"goodnet prune does one trial, but sweep.{field} has {len(entries)} entries "
                f"({shown}); choose one with --set sweep.{field}=[...]"
            )
    return trials_of(sweep, model, inverted)[0]
