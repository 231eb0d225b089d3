"""What a scan says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from prune_core.inversion.found import FoundTrigger

Verdict = Literal["suspected", "nothing found", "cannot tell"]


@dataclass(frozen=True)
class ScanRow:
    """One class under one kind of trigger.

    Attributes:
        target: the class.
        kind: ``patch``, ``blend`` or ``add``.
        size: of the smallest trigger found (``FoundTrigger.size``); None where none led enough images there.
        success, success_low, success_high: the fraction of held-out images of other classes that it leads
            to the class, and its 95 % interval.
        anomaly: how far the size lies below those of the other classes, on a log scale, in robust standard
            deviations (median over starts); None where there is no size.
        anomaly_low, anomaly_high: the least and the greatest over starts.
        starts: searches that were made.
    """

    target: int
    kind: str
    size: float | None
    success: float
    success_low: float
    success_high: float
    anomaly: float | None
    anomaly_low: float | None
    anomaly_high: float | None
    starts: int

    def to_json(self) -> dict[str, Any]:
        """With the class under ``class``."""
        found = dict(self.__dict__)
        return {"class": found.pop("target"), **found}


@dataclass(frozen=True, eq=False)
class ScanResult:
    """What was found in a network.

    Attributes:
        model, model_digest, clean, clean_digest: the network and the images.
        images, held_out: clean images that triggers were sought on, and measured on.
        classes: of the network. ``sought``: those that were looked at.
        verdict: ``suspected``; ``nothing found``, which is not "clean"; ``cannot tell``.
        why: the verdict's reasons, in words.
        suspected: the classes that the net is too easily led to, the most anomalous first.
        rows: every class that was searched, by kind; the most anomalous first.
        null: what the sizes are compared with: by kind ``median`` and ``spread`` of the other classes (log
            scale), and of each candidate the same search on a copy without its shortcut; and ``margins``,
            the classes of the greatest margins (``margins.Margins``).
        triggers: the best trigger of every candidate, suspected or not.
        settings: with which the result comes again.
        seconds: CPU time of this process for all searches, also of those taken over from earlier calls.
    """

    model: str
    model_digest: str
    clean: str
    clean_digest: str
    images: int
    held_out: int
    classes: int
    verdict: Verdict
    why: str
    suspected: tuple[int, ...]
    rows: tuple[ScanRow, ...] = field(repr=False)
    null: dict[str, Any] = field(repr=False)
    triggers: tuple[FoundTrigger, ...] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    seconds: float = 0.0
    files: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The contract's form, as ``scan.json`` has it. Rates are fractions."""
        files = self.files or tuple({} for _ in self.triggers)
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "clean": self.clean,
            "clean_digest": self.clean_digest,
            "images": self.images,
            "held_out": self.held_out,
            "classes": self.classes,
            "verdict": self.verdict,
            "why": self.why,
            "suspected": list(self.suspected),
            "rows": [row.to_json() for row in self.rows],
            "null": self.null,
            "triggers": [
                {"class": t.target, "kind": t.kind, **named, "size": t.size, "success": t.success}
                for t, named in zip(self.triggers, files, strict=True)
            ],
            "settings": self.settings,
            "seconds": self.seconds,
        }
