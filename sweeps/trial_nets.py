"""The part of a trial that makes nets otherwise than by pruning: scaling, baselines, repairs.

Each net that is made is counted on validation and accepted when it stays within X."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prune_core.counts import Counts, exact_points
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.net_counter import NetCounter
from prune_core.files.constants import weights_digest
from prune_core.model.model import PrunableModel
from prune_core.repair.nets import MadeNet
from sweeps.records import ChangedNet

BEYOND = 2  # nets in a row that are beyond X end a policy's walk


@dataclass(frozen=True, eq=False)
class Bound:
    """What a net may cost: ``x`` points of the BadNet's clean accuracy, counted by ``evaluator``
    (validation)."""

    x: float
    model: PrunableModel
    evaluator: Evaluator

    def judged(self, made: Iterable[MadeNet]) -> Iterator[ChangedNet]:
        """Every net with its counts, and whether it is within the bound; numbered from 0."""
        count, badnet = NetCounter(self.model, self.evaluator), self.evaluator.badnet
        for step, net in enumerate(made):
            yield _judged(step, net, count(net.mask, net.weights), badnet, self.x)


def until_beyond(nets: Iterable[ChangedNet]) -> Iterator[ChangedNet]:
    """Nets up to the second in a row that is beyond X: policies make the mildest first."""
    beyond = 0
    for net in nets:
        yield net
        beyond = 0 if net.accepted else beyond + 1
        if beyond == BEYOND:
            return


def _judged(step: int, net: MadeNet, counts: Counts, badnet: Counts, x: float) -> ChangedNet:
    within = counts.clean_accuracy_fell(since=badnet) <= exact_points(x)
    digest = weights_digest(net.weights) if net.weights else None
    kept = net.weights if within and digest else None
    return ChangedNet(step, net.note, net.mask, counts, within, digest, kept)
