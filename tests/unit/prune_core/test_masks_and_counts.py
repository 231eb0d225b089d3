"""Masks and counts: values that come out as worked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_core.counts import Counts, Rate, exact_points, wilson_interval
from prune_core.errors import InputError
from prune_core.masks import Channel, ChannelMask

LAYERS = st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 50), min_size=1))


@given(LAYERS, st.booleans())
def test_a_mask_survives_json_and_equal_masks_have_equal_digests(pruned, keep_bias) -> None:
    mask = ChannelMask.of(pruned, keep_bias)
    again = ChannelMask.from_json(mask.to_json())
    assert again == mask and again.digest == mask.digest and hash(again) == hash(mask)


def test_a_mask_tells_its_bias_apart() -> None:
    pruned = {"conv": [1]}
    assert ChannelMask.of(pruned).digest != ChannelMask.of(pruned, keep_bias=True).digest


def test_adding_and_only() -> None:
    mask = ChannelMask(keep_bias=True).adding(Channel("b", 3), Channel("a", 9), Channel("b", 1))
    assert mask.by_layer() == {"a": [9], "b": [1, 3]}
    assert mask.only("b") == ChannelMask.of({"b": [3, 1]}, keep_bias=True)
    assert len(mask) == 3


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {"pruned": {}},
        {"pruned": {"a": ["x"]}, "keep_bias": False},
        {"pruned": {"a": [1]}, "keep_bias": 1},
        {"pruned": 3, "keep_bias": True},
    ],
)
def test_a_mask_that_is_none_is_refused(bad) -> None:
    with pytest.raises(InputError, match="a channel mask must look like"):
        ChannelMask.from_json(bad)


def test_points_fall_exactly() -> None:
    before, after = Counts(676, 676, 0, 0, 1, 0.0), Counts(663, 676, 0, 0, 1, 0.0)
    assert after.clean_accuracy_fell(since=before) == Fraction(1300, 676)
    assert before.clean_accuracy_fell(since=after) < 0


def test_points_are_the_decimal_that_was_written() -> None:
    assert exact_points(0.14) == Fraction(14, 100)


def test_wilson_as_in_the_textbook() -> None:
    # 15 of 50 at 95 %: Newcombe (1998), Statistics in Medicine 17, gives 0.1910 to 0.4375.
    low, high = wilson_interval(15, 50)
    assert low == pytest.approx(0.1910, abs=1e-4) and high == pytest.approx(0.4375, abs=1e-4)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_stays_in_bounds(pair) -> None:
    hits, total = pair
    low, high = wilson_interval(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert (low == 0) == (hits == 0) and (high == 1) == (hits == total)


def test_rates_carry_counts_and_intervals() -> None:
    counts = Counts(389, 400, 3, 2, 50, None, recovered=15)
    clean, attack, recovered = counts.rates()
    assert [r.name for r in counts.rates()] == ["clean_accuracy", "attack_success", "recovered_accuracy"]
    assert (clean.hits, clean.total, clean.rate) == (389, 400, counts.clean_accuracy)
    assert (attack.hits, attack.total, attack.rate) == (3, 50, counts.attack_success)
    assert recovered.interval == (recovered.low, recovered.high) == wilson_interval(15, 50)
    assert len(Counts(1, 2, 0, 0, 1, None).rates()) == 2  # true labels not known


def test_a_rate_reads_as_one_line() -> None:
    # 15 of 50: Newcombe (1998) gives 0.1910 to 0.4375.
    assert str(Rate("attack_success", 15, 50)) == "30.00% (15/50, 95 %: 19.10% to 43.75%)"
