"""A choice bounded by audits takes no state for passed that was not audited."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import factories
import pytest

from prune_core.audits.entries import Entry
from prune_core.audits.names import SEEDS
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from sweeps.auditing.bounded import Bounded, reactivated
from sweeps.choosing.criteria import Knee, MaxAccuracyDrop
from sweeps.choosing.named import Named
from sweeps.config.schema import Config, make_config
from sweeps.results import FrontierPoint

BADNET = factories.make_counts(1000, 500)
POINTS = [
    FrontierPoint(
        f"trial-{n}",
        n,
        ChannelMask.of({"conv_4": range(n + 1)}),
        factories.make_counts(correct, attacked),
        factories.make_counts(correct, attacked),
    )
    for n, (correct, attacked) in enumerate([(995, 300), (971, 100), (960, 5)])
]


def bounded(rate: float, inner: Any = None, **known: Fraction) -> Bounded:
    keys = {("trial-" + name[-1], int(name[-1])): value for name, value in known.items()}
    return Bounded(inner or MaxAccuracyDrop(10), rate, keys, "a-sweep")


def test_the_best_of_those_within_is_taken_and_the_rest_is_told() -> None:
    point, why = bounded(0.2, t0=Fraction(1, 10), t1=Fraction(1, 5)).choose(POINTS, BADNET)
    assert point.step == 1  # exactly the bound is within it
    assert "1 states are not audited" in why and "goodnet audit a-sweep --frontier" in why


def test_what_is_not_audited_is_never_within() -> None:
    with pytest.raises(InputError, match="none of the states to choose from has been audited"):
        bounded(1.0).choose(POINTS, BADNET)
    with pytest.raises(InputError, match="trial-1 --step 1 --only reactivation"):
        bounded(1.0, Named("trial-1", 1), t0=Fraction(0)).choose(POINTS, BADNET)


def test_the_nearest_is_named_where_none_is_within() -> None:
    with pytest.raises(InputError, match=r"step 1 of trial trial-1, has 0\.300"):
        bounded(0.2, t0=Fraction(1, 2), t1=Fraction(3, 10)).choose(POINTS, BADNET)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_bound_is_a_fraction(rate: float) -> None:
    with pytest.raises(InputError, match="20 per cent is 0.2"):
        bounded(rate, Knee())


def audit(valid: dict[int, list[int]], kept: int = 3) -> dict[str, Any]:
    """By number of poisoned images, hits of 100 validation images for each seed."""
    return {
        "subjects": {
            "goodnet": [
                Entry(
                    "reactivation", {"poisoned_images": n}, seed, (9, 10), (99, 100), (hits, 100), (9, 10), ""
                ).to_json()
                for n, each in valid.items()
                for seed, hits in zip(SEEDS[:kept], each, strict=False)
            ]
        }
    }


def test_reactivated_is_the_worst_mean_on_validation() -> None:
    """Test images (99 of 100 here) have no part in it, nor have 50 poisoned images."""
    found = audit({1: [10, 20, 30], 5: [0, 0, 90], 10: [10, 10, 10], 50: [100, 100, 100]})
    assert reactivated(found) == Fraction(3, 10)


def test_an_audit_that_is_not_whole_does_not_count() -> None:
    assert reactivated(audit({1: [0, 0, 0], 5: [0, 0, 0]})) is None
    assert reactivated(audit({1: [0], 5: [0], 10: [0]}, kept=1)) is None


def test_audits_asked_for_in_a_configuration() -> None:
    def config(value: Any) -> Config:
        return make_config({"name": "a", "badnet": "embedded", "sweep": {"audit": value}}, "a.yaml")

    assert config(True).sweep.audit is True and config("int8").sweep.audit == ("int8",)
    with pytest.raises(InputError, match="did you mean 'reactivation'"):
        config(["reactivaton"])
    plain = make_config({"name": "a", "badnet": "embedded"}, "a.yaml")
    assert config(True).model_dump() == plain.model_dump()  # so neither names nor keys change
