"""Ranking on a part of the images: what is accepted is counted on all, and with all it decides as without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import goodnet
from prune_core.counts import exact_points
from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.errors import InputError
from prune_core.evaluators import make_evaluator
from prune_core.greedy import prune_best_first
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.policies.ranked import prune_best_first_ranked
from prune_core.policies.registry import prune
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.grid import trials_of
from sweeps.records.settings import TrialSettings
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.tracking.trial_files import trial_files
from sweeps.trial import run_trial
from tests.nets.networks import made

NETS = [("Chain", 3), ("Residual", 1), ("Fork", 1), ("Depthwise", 5)]


def net_of(kind: str, seed: int) -> tuple[PrunableModel, Split, list[Channel]]:
    model, split = made(kind, seed)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(la.channels)]
    return model, split, order


@pytest.mark.parametrize("kind, seed", NETS)
@pytest.mark.parametrize("x", [4.0, 20.0])
def test_with_all_images_it_decides_as_today(kind: str, seed: int, x: float) -> None:
    model, split, order = net_of(kind, seed)
    plain = list(prune_best_first(make_evaluator(model, split), order, x))
    ranked = list(
        prune_best_first_ranked(make_evaluator(model, split), make_evaluator(model, split), order, x)
    )
    assert ranked == plain and plain


@pytest.mark.parametrize("kind, seed", NETS)
@pytest.mark.parametrize("size", [6, 20])
def test_what_is_accepted_is_counted_on_all(kind: str, seed: int, size: int) -> None:
    model, split, order = net_of(kind, seed)
    few = subset(split, size, 0)
    assert few is not None
    whole, part = make_evaluator(model, split, "plain"), make_evaluator(model, few)
    steps = list(prune("best-first", 10.0, make_evaluator(model, split), order, lambda: part))
    now, mask = whole.badnet, ChannelMask()
    for step in steps:
        totals = (step.tried.clean_total, step.tried.poisoned_total)
        assert totals in ((50, 40), (size, size))
        if step.accepted:
            mask, now = step.after(mask), step.now
            assert totals == (50, 40) and step.tried == step.now == whole.counts(mask)
            assert now.clean_accuracy_fell(since=whole.badnet) <= exact_points(10.0)
        assert step.mask == mask and step.now == now
    assert any(step.tried.clean_total == size for step in steps)


def test_a_part_that_is_wrong_of_the_whole_is_overruled() -> None:
    """It ranks by images on which the opposite is true."""
    model, split, order = net_of("Chain", 3)
    few = subset(split, 3, 0)
    assert few is not None
    turned = replace(few, poisoned=replace(few.poisoned, labels=np.full(len(few.poisoned), 3)))
    whole = make_evaluator(model, split)
    steps = list(prune_best_first_ranked(whole, make_evaluator(model, turned), order, 50.0))
    refused = [s for s in steps if not s.accepted and s.tried.clean_total == len(split.clean)]
    assert refused and all(s.now.complete for s in steps)


def test_a_part_holds_every_class_and_trigger_by_its_share() -> None:
    labels = np.repeat([0, 1, 2], [10, 30, 60])
    pixels = np.arange(100, dtype=np.uint8)[:, None, None, None]
    other = np.full((8, 1, 1, 1), 9, np.uint8)
    split = Split.from_arrays(pixels, labels, [pixels[40:], other], [0, 0], [labels[40:], labels[40:48]])
    few = subset(split, 20, 3)
    assert few is not None
    assert np.bincount(few.clean.labels).tolist() == [2, 6, 12]
    assert [len(few.targets[rows]) for rows in few.rows_by_trigger] == [18, 2]
    assert (few.clean.pixels.flatten() == np.flatnonzero(np.isin(pixels.flatten(), few.clean.pixels))).all()
    again, another = subset(split, 20, 3), subset(split, 20, 4)
    assert again is not None and another is not None
    assert again.digest == few.digest != another.digest
    assert subset(split, 100, 0) is None
    one = subset(split, 1, 0)
    assert one is not None and all(len(one.targets[rows]) == 1 for rows in one.rows_by_trigger)


def test_keys_and_names_without_it_are_what_they_were() -> None:
    plain = TrialSettings("index", ("a",), 4.0, "best-first")
    assert "rank_images" not in plain.to_json()
    ranked = replace(plain, rank_images=64)
    assert TrialSettings.from_json(ranked.to_json()) == ranked and "ranked on 64 images" in str(ranked)
    model, _, _ = net_of("Chain", 3)
    tree = {"name": "a", "badnet": "embedded", "sweep": {"policies": ["margin", "best-first"]}}
    tree["sweep"] |= {"rank_images": 64, "x_thresholds": [4], "seeds": [0, 1]}
    trials = trials_of(make_config(tree, "a test").sweep, model)
    assert [(t.policy, t.rank_images, t.seed) for t in trials] == [
        ("margin", None, 0), ("best-first", 64, 0), ("best-first", 64, 1),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"sweep\.rank_images"):
        make_config({"name": "a", "badnet": "embedded", "sweep": {"rank_images": 0}}, "a test")


def test_a_record_says_on_how_many_images_each_question_was_asked(tmp_path: Path) -> None:
    model, split, order = net_of("Residual", 1)
    inputs = TrialInputs(model, split, split)
    layers: Sequence[str] = tuple(dict.fromkeys(c.layer for c in order))
    given = TrialSettings("index", tuple(layers), 10.0, "best-first", rank_images=20)
    evaluators = Evaluators.of(inputs, "incremental", 4.0)
    record = run_trial(given, inputs, evaluators)
    assert record.status == "done" and {s.tried.clean_total for s in record.steps} == {20, 50}
    store = RecordStore(Storage(str(tmp_path)))
    store.write(record)
    assert store.read(record.key) == record
    assert b"tried_images" in trial_files(record)["steps.csv"].splitlines()[0]
    every = replace(given, rank_images=50)
    plain = run_trial(replace(given, rank_images=None), inputs, Evaluators.of(inputs, "incremental", 4.0))
    same = run_trial(every, inputs, evaluators)
    assert same.steps == plain.steps and same.key != plain.key != record.key


def test_one_trial_in_memory() -> None:
    model, split, _ = net_of("Residual", 1)
    layers = [la.name for la in model.layers[1:]]
    found = goodnet.prune(model, split, layers=layers, order="index", x=10, rank_images=20)
    assert {s.tried.clean_total for s in found.steps} == {20, 50} and found.counts.clean_total == 50
    every = goodnet.prune(model, split, layers=layers, order="index", x=10, rank_images=50)
    assert every.steps == goodnet.prune(model, split, layers=layers, order="index", x=10).steps
    with pytest.raises(InputError, match="rank_images is 0"):
        goodnet.prune(model, split, rank_images=0)
