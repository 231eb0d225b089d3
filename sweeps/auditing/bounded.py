"""A choice bounded by audits: ``goodnet pick --max-reactivated``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from prune_core.audits.entries import Entry
from prune_core.audits.names import POISONED, SEEDS
from prune_core.counts import Counts, exact_points
from prune_core.errors import InputError
from sweeps.choosing.audited import audit_of
from sweeps.choosing.criteria import Criterion, Points
from sweeps.choosing.named import Named
from sweeps.results import Frontier, FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.manifest import Manifest

AT_MOST = 10  # poisoned images: with more, networks that never had a backdoor learn one

Key = tuple[str, int]


@dataclass(frozen=True)
class Bounded:
    """``inner`` among states whose attack comes back at most so far; a criterion.

    Attributes:
        rate: a fraction, of ``reactivated``.
        known: of the states that have been audited, by trial and step.
    """

    inner: Criterion
    rate: float
    known: Mapping[Key, Fraction]
    sweep: str

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InputError(
                f"--max-reactivated {self.rate:g}: expected a fraction from 0 to 1 (20 per cent is 0.2)"
            )

    def choose(self, points: Points, badnet: Counts) -> tuple[FrontierPoint, str]:
        """Raises InputError where no audited state is within the bound; one that was not audited is never
        taken to be."""
        asked = f"--max-reactivated {self.rate:g}"
        if isinstance(self.inner, Named):
            points = [point for point in points if self.inner.names(point)]
        audited = [point for point in points if _key(point) in self.known]
        left_out = len(points) - len(audited)
        if not audited:
            raise InputError(f"{asked}: none of the states to choose from has been audited; {self._how()}")
        within = [p for p in audited if self.known[_key(p)] <= exact_points(self.rate)]
        others = f"; {left_out} states are not audited: {self._how()}" if left_out else ""
        if not within:
            nearest = min(audited, key=lambda p: self.known[_key(p)])
            raise InputError(
                f"{asked}: no audited state is at or under it; the nearest, step {nearest.step} of trial "
                f"{nearest.trial_key}, has {float(self.known[_key(nearest)]):.3f}{others}"
            )
        point, reason = self.inner.choose(within, badnet)
        return point, (
            f"{reason}, of the {len(within)} that up to {AT_MOST} poisoned images wake to at most "
            f"{self.rate:.0%} (this one to {float(self.known[_key(point)]):.1%}, counted on validation "
            f"images that were not trained on){others}"
        )

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        return self.inner.again(clean, attack)

    def _how(self) -> str:
        if isinstance(self.inner, Named):
            state = f"--trial {self.inner.trial} --step {self.inner.step}"
        else:
            state = "--frontier"
        return f"goodnet audit {self.sweep} {state} --only reactivation does that"


def bounded(
    criterion: Criterion, rate: float, frontier: Frontier, store: AuditStore, manifest: Manifest
) -> Bounded:
    """``criterion`` within the bound, by the audits of the sweep that are kept. Raises InputError for a rate
    that is none."""
    known = {}
    for point in frontier.points:
        found = audit_of(point, store, manifest)
        value = None if found is None else reactivated(found)
        if value is not None:
            known[_key(point)] = value
    return Bounded(criterion, rate, known, manifest.name)


def reactivated(audit: Mapping[str, Any]) -> Fraction | None:
    """How far up to ``AT_MOST`` poisoned images wake the attack: of each number of images the mean over
    seeds, of these the largest; a fraction of validation images that were not trained on. None where not all
    of it was tried."""
    entries = [Entry.from_json(value) for value in audit["subjects"].get("goodnet", ())]
    rates = []
    for images in (count for count in POISONED if count <= AT_MOST):
        each = {
            e.seed: Fraction(*e.valid)
            for e in entries
            if e.audit == "reactivation" and e.setting.get("poisoned_images") == images
        }
        if not set(SEEDS) <= set(each):
            return None
        rates.append(sum(each.values(), Fraction(0)) / len(each))
    return max(rates)


def _key(point: FrontierPoint) -> Key:
    return point.trial_key, point.step
