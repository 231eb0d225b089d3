"""Findings about how much the images can tell, and about X."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prune_core.counts import exact_points, wilson_interval
from prune_core.data.checks.findings import Finding, Seen

NEEDED = 0.03  # half of a 95 % interval, as a fraction
FAR = 0.06


def check_size(split: Seen) -> list[Finding]:
    """Rates whose 95 % interval is wider than +-3 points: a note; wider than +-6: a warning."""
    found = []
    for kind, what in (("clean", "clean accuracy"), ("poisoned", "attack success")):
        answers = getattr(split, kind)
        hits, total = int((answers.above == 0).sum()), len(answers.above)
        low, high = wilson_interval(hits, total)
        if (high - low) / 2 <= NEEDED:
            continue
        enough = _needed(hits / total)
        found.append(
            Finding(
                "warning" if (high - low) / 2 > FAR else "note",
                "few-images",
                f"{total} {kind} {split.name} images leave {what} between {low:.1%} and {high:.1%} (95 % "
                "interval "
                f"of {hits} of {total}); +-3 points would take about {enough}",
                {"hits": hits, "images": total, "needed": enough},
            )
        )
    return found


def _needed(rate: float) -> int:
    total = 8
    while True:
        low, high = wilson_interval(round(rate * total), total)
        if (high - low) / 2 <= NEEDED:
            return total
        total = math.ceil(total * 1.05)


def check_x(points: Iterable[float], split: Seen, key: str = "sweep.x_thresholds") -> list[Finding]:
    """X that looks like a fraction, and X that leaves no more than guessing."""
    total = len(split.split.clean)
    hits = int((split.clean.above == 0).sum())
    labels, most = split.split.clean.labels, 0
    for label in set(labels.tolist()):
        most = max(most, int((labels == label).sum()))
    found = []
    for x in sorted(set(points)):
        lost = int(exact_points(x) * total / 100)
        if 0 < x < 1:
            found.append(
                Finding(
                    "warning",
                    "x-below-one",
                    f"{key} {x:g} is in percentage points: it allows {lost} of {total} clean images to "
                    "be lost; if "
                    f"{x:g} was meant as a fraction, write {100 * x:g}, which allows "
                    f"{int(100 * x * total / 100)}",
                    {"lost": lost, "images": total},
                )
            )
        elif x >= 1 and hits - lost <= most:
            found.append(
                Finding(
                    "warning",
                    "x-beyond-chance",
                    f"{key} {x:g} allows {lost} of {total} clean images to be lost, of {hits} that are "
                    "right: a "
                    f"network that always says one class keeps {most}, so what is left may be no network "
                    "at all",
                    {"lost": lost, "right": hits, "largest_class": most, "images": total},
                )
            )
    return found
