"""Choose a frontier point on validation and hand it over as files that have been measured again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.counts import Counts, exact_points, wilson_interval
from prune_core.defence import defence_effectiveness, no_attack
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import KINDS, costs, measured_again, write_formats
from prune_core.export.zeroed import ExportMismatch
from prune_core.files.constants import Weights
from prune_core.files.write import write_whole
from prune_core.frontier import knee as knee_of
from prune_core.methods import WEIGHTS_ALONE
from prune_core.reader import client as contained
from sweeps.reports.model_card import card
from sweeps.results import Frontier, FrontierPoint, described
from sweeps.storage.manifest import Manifest

CAVEAT = (
    "Low attack success says that this one trigger, on these images, has been disarmed; "
    "it does not show that the network is clean."
)


def choose(
    frontier: Frontier,
    badnet: Counts,
    *,
    max_accuracy_drop: float | None = None,
    max_attack_success: float | None = None,
    knee: bool = False,
) -> tuple[FrontierPoint, str]:
    """A frontier point by exactly one criterion, and why this one, in words. Validation chooses.

    Args:
        badnet: counts of the BadNet on validation.
        max_accuracy_drop: percentage points below the BadNet; the lowest attack success within.
        max_attack_success: a fraction; the highest clean accuracy at or under it.
        knee: the largest clean accuracy minus attack success.
    Ties go to the better other rate, then to fewer channels. Raises InputError when no point
    qualifies, with the value that would admit the nearest.
    """
    check_criterion(max_accuracy_drop, max_attack_success, knee)
    if not frontier.points:
        raise InputError("the frontier has no points: no trial of the sweep pruned a channel")
    if max_accuracy_drop is not None:
        point, reason = _within_drop(frontier, badnet, max_accuracy_drop)
    elif max_attack_success is not None:
        point, reason = _within_attack(frontier, max_attack_success)
    else:
        point, reason = _at_knee(frontier)
    return point, _explained(point, badnet, reason)


def check_criterion(
    max_accuracy_drop: float | None = None,
    max_attack_success: float | None = None,
    knee: bool = False,
) -> None:
    """Raises InputError unless exactly one criterion is given, with a value that makes sense."""
    given = (max_accuracy_drop is not None) + (max_attack_success is not None) + knee
    if given != 1:
        raise InputError(
            f"{given or 'no'} criteria to pick by; give exactly one of --max-accuracy-drop, "
            "--max-attack-success and --knee"
        )


def pick(
    manifest: Manifest,
    frontier: Frontier,
    valid: PlainEvaluator,
    test: PlainEvaluator,
    badnet_path: Path,
    out: Path,
    *,
    max_accuracy_drop: float | None = None,
    max_attack_success: float | None = None,
    knee: bool = False,
    register: Callable[[Path, dict[str, Any]], str | None] | None = None,
    weights: Callable[[FrontierPoint], Weights] = lambda point: {},
) -> dict[str, Any]:
    """``choose`` a point, write it to ``out`` in every format, measure every model file again, write
    a card.

    ``valid`` and ``test`` hold the BadNet, read from ``badnet_path``. ``weights`` gives the changed
    weights of a point that has some. ``register`` gets the ONNX
    file and the result so far, and returns where the model is registered, or None; it is called
    last, so that a registry that fails leaves the files. Returns the contract's form. Raises InputError, and
    ExportMismatch when a file does not do what the record says (the models written are removed).
    """
    _check_same_inputs(manifest, valid, test)
    if frontier.no_attack is not None:
        raise InputError(f"sweep {manifest.name}: {no_attack(frontier.no_attack)}")
    point, why = choose(
        frontier,
        valid.badnet,
        max_accuracy_drop=max_accuracy_drop,
        max_attack_success=max_attack_success,
        knee=knee,
    )
    destination = out / f"{manifest.name}-{point.trial_key[:8]}-step{point.step}"
    architecture = manifest.config.architecture
    written = write_formats(
        valid.model.with_weights(weights(point)),
        point.mask,
        badnet_path,
        destination,
        valid.split.clean.shape,
        architecture,
    )
    try:
        counted = {
            "valid": measured_again(written, valid, point.valid, architecture),
            "test": measured_again(written, test, point.test, architecture),
        }
    except ExportMismatch:
        written.remove()
        raise
    files = [
        {
            "path": str(path),
            "kind": kind,
            "what": KINDS[kind],
            **{split: by_kind[kind] for split, by_kind in counted.items()},
        }
        for kind, path in written.models.items()
    ]
    result: dict[str, Any] = {
        "sweep": manifest.name,
        "point": point.to_json(),
        "why": why,
        "defence_effectiveness": {
            "valid": defence_effectiveness(valid.badnet, point.valid),
            "test": defence_effectiveness(test.badnet, point.test),
        },
        "settings": manifest.trials[point.trial_key].to_json(),
        **described(manifest.trials[point.trial_key]),
        "badnet": {
            "file": badnet_path.name,
            "sha256": valid.model.digest,
            "weights_only": contained.read("weights_only", badnet_path, architecture=architecture)[0],
            "valid": valid.badnet.to_json(),
            "test": test.badnet.to_json(),
        },
        "scale": manifest.config.data.scale,
        "files": files,
        "cost": costs(written),
        "mask_file": str(written.mask),
        "card": str(destination.with_name(destination.name + ".md")),
        "registered": None,
    }
    write_whole(Path(result["card"]), card(result).encode())
    if register is not None:
        result["registered"] = register(written.models["onnx"], result)
    return result


def _check_same_inputs(manifest: Manifest, valid: PlainEvaluator, test: PlainEvaluator) -> None:
    now: Mapping[str, str] = {
        "badnet": valid.model.digest,
        "valid": valid.split.digest,
        "test": test.split.digest,
    }
    names = {"badnet": "the BadNet", "valid": "the validation set", "test": "the test set"}
    for key, digest in now.items():
        if manifest.digests[key] != digest:
            raise InputError(
                f"sweep {manifest.name}: {names[key]} is not the one that the sweep used (its "
                "digest differs); put the file back or run the sweep again"
            )


def _within_drop(frontier: Frontier, badnet: Counts, points: float) -> tuple[FrontierPoint, str]:
    if not points >= 0:
        raise InputError(f"--max-accuracy-drop {points:g}: expected percentage points, 0 or more")

    def fell(point: FrontierPoint) -> Fraction:
        return point.valid.clean_accuracy_fell(since=badnet)

    within = [p for p in frontier.points if fell(p) <= exact_points(points)]
    if not within:
        nearest = min(frontier.points, key=lambda p: (fell(p), _attack(p), len(p.mask)))
        raise InputError(
            f"--max-accuracy-drop {points:g}: no point of the frontier loses so little; the "
            f"nearest loses {float(fell(nearest)):.3f} points and leaves attack success at "
            f"{nearest.valid.attack_success:.2%}: --max-accuracy-drop "
            f"{_rounded_up(fell(nearest), 2)} admits it"
        )
    best = min(within, key=lambda p: (_attack(p), -_accuracy(p), len(p.mask)))
    return best, (
        f"the lowest attack success among the {len(within)} of {len(frontier.points)} frontier "
        f"points that lose at most {points:g} points of clean accuracy"
    )


def _within_attack(frontier: Frontier, rate: float) -> tuple[FrontierPoint, str]:
    if not 0 <= rate <= 1:
        raise InputError(
            f"--max-attack-success {rate:g}: expected a fraction from 0 to 1 (5 per cent is 0.05)"
        )
    within = [p for p in frontier.points if _attack(p) <= exact_points(rate)]
    if not within:
        nearest = min(frontier.points, key=lambda p: (_attack(p), -_accuracy(p), len(p.mask)))
        raise InputError(
            f"--max-attack-success {rate:g}: no point of the frontier is at or under it; the "
            f"nearest has {nearest.valid.attack_success:.4f} with clean accuracy "
            f"{nearest.valid.clean_accuracy:.2%}: --max-attack-success "
            f"{_rounded_up(_attack(nearest), 4)} admits it"
        )
    best = min(within, key=lambda p: (-_accuracy(p), _attack(p), len(p.mask)))
    return best, (
        f"the highest clean accuracy among the {len(within)} of {len(frontier.points)} frontier "
        f"points with attack success of at most {rate:g}"
    )


def _at_knee(frontier: Frontier) -> tuple[FrontierPoint, str]:
    at = knee_of(
        np.array([p.valid.clean_accuracy for p in frontier.points]),
        np.array([p.valid.attack_success for p in frontier.points]),
    )
    return frontier.points[at], (
        f"the knee of the frontier: the largest clean accuracy minus attack success of its "
        f"{len(frontier.points)} points"
    )


def _accuracy(point: FrontierPoint) -> Fraction:
    return Fraction(point.valid.clean_correct, point.valid.clean_total)


def _attack(point: FrontierPoint) -> Fraction:
    return Fraction(point.valid.attacked, point.valid.poisoned_total)


def _rounded_up(value: Fraction, digits: int) -> str:
    """The smallest decimal of so many digits that is not below ``value``."""
    scale = 10**digits
    return f"{math.ceil(value * scale) / scale:g}"


def _explained(point: FrontierPoint, badnet: Counts, reason: str) -> str:
    fell = float(point.valid.clean_accuracy_fell(since=badnet))
    change = f"{fell:.2f} points below" if fell >= 0 else f"{-fell:.2f} points above"
    test = point.test
    sentences = [
        f"Chosen on validation: {reason}.",
        f"On validation: {_rates(point.valid)}; accuracy is {change} the BadNet's.",
        f"On test, which had no part in the choice: {_rates(test)}; from validation to test clean "
        f"accuracy changes by {100 * point.gap['clean_accuracy']:+.2f} points and attack success by "
        f"{100 * point.gap['attack_success']:+.2f}.",
        *_changed(point),
        CAVEAT,
    ]
    if test.attacked * 2 >= test.poisoned_total:
        sentences.insert(3, "The attack still succeeds on half of the test images or more.")
    return " ".join(sentences)


def _changed(point: FrontierPoint) -> list[str]:
    """What must be said of a net that is more than a pruned BadNet."""
    if point.settings is None or point.settings.method.kind == "pruning":
        return []
    settings, method = point.settings, point.settings.method
    said = [
        f"This is not pruning alone ({method.kind}: {settings.procedure}); it needed {method.assumption}."
    ]
    if point.weights is not None and method.assumption != WEIGHTS_ALONE:
        said.append("Weights were trained on validation images, so the validation figures flatter it.")
    return said


def _rates(counts: Counts) -> str:
    accuracy = _rate(counts.clean_correct, counts.clean_total)
    attack = _rate(counts.attacked, counts.poisoned_total)
    return f"clean accuracy {accuracy}, attack success {attack}"


def _rate(successes: int, total: int) -> str:
    low, high = wilson_interval(successes, total)
    return (
        f"{100 * successes / total:.2f} % ({successes} of {total}; "
        f"95 % interval {100 * low:.2f} to {100 * high:.2f})"
    )
