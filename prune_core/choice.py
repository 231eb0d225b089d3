"""How much a choice among many flatters: the best of many states on some images is partly luck.

The figures of a chosen state are counted on the images that chose it, so they are too good on average, and
an interval that takes them for a plain count is too often beside the truth. How much too good is asked of
the images themselves: draw as many of them again, with repetition, choose again on what was drawn, and look
at how much better the chosen state looks there than on all images. The mean of that is the *optimism*, which
is taken off the figure before its interval is worked out.

Source: Efron's bootstrap estimate of optimism (Efron, JASA 78, 1983; Harrell, Lee and Mark, Statistics in
Medicine 15, 1996), applied to the whole choice as by Tsamardinos and others (Machine Learning 107, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prune_core.counts import wilson_interval

DRAWS = 200  # the optimism's own error is then about a fourteenth of the figure's

# Clean accuracy and attack success, (draws, states) fractions each -> (draws,) positions of states.
Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Corrected:
    """A figure of a chosen state, before and after the optimism of the choice is taken off.

    Attributes:
        hits, total: images, as counted. optimism: by how much the choice flatters, a fraction, 0 or more
            (0.02: the figure is two points too good on average).
        rate: the fraction with the optimism taken off. interval: 95 % around it, (low, high).
        plain: the 95 % Wilson interval of the count, which knows of no choice.
    """

    hits: int
    total: int
    optimism: float
    rate: float
    interval: tuple[float, float]
    plain: tuple[float, float]


def corrected_for_choice(
    clean_correct: np.ndarray,
    attacked: Sequence[np.ndarray],
    chosen: int,
    choose: Choose,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Corrected, Corrected]:
    """Clean accuracy and attack success of a state that was chosen, corrected for the choice.

    Args:
        clean_correct: (states, clean images) bool, whether a state is right.
        attacked: for each trigger (states, its poisoned images) bool, whether the attack succeeds. Attack
            success is that of a state's worst trigger.
        chosen: the position of the state.
        choose: the same choice made again, of all ``draws`` at once; it must prefer high clean accuracy or
            low attack success, or both.

    Raises ValueError without states or images.
    """
    if not clean_correct.size or not attacked or not all(a.size for a in attacked):
        raise ValueError("no states, or no images")
    if any(len(a) != len(clean_correct) for a in attacked):
        raise ValueError("outcomes of different numbers of states")
    generator = np.random.default_rng(seed)
    clean = clean_correct.mean(1)
    attack = np.max([a.mean(1) for a in attacked], axis=0)
    drawn_clean = _drawn(clean_correct, draws, generator)
    drawn_attack = np.max([_drawn(a, draws, generator) for a in attacked], axis=0)
    again, rows = choose(drawn_clean, drawn_attack), np.arange(draws)
    better = float((drawn_clean[rows, again] - clean[again]).mean())
    weaker = float((attack[again] - drawn_attack[rows, again]).mean())
    worst = max(attacked, key=lambda a: a[chosen].mean())
    return (
        _corrected(clean_correct[chosen], max(better, 0.0), -1),
        _corrected(worst[chosen], max(weaker, 0.0), +1),
    )


def _drawn(outcomes: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """(states, images) bool -> (draws, states) fractions, of images drawn with repetition."""
    images = outcomes.shape[1]
    times = generator.multinomial(images, np.full(images, 1 / images), size=draws)
    hits = times.astype(np.float32) @ outcomes.T.astype(np.float32)  # whole numbers: exact
    return hits.astype(np.float64) / images


def _corrected(outcomes: np.ndarray, optimism: float, direction: int) -> Corrected:
    hits, total = int(outcomes.sum()), len(outcomes)
    rate = min(max(hits / total + direction * optimism, 0.0), 1.0)
    return Corrected(
        hits, total, optimism, rate, wilson_interval(rate * total, total), wilson_interval(hits, total)
    )
