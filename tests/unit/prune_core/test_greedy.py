"""The greedy pruner and its policies, on evaluators whose counts are written down."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from prune_core.counts import Counts
from prune_core.errors import InputError
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.registry import prune
from prune_core.policies.seed import PADS
from prune_core.rules import make_rule

TOTAL = 100


def counts(correct: int, attacked: int, margin: float = 0.0) -> Counts:
    return Counts(correct, TOTAL, attacked, attacked, TOTAL, margin)


@dataclass
class Additive:
    """A pretended network: each channel takes so much accuracy, attack and margin with it."""

    effects: dict[Channel, tuple[int, int, float]]
    asked: list[ChannelMask] = field(default_factory=list)
    badnet: Counts = counts(100, 100, 50.0)

    def counts(self, mask: ChannelMask, *needs: object) -> Counts:
        self.asked.append(mask)
        lost = [self.effects[c] for c in mask]
        return counts(
            100 - sum(e[0] for e in lost),
            100 - sum(e[1] for e in lost),
            50.0 - sum(e[2] for e in lost),
        )


def channels(*names: str) -> list[Channel]:
    return [Channel(name[0], int(name[1:])) for name in names]


def walk(policy: str, x: float, effects: dict[str, tuple[int, int, float]]):
    net = Additive({channels(name)[0]: effect for name, effect in effects.items()})
    steps = list(prune(policy, x, net, channels(*effects)))
    return net, steps, [f"{s.channel.layer}{s.channel.index}" for s in steps if s.accepted]


def test_attack_success_wants_a_fall_and_the_bound() -> None:
    effects = {"a0": (0, 0, 9.0), "a1": (3, 10, 1.0), "a2": (1, 5, 0.0), "a3": (2, 40, 0.0)}
    _, steps, accepted = walk("attack-success", 2, effects)
    # a0 lowers nothing, a1 costs 3 points, a2 is fine, a3 would make it 3 points in all.
    assert accepted == ["a2"] and steps[-1].now == counts(99, 95, 50.0)
    assert len(steps) == 4


def test_margin_moves_on_the_plateau() -> None:
    effects = {"a0": (0, 0, 9.0), "a1": (0, 0, 0.0), "a2": (2, 0, 1.0), "a3": (1, 50, 30.0)}
    _, steps, accepted = walk("margin", 2, effects)
    assert accepted == ["a0", "a2"] and steps[-1].now == counts(98, 100, 40.0)


def test_final_layer_prunes_until_the_bound() -> None:
    effects = {"a0": (1, 0, 0.0), "a1": (1, 0, 0.0), "a2": (1, 0, 0.0), "a3": (0, 0, 0.0)}
    _, steps, accepted = walk("final-layer", 2, effects)
    assert accepted == ["a0", "a1"] and len(steps) == 3  # a2 breaks the bound and ends the walk
    assert walk("final-layer", 100, effects)[2] == ["a0", "a1", "a2", "a3"]


def test_in_order_goes_on_over_layers_until_the_bound_or_the_end_of_the_attack() -> None:
    effects = {"b0": (1, 0, -5.0), "a0": (1, 100, 0.0), "a1": (0, 0, 0.0)}
    _, steps, accepted = walk("in-order", 2, effects)
    assert accepted == ["b0", "a0"] and len(steps) == 2  # nothing is attacked any more
    assert walk("in-order", 1, effects)[2] == ["b0"]


def test_seed_tries_in_a_fresh_badnet_with_its_own_layer_only() -> None:
    effects = {"b0": (2, 1, 0.0), "b1": (0, 1, 0.0), "a0": (0, 50, 0.0), "a1": (2, 1, 0.0)}
    net, steps, accepted = walk("seed", 2, effects)
    # Channel 0 of the second layer is never tried. a1 is fine on its own (2 points), yet with b0
    # the accumulated net is 4 points down: accepted, and only then the walk ends.
    assert accepted == ["b0", "b1", "a1"]
    assert steps[-1].tried == counts(98, 99, 50.0) and steps[-1].now == counts(96, 97, 50.0)
    assert all(mask.keep_bias for mask in net.asked)


def test_seed_wants_attack_below_all_and_stops_below_the_padded_bound() -> None:
    effects = {"b0": (0, 0, 9.0), "b1": (4, 1, 0.0), "b2": (0, 1, 0.0)}
    _, steps, accepted = walk("seed", 4, effects)
    # b0 leaves the attack whole. After b1 accuracy stands at 96 < 100 - 4 + 0.14: over.
    assert accepted == ["b1"] and len(steps) == 2


def test_seed_pads_are_the_authors() -> None:
    assert PADS == {2.0: 0.0, 4.0: 0.14, 10.0: 0.3}


def test_the_bound_is_compared_in_whole_numbers() -> None:
    # 0.1 points of 1000 images is one image; in binary floats 100 * (1000 - 999) / 1000 > 0.1.
    rule = make_rule("margin", 0.1)
    badnet = Counts(1000, 1000, 1, 1, 1, 2.0)
    assert rule.accepts(Counts(999, 1000, 1, 1, 1, 1.0), badnet, badnet)
    assert not rule.accepts(Counts(998, 1000, 1, 1, 1, 1.0), badnet, badnet)


@pytest.mark.parametrize("x", [-1, 101, float("nan")])
def test_x_is_points(x) -> None:
    with pytest.raises(InputError, match="percentage points"):
        make_rule("margin", x)


def test_a_policy_without_a_rule() -> None:
    with pytest.raises(InputError, match="'best' has no rule of one pass; there are final-layer"):
        make_rule("best", 1)
