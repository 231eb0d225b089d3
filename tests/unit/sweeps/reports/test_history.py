"""Hypervolume as it grew, and channels counted: worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import make_record, make_settings

from prune_core.masks import ChannelMask
from sweeps.records.ran import Ran
from sweeps.reports.channels import most_pruned, pruned_in
from sweeps.reports.history import hypervolume_history

# Of 1000 clean and 500 poisoned images.
A = make_record("a", [(900, 250)], seconds=10.0)  # 0.9 of the upper half
B = make_record("b", [(500, 0)], seconds=30.0)  # 0.5 of the whole
FAILED = make_record("f", reason="no memory", seconds=1.0)


def at(started: float) -> Ran:
    return Ran("node/1", started, 10, 5)


def test_volume_is_that_of_all_trials_so_far() -> None:
    moments = hypervolume_history([A, FAILED, B])
    assert [m.hypervolume for m in moments] == pytest.approx([0.45, 0.45, 0.45 + 0.25])
    assert [m.trials for m in moments] == [1, 2, 3] and [m.spent for m in moments] == [10, 11, 41]
    assert [m.clock for m in moments] == [None, None, None]  # records of earlier versions


def test_trials_come_in_the_order_in_which_they_ended() -> None:
    first, then = replace(B, ran=at(100.0)), replace(A, ran=at(125.0))  # end at 130 and 135
    moments = hypervolume_history([then, FAILED, first])
    assert [m.hypervolume for m in moments] == pytest.approx([0, 0.5, 0.7])
    assert [m.clock for m in moments] == [None, 30.0, 35.0]


def test_no_trial_no_moment() -> None:
    assert hypervolume_history([]) == []


def test_channels_are_counted_by_layer() -> None:
    masks = [ChannelMask.of({"b": [3, 1], "a": [7]}), ChannelMask.of({"b": [3]}), ChannelMask()]
    counts = pruned_in(masks)
    assert counts == {"a": {7: 1}, "b": {1: 1, 3: 2}}
    assert list(counts) == ["a", "b"]
    assert most_pruned(counts, 2) == [("b", 3, 2), ("a", 7, 1)]
    assert pruned_in(record.mask for record in [A, FAILED]) == {make_settings().layers[0]: {0: 1}}
