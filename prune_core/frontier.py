"""The frontier of clean accuracy against attack success: non-dominated states, hypervolume, knee."""

from __future__ import annotations

import numpy as np


def non_dominated(clean_accuracy: np.ndarray, attack_success: np.ndarray) -> np.ndarray:
    """Positions of the states that no other state dominates: none is at least as good on both axes
    and better on one. Of states equal on both axes the first given is kept.

    Args: (N,) fractions each; clean accuracy: higher is better, attack success: lower. A state
    with a NaN is never on the frontier.
    Returns (F,) positions, by falling clean accuracy.
    """
    accuracy, attack = np.asarray(clean_accuracy, float), np.asarray(attack_success, float)
    usable = np.flatnonzero(~(np.isnan(accuracy) | np.isnan(attack)))
    best_first = usable[np.lexsort((usable, attack[usable], -accuracy[usable]))]
    kept, lowest = [], np.inf
    for position in best_first:
        if attack[position] < lowest:
            kept.append(position)
            lowest = attack[position]
    return np.array(kept, dtype=np.int64)


def hypervolume(clean_accuracy: np.ndarray, attack_success: np.ndarray) -> float:
    """Area of the accuracy x (1 - attack) square that the states dominate, against the worst point
    (accuracy 0, attack 1). In [0, 1]; higher is better; 0 without states."""
    accuracy, attack = np.asarray(clean_accuracy, float), np.asarray(attack_success, float)
    front = non_dominated(accuracy, attack)
    area, below = 0.0, 1.0
    for position in front:  # each point adds a strip between its attack and the one before
        area += accuracy[position] * (below - attack[position])
        below = attack[position]
    return float(area)


def knee(clean_accuracy: np.ndarray, attack_success: np.ndarray) -> int:
    """Position of the frontier state with the largest accuracy - attack: the point of the curve
    that is farthest from the line where a point of accuracy buys a point of attack (the Youden
    index of a ROC curve). The first given wins ties. Raises ValueError without states."""
    accuracy, attack = np.asarray(clean_accuracy, float), np.asarray(attack_success, float)
    front = non_dominated(accuracy, attack)
    if len(front) == 0:
        raise ValueError("no states")
    return int(front[np.argmax(accuracy[front] - attack[front])])
