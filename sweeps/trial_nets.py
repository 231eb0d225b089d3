"""The part of a trial that makes nets otherwise than by a pruning rule: scaling, repairs, baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prune_core.counts import Counts, exact_points
from prune_core.files.constants import Weights, weights_digest
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.net_policies import make_nets, repaired
from prune_core.repair.nets import Candidate, Given
from sweeps.progress import Progress, Watch
from sweeps.records import ChangedNet
from sweeps.settings import TrialSettings

# (mask, weights) -> counts on validation.
Measure = Callable[[ChannelMask, Weights], Counts]


def policy_nets(
    settings: TrialSettings,
    given: Given,
    layer_set: LayerSet,
    badnet: Counts,
    measure: Measure,
    watch: Watch,
) -> Iterator[ChangedNet]:
    """The nets of a policy that makes nets. The walk ends when two in a row are beyond X."""
    beyond = 0
    made = make_nets(settings.policy, given, layer_set, lambda d, t, what: watch(Progress(what, d, t, 0)))
    for number, candidate in enumerate(made):
        net = _measured(number, candidate, settings.x, badnet, measure)
        yield net
        beyond = 0 if net.accepted else beyond + 1
        if beyond == 2:
            return


def repaired_nets(
    settings: TrialSettings,
    given: Given,
    start: Candidate,
    step: int,
    badnet: Counts,
    measure: Measure,
    watch: Watch,
) -> Iterator[ChangedNet]:
    """What ``settings.repair`` makes of the net that a policy ended with; counted from ``step``."""
    pruned = len(start.mask)
    made = repaired(
        settings.repair,
        given,
        start,
        lambda d, t, what: watch(Progress(what, d, t, pruned)),
    )
    for number, candidate in enumerate(made, step):
        yield _measured(number, candidate, settings.x, badnet, measure)


def _measured(step: int, candidate: Candidate, x: float, badnet: Counts, measure: Measure) -> ChangedNet:
    counts = measure(candidate.mask, candidate.weights)
    within = counts.clean_accuracy_fell(since=badnet) <= exact_points(x)
    digest = weights_digest(candidate.weights) if candidate.weights else None
    kept = candidate.weights if within and digest else None
    return ChangedNet(step, candidate.note, candidate.mask, counts, within, digest, kept)
