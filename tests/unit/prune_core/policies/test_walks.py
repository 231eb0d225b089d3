"""Walks beyond one pass, on pretended networks whose counts are written down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core.counts import Ask, Counts
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import EVERYTHING
from prune_core.greedy import Walk, best_first, swap, take_back
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.plateau import PLATEAU_MOVES, along_the_order
from prune_core.policies.registry import POLICIES, empty_mask, prune
from sweeps.records import TrialRecord
from sweeps.settings import TrialSettings
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

TOTAL = 100


def counts(correct: int, attacked: int, margin: float) -> Counts:
    return Counts(correct, TOTAL, attacked, attacked, TOTAL, margin)


@dataclass
class Net:
    """Every channel takes so much accuracy, attack and margin with it, and some sets more."""

    effects: dict[str, tuple[int, int, float]]
    together: dict[frozenset[str], tuple[int, int, float]] = field(default_factory=dict)
    badnet: Counts = counts(100, 100, 50.0)
    asked: int = 0

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        self.asked += 1
        names = {f"{c.layer}{c.index}" for c in mask}
        lost = [self.effects[n] for n in names]
        lost += [effect for members, effect in self.together.items() if members <= names]
        whole = counts(
            max(0, 100 - sum(e[0] for e in lost)),
            max(0, 100 - sum(e[1] for e in lost)),
            50.0 - sum(e[2] for e in lost),
        )
        return ask.told(whole)

    def expect(self, mask: ChannelMask) -> None: ...

    @property
    def order(self) -> list[Channel]:
        return [Channel(name[0], int(name[1:])) for name in self.effects]


def pruned(walk: Walk) -> list[str]:
    return [f"{c.layer}{c.index}" for c in walk.mask]


def run(net: Net, x: float, *walks) -> tuple[Walk, list]:
    walk = Walk.start(net, x)
    return walk, [step for each in walks for step in each(walk)]


PAIR = Net(
    {"a0": (0, 0, 0.0), "a1": (0, 0, 0.0), "a2": (1, 0, -9.0), "a3": (0, 0, 0.0)},
    {frozenset({"a0", "a3"}): (0, 80, 40.0)},
)


def test_plateau_moves_find_a_pair_and_the_rest_is_taken_back() -> None:
    walk, steps = run(PAIR, 2, lambda w: along_the_order(w, PAIR.order))
    assert pruned(walk) == ["a0", "a1", "a3"] and walk.now == counts(100, 20, 10.0)
    back = list(take_back(walk))
    assert pruned(walk) == ["a0", "a3"] and walk.now == counts(100, 20, 10.0)
    assert [s.returned == s.channel for s in back] == [True] * 3
    assert len(steps) == 4  # a2 costs accuracy and makes the attack stronger: tried, refused


def test_plateau_moves_are_bounded() -> None:
    net = Net({f"a{i}": (0, 0, 0.0) for i in range(PLATEAU_MOVES + 3)})
    walk, steps = run(net, 2, lambda w: along_the_order(w, net.order))
    assert len(walk.mask) == PLATEAU_MOVES and len(steps) == PLATEAU_MOVES + 3


def test_a_plateau_move_costs_no_accuracy() -> None:
    net = Net({"a0": (1, 0, 0.0)})
    assert pruned(run(net, 50, lambda w: along_the_order(w, net.order))[0]) == []


def test_best_first_takes_what_buys_most_not_what_comes_first() -> None:
    # Within 3 points: a0 alone eats the bound for little, a1 and a2 buy far more together.
    net = Net({"a0": (3, 10, 5.0), "a1": (1, 30, 15.0), "a2": (2, 50, 20.0), "a3": (1, 0, -1.0)})
    walk, steps = run(net, 3, lambda w: best_first(w, net.order))
    assert pruned(walk) == ["a1", "a2"] and walk.now == counts(97, 20, 15.0)
    accepted = [f"a{s.channel.index}" for s in steps if s.accepted]
    assert accepted == ["a1", "a2"]


@pytest.mark.parametrize("pool", [1, 2, 10])
def test_best_first_gets_to_every_channel_whatever_the_pool(pool) -> None:
    effects = {f"a{i}": (0, 0, -1.0) for i in range(6)}
    net = Net({**effects, "a6": (1, 40, 20.0), "a7": (0, 5, 1.0)})
    walk, _ = run(net, 2, lambda w: best_first(w, net.order, pool=pool))
    assert pruned(walk) == ["a6", "a7"]


@pytest.mark.parametrize("rescore", [1, 3, 100])
def test_a_rescore_sees_what_other_channels_have_changed(rescore) -> None:
    # a1 makes the attack stronger until a0 is gone.
    net = Net({"a0": (0, 10, 5.0), "a1": (0, -5, -5.0)}, {frozenset({"a0", "a1"}): (0, 60, 30.0)})
    walk, _ = run(net, 2, lambda w: best_first(w, net.order, rescore=rescore))
    assert pruned(walk) == ["a0", "a1"]


def test_swaps_within_the_bound() -> None:
    net = Net({"a0": (2, 30, 10.0), "a1": (2, 90, 40.0), "a2": (3, 95, 45.0)})
    walk = Walk.start(net, 2)
    list(along_the_order(walk, net.order[:1]))
    steps = list(swap(walk, net.order))
    assert pruned(walk) == ["a1"]  # a2 would be better still and costs a point too much
    assert [(s.channel.index, s.returned.index, s.accepted) for s in steps] == [
        (1, 0, False),
        (2, 0, False),
        (1, 0, True),
    ]


effect = st.tuples(st.integers(-1, 4), st.integers(-5, 30), st.floats(-5, 20))


@settings(max_examples=60, deadline=None)
@given(
    effects=st.lists(effect, min_size=1, max_size=9),
    x=st.integers(0, 12),
    policy=st.sampled_from(["plateau", "best-first"]),
)
def test_the_bound_holds_at_every_step_and_masks_are_what_the_steps_say(effects, x, policy) -> None:
    net = Net({f"a{i}": e for i, e in enumerate(effects)})
    steps = list(prune(policy, x, net, net.order))
    assert steps == list(prune(policy, x, net, net.order))  # no lots
    mask, now = empty_mask(policy), net.badnet
    for step in steps:
        assert step.tried == net.counts(step.after(mask), Ask(clean_correct=100 - x))
        if step.accepted:
            mask, now = step.after(mask), step.tried
        assert (step.mask, step.now) == (mask, now)
        assert now == net.counts(mask) and now.clean_correct >= 100 - x


def test_an_end_without_any_attack_ends_the_walk() -> None:
    net = Net({"a0": (0, 100, 60.0), "a1": (0, 0, 5.0)})
    for policy in ("plateau", "best-first"):
        last = list(prune(policy, 5, net, net.order))[-1]
        assert last.now.attacked == 0 and last.mask == ChannelMask.of({"a": [0]})


def test_records_keep_what_was_returned(tmp_path) -> None:
    steps = tuple(prune("plateau", 2, PAIR, PAIR.order))
    assert any(s.accepted and s.returned == s.channel for s in steps)
    settings_ = TrialSettings("index", ("a",), 2.0, "plateau")
    now = PAIR.badnet
    record = TrialRecord("k", settings_, "done", None, 1.0, now, now, steps[-1].now, now,
                         steps[-1].mask, steps)  # fmt: skip
    store = RecordStore(Storage(str(tmp_path)))
    store.write(record)
    assert store.read("k") == record
    swapped = replace(steps[0], accepted=False, returned=Channel("a", 3))
    store.write(replace(record, steps=(swapped,), mask=ChannelMask()))
    read = store.read("k")
    assert read is not None and read.steps[0].returned == Channel("a", 3)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("x", [-1, 101, float("nan")])
def test_x_is_points(policy, x) -> None:
    with pytest.raises(InputError, match="percentage points"):
        prune(policy, x, PAIR, PAIR.order)


def test_unknown_policy_and_what_becomes_of_the_bias() -> None:
    with pytest.raises(InputError, match="'best' is unknown; expected one of seed"):
        prune("best", 1, PAIR, PAIR.order)
    assert [p for p in POLICIES if empty_mask(p).keep_bias] == ["seed"]
