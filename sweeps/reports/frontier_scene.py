"""What a picture of a frontier shows, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_core.counts import Counts
from prune_core.defence import no_attack
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.results import Frontier, FrontierPoint

CAVEAT = "Low attack success on the triggers that were tried is not “clean”."
# Told apart by colour-blind people too (Okabe and Ito 2008); the frontier keeps black.
# How a frontier state is marked, by what was done: matplotlib's and plotly's name of one shape.
MARKS = {
    "pruning": ("o", "circle"),
    "scaling": ("^", "triangle-up"),
    "finetune": ("s", "square"),
    "finetune-robust": ("D", "diamond"),
    "finetune-margin": ("P", "cross"),
    "unlearn": ("*", "star"),
    "i-bau": ("v", "triangle-down"),
    "ft-sam": ("p", "pentagon"),
    "baseline": ("X", "x"),
}
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8A00")


@dataclass(frozen=True)
class Dot:
    """One accepted state (step -1: the BadNet), by its counts on validation."""

    step: int
    pruned: int
    valid: Counts


@dataclass(frozen=True)
class Path:
    """A trial's way from the BadNet through its accepted states."""

    key: str
    settings: TrialSettings
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Scene:
    """Attributes:
    title: one line. caption: what is validation, what is test, how many images.
    groups: the trials by policy and repair, or by order when all have one; ``grouped_by`` says which.
    bounds: X in points -> the clean accuracy (fraction) that it leaves.
    accuracy: the range (fractions) worth looking at: BadNet, bounds and frontier.
    outside: accepted states below that range.
    """

    title: str
    caption: str
    groups: dict[str, list[Path]]
    grouped_by: str
    badnet: Counts | None
    badnet_test: Counts | None
    frontier: Frontier
    bounds: dict[float, float]
    accuracy: tuple[float, float]
    outside: int

    def colour(self, group: str) -> str:
        return COLOURS[list(self.groups).index(group) % len(COLOURS)]


def make_scene(records: Sequence[TrialRecord], frontier: Frontier, name: str) -> Scene:
    """Of a sweep called ``name``; trials that failed are not shown."""
    done = [r for r in records if r.status != "failed" and r.badnet_valid is not None]
    one_policy = len({r.settings.procedure for r in done}) <= 1
    groups: dict[str, list[Path]] = {}
    for record in done:
        group = record.settings.order if one_policy else record.settings.procedure
        groups.setdefault(group, []).append(_path(record))
    badnet = done[0].badnet_valid if done else None
    badnet_test = done[0].badnet_test if done else None
    bounds: dict[float, float] = {}
    if badnet is not None:
        left = {x: badnet.clean_accuracy - x / 100 for x in sorted({r.settings.x for r in done})}
        # A bound of 0 is the BadNet itself, and one of 100 points bounds nothing.
        bounds = {x: accuracy for x, accuracy in left.items() if x > 0 and accuracy > 0}
    accuracy = _range(frontier, bounds, badnet, badnet_test)
    below = [
        d for paths in groups.values() for p in paths for d in p.dots if d.valid.clean_accuracy < accuracy[0]
    ]
    return Scene(
        f"{name}: clean accuracy against attack success",
        _caption(badnet, badnet_test, frontier, len(done)),
        groups,
        "order" if one_policy else "policy",
        badnet,
        badnet_test,
        frontier,
        bounds,
        accuracy,
        len(below),
    )


def kind_of(point: FrontierPoint) -> str:
    return "pruning" if point.settings is None else point.settings.method.kind


def kinds_of(points: Sequence[FrontierPoint]) -> list[str]:
    """The kinds that there are among ``points``, in the order of ``MARKS``."""
    return [kind for kind in MARKS if any(kind_of(p) == kind for p in points)]


def _path(record: TrialRecord) -> Path:
    assert record.badnet_valid is not None
    dots = [Dot(0, 0, record.badnet_valid)]
    dots += [Dot(s.step, len(s.mask), s.counts) for s in record.states()]
    return Path(record.key, record.settings, tuple(dots))


def _range(frontier: Frontier, bounds: dict[float, float], *nets: Counts | None) -> tuple[float, float]:
    seen = [counts.clean_accuracy for counts in nets if counts is not None]
    seen += [c.clean_accuracy for p in frontier.points for c in (p.valid, p.test)]
    if not seen:
        return (0.0, 1.0)
    # An X far below everything on the frontier would squeeze the picture for nothing.
    lowest = min(seen)
    seen += [a for a in bounds.values() if a > lowest - 0.15]
    margin = max(0.06 * (max(seen) - min(seen)), 0.004)
    return (max(0.0, min(seen) - margin), min(1.0 + margin / 2, max(seen) + margin))


def _caption(badnet: Counts | None, badnet_test: Counts | None, frontier: Frontier, trials: int) -> str:
    if badnet is None or badnet_test is None:
        return "No trial is done yet."
    if frontier.no_attack is not None:
        words = no_attack(frontier.no_attack)
        return f"{words[0].upper()}{words[1:]}."
    return (
        f"Filled: validation, where states were chosen ({_images(badnet)}). Hollow: the same "
        f"states on test, which chose nothing ({_images(badnet_test)}). "
        + ("Attack success is that of the worst trigger. " if badnet.triggers else "")
        + f"{len(frontier.points)} frontier states of {trials} trials, "
        f"hypervolume {frontier.hypervolume:.4f}."
    )


def _images(counts: Counts) -> str:
    several = f" of {len(counts.triggers)} triggers" if counts.triggers else ""
    return f"{counts.clean_total:,} clean, {counts.in_all.poisoned_total:,} poisoned images{several}"
