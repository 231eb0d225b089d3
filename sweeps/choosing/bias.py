"""How much the choice of a GoodNet flatters its figures on validation.

The states that could as well have been chosen are counted image by image, and the choice is made again on
images drawn with repetition (``prune_core.choice``). The frontier itself keeps counts only, so the nearest
states are run once more, as many as a bound on time allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prune_core.choice import Corrected, corrected_for_choice
from prune_core.counts import Counts
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from sweeps.choosing.criteria import Criterion
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import FrontierPoint, net_digest

STATES = 60  # run again at most
SECONDS = 60.0  # and for so long at most, but the frontier's chosen state and the BadNet in any case


def choice_bias(
    point: FrontierPoint,
    records: Sequence[TrialRecord],
    criterion: Criterion,
    valid: PlainEvaluator,
    weights: Callable[[State], Weights],
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """What the choice of ``point`` by ``criterion`` flatters, in the form of ``pick --json``.

    Returns:
        ``clean_accuracy`` and ``attack_success``, each with ``rate`` (a fraction, the optimism taken off),
        ``interval`` (95 %), ``optimism`` (a fraction, 0 or more) and ``plain_interval`` (of the count
        alone); ``states`` that were run again, of ``states_in_reach``; ``images``.
    """
    near = states_in_reach(point, records)
    until = time.monotonic() + seconds
    outcomes = [_outcomes(valid, None, {}), _outcomes(valid, point, weights(_state(point)))]
    for state in near:
        if len(outcomes) > STATES or time.monotonic() > until:
            break
        outcomes.append(_outcomes(valid, state, weights(state)))
    clean = np.stack([right for right, _ in outcomes])
    attacked = [np.stack(rows) for rows in zip(*(each for _, each in outcomes), strict=True)]
    accuracy, attack = corrected_for_choice(clean, attacked, 1, criterion.again)
    return {
        "clean_accuracy": _json(accuracy),
        "attack_success": _json(attack),
        "states": len(outcomes) - 1,
        "states_in_reach": len(near) + 1,
        "images": {"clean": clean.shape[1], "poisoned": attack.total},
    }


def states_in_reach(point: FrontierPoint, records: Sequence[TrialRecord]) -> list[State]:
    """The other states of the sweep, nearest to ``point`` first, that chance could have put in its place:
    those worse than it by at most three standard errors on both axes."""
    seen, found = {net_digest(point)}, []
    for state in (s for record in records for s in record.states()):
        far = max(_behind(point.valid, state.counts))
        if far <= 3 and net_digest(state) not in seen:
            seen.add(net_digest(state))
            found.append((far, len(state.mask), state))
    return [state for *_, state in sorted(found, key=lambda f: f[:2])]


def _behind(best: Counts, other: Counts) -> tuple[float, float]:
    """By how many standard errors ``other`` is worse in clean accuracy, in attack success."""
    return (
        (best.clean_accuracy - other.clean_accuracy) / _error(best.clean_accuracy, best.clean_total),
        (other.attack_success - best.attack_success) / _error(best.attack_success, best.poisoned_total),
    )


def _error(rate: float, images: int) -> float:
    """Of a rate, with one image more right and one more wrong: none is certain."""
    rate = (rate * images + 1) / (images + 2)
    return float(np.sqrt(rate * (1 - rate) / images))


def _outcomes(
    valid: PlainEvaluator, net: State | FrontierPoint | None, weights: Weights
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(clean,) bool and, for each trigger, (poisoned,) bool: right, attacked. ``net`` None: the BadNet."""
    split = valid.split
    if net is None or not weights:
        mask = ChannelMask() if net is None else net.mask
        clean, poisoned = (valid.reply(images, mask).classes for images in (split.clean, split.poisoned))
    else:
        with valid.model.with_weights(weights).pruned(net.mask) as changed:
            plain = PlainEvaluator(changed, split)
            clean, poisoned = plain.reply(split.clean, ChannelMask()).classes, plain.badnet_classes
    attacked = poisoned == split.targets
    return clean == split.clean.labels, [attacked[rows] for rows in split.rows_by_trigger]


def _state(point: FrontierPoint) -> State:
    return State(point.trial_key, point.step, point.mask, point.valid, point.settings, point.weights)


def _json(figure: Corrected) -> dict[str, Any]:
    return {
        "rate": figure.rate,
        "interval": figure.interval,
        "optimism": figure.optimism,
        "plain_interval": figure.plain,
    }
