"""Best-first in leaps: several channels at a time, each leap counted on all images."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

import goodnet
from prune_core.counts import exact_points
from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.evaluators import make_evaluator
from prune_core.greedy import PruneStep, Walk
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.policies.leaps import SHARE, Leap
from prune_core.policies.registry import prune
from prune_core.policies.screening import Screen
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_report import TrialReport
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.tracking.trial_files import trial_files
from sweeps.trial import run_trial
from tests.nets.networks import made

NETS = [("Chain", 3), ("Residual", 1), ("Fork", 1), ("Depthwise", 5)]
A, B, C = Channel("a", 0), Channel("a", 1), Channel("b", 0)


def net_of(kind: str, seed: int) -> tuple[PrunableModel, Split, list[Channel]]:
    model, split = made(kind, seed)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(la.channels)]
    return model, split, order


def walked(model: PrunableModel, split: Split, order: list[Channel], count: int, x: float) -> list[PruneStep]:
    few = subset(split, 20, 0) or split
    screen = lambda order: Screen(model, split, count, order)  # noqa: E731
    evaluator = make_evaluator(model, split)
    return list(prune("best-first", x, evaluator, order, lambda: make_evaluator(model, few), screen))


@pytest.mark.parametrize("kind, seed", NETS)
@pytest.mark.parametrize("count", [1, 16])
def test_every_leap_is_counted_on_all_images_and_within_x(kind: str, seed: int, count: int) -> None:
    model, split, order = net_of(kind, seed)
    whole = make_evaluator(model, split, "plain")
    now, mask, leapt = whole.badnet, ChannelMask(), 0
    for step in walked(model, split, order, count, 20.0):
        if isinstance(step, Leap):
            told = whole.counts(step.after(mask))
            within = told.clean_accuracy_fell(since=whole.badnet) <= exact_points(20.0)
            assert step.tried == told if within else not step.tried.complete
            assert len(step.along) < max(1, count // SHARE) or step.returned is not None
        if step.accepted:
            assert isinstance(step, Leap)
            leapt = max(leapt, 1 + len(step.along))
            mask, now = step.after(mask), step.now
            assert now == step.tried == whole.counts(mask)
        assert step.mask == mask and step.now == now
    assert leapt > 1 if count > SHARE else leapt == 1


@pytest.mark.parametrize("kind, seed", NETS)
def test_alone_and_on_all_images_it_takes_the_best_of_all(kind: str, seed: int) -> None:
    """The plain twin asks about every channel."""
    model, split, order = net_of(kind, seed)
    order = order[: 2 * SHARE - 1]  # so that a leap is of one channel
    evaluator = make_evaluator(model, split)
    screen = lambda order: Screen(model, split, len(order), order)  # noqa: E731
    taken = next((s for s in prune("best-first", 20.0, evaluator, order, lambda: evaluator, screen)
                  if s.accepted), None)  # fmt: skip
    walk = Walk.start(evaluator, 20.0)
    worths = {c: w for c in order if (w := walk.worth(walk.try_net(c).tried)) is not None}
    assert (taken is None) == (not worths)
    if taken is not None:
        assert worths[taken.channel] == max(worths.values()) and taken.mask.channels == {taken.channel}


def test_what_goes_and_what_comes_back(tmp_path: Path) -> None:
    model, split, _ = net_of("Chain", 3)
    badnet = make_evaluator(model, split).badnet
    there = Leap(A, False, badnet, ChannelMask(), badnet, None, (C,))
    assert there.after(ChannelMask(frozenset([B]))).channels == {A, B, C}
    back = replace(there, returned=A)
    assert back.after(ChannelMask(frozenset([A, B, C]))).channels == {B}


def test_a_trial_its_record_and_its_key(tmp_path: Path) -> None:
    model, split, order = net_of("Residual", 1)
    inputs = TrialInputs(model, split, split)
    layers = tuple(dict.fromkeys(c.layer for c in order))
    given = TrialSettings("index", layers, 20.0, "best-first", screen=16, rank_images=20)
    record = run_trial(given, inputs, Evaluators.of(inputs, "incremental", 4.0))
    assert record.status == "done"
    leaps = [step for step in record.steps if isinstance(step, Leap) and step.along]
    assert leaps
    store = RecordStore(Storage(str(tmp_path)))
    store.write(record)
    assert store.read(record.key) == record
    told = TrialReport.of(record).command_json(len(order), record.steps)["steps"]
    assert sum("along" in step for step in told) == sum(isinstance(step, Leap) for step in record.steps)
    rows = list(csv.DictReader(io.StringIO(trial_files(record)["steps.csv"].decode())))
    assert [len(row["along"].split()) for row in rows if row["along"]] == [len(s.along) for s in leaps]
    found = goodnet.prune(model, split, layers=layers, order="index", x=20, screen=16, rank_images=20)
    assert found.steps == record.steps
