"""Walks of two evaluators side by side, and how far the numbers of the incremental one are off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from prune_core.counts import Ask
from prune_core.data.images import Split
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.incremental import costs
from prune_core.incremental.evaluator import IncrementalEvaluator
from prune_core.incremental.query import Question
from prune_core.masks import Channel
from prune_core.model.model import PrunableModel
from prune_core.policies.registry import prune


@contextmanager
def differences_free() -> Iterator[None]:
    """Whatever can be told by differences is, from the nearest base, be that the least work or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "DIFFERENCES", 0.0)
        yield


def same_walk(
    model: PrunableModel, split: Split, order: list[Channel], policy: str, x: float
) -> IncrementalEvaluator:
    plain, fast = PlainEvaluator(model, split), make_evaluator(model, split)
    assert isinstance(fast, IncrementalEvaluator)
    steps = zip(prune(policy, x, plain, order), prune(policy, x, fast, order), strict=True)
    for slow, quick in steps:
        assert quick == slow and quick.now.complete
    return fast


def largest_error(fast: IncrementalEvaluator) -> float:
    """Of leads in the base's net as it has come about by differences, against float64; relative to
    what ``GUARD`` is relative to."""
    nets, base = fast.nets, fast.nets.bases[-1]
    worst = 0.0
    with nets.exact.model.pruned(base.mask) as exact:
        for rows in nets.images.slices(64):
            hidden = nets.run(base.mask, base.mask, rows).old(nets.output.goal)
            logits = nets.output.logits(hidden).double()
            true = exact.logits(nets.images.pixels(rows).double())
            scale = torch.maximum(logits.abs().amax(dim=1), nets.logit_size[rows].double())
            label = nets.labels[rows][:, :1]
            lead = logits - logits.gather(1, label)
            error = (lead - (true - true.gather(1, label))).abs().amax(dim=1)
            worst = max(worst, float((error / scale).max()))
    return worst


def margin_error(fast: IncrementalEvaluator) -> float:
    """Of the mean margin of the base's net, against float64; relative to the BadNet's."""
    nets, base = fast.nets, fast.nets.bases[-1]
    poisoned = fast.split.poisoned
    mean = Question(nets, base, base.mask, Ask()).of_base_margins().mean()
    true = nets.exact.reply(poisoned, base.mask).margins.mean()
    badnet = abs(nets.exact.reply(poisoned, type(base.mask)()).margins).mean()
    return abs(float(mean) - float(true)) / float(badnet)
