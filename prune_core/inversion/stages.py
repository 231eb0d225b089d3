"""The stages of a scan: a screen, the searches, other starts, copies without the shortcut, the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prune_core.counts import wilson_interval
from prune_core.data.images import LabeledImages
from prune_core.inversion.anomaly import Others, others_of
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.kinds import Stamps
from prune_core.inversion.margins import SHORT, Margins
from prune_core.inversion.plan import CANDIDATES, EASIEST, ODD, OTHERS, SCREEN, STARTS, Plan
from prune_core.inversion.result import ScanResult, ScanRow
from prune_core.inversion.search import Effort, success_of
from prune_core.inversion.searches import VERSION, Searches, tensor_of
from prune_core.inversion.shortcut import without_shortcut
from prune_core.inversion.verdict import Candidate, concluded

Say = Callable[[str], None]
Tell = Callable[[str, float], None]


class Stages:
    """One scan: the screen, the searches, the copies, the verdict."""

    def __init__(
        self,
        searches: Searches,
        held: LabeledImages,
        raw: np.ndarray,
        classes: int,
        plan: Plan,
        tell: Tell,
    ) -> None:
        self.plan, self.held, self.raw, self.classes = plan, held, raw, classes
        self.doing, self.done, self.tell = "", 0, tell
        self.easy: set[int] = set()  # classes whose margins are odd
        self.searches = replace(searches, tell=self._passed)
        self.held_pixels = tensor_of(held, searches.net.device)
        self.held_labels = torch.tensor(held.labels, device=searches.net.device)

    def _passed(self, passes: int) -> None:
        self.done += passes
        self.tell(self.doing, min(1.0, self.done / self.plan.passes))

    def result(self, given: LabeledImages, say: Say) -> ScanResult:
        """Everything, in turn."""
        searches, plan = self.searches, self.plan
        self._foretell(say)
        rows: list[ScanRow] = []
        candidates: list[Candidate] = []
        margins = self._margins()
        self.easy = {one for one, anomaly in margins.anomalies.items() if anomaly >= ODD}
        null: dict[str, Any] = {"margins": margins.to_json()}
        for kind in plan.kinds:
            others, more, found = self._kind(kind)
            null[kind] = {"median": others.median, "spread": others.spread, "classes": others.count}
            rows += more
            candidates += found
        candidates.sort(key=lambda c: c.anomaly, reverse=True)
        verdict, why, suspected = concluded(candidates, margins, plan, len(self.held))
        null["copies"] = [c.to_json() for c in candidates]
        return ScanResult(
            model=searches.net.name,
            model_digest=searches.net.digest,
            clean=given.name,
            clean_digest=given.digest,
            images=len(searches.images),
            held_out=len(self.held),
            classes=self.classes,
            verdict=verdict,
            why=why,
            suspected=suspected,
            rows=tuple(sorted(rows, key=_oddness, reverse=True)),
            null=null,
            triggers=tuple(c.trigger for c in candidates),
            settings={**plan.to_json(), "version": VERSION, "seed": searches.seed},
            seconds=round(sum(searches.spent), 2),
        )

    def _margins(self) -> Margins:
        """The greatest margins of all classes; of many, after a short climb, of the first and some others."""
        targets = list(self.plan.targets)
        self.doing = f"greatest margins of {len(targets)} classes"
        if self.plan.screened:
            first = self.searches.margins(targets, 1, SHORT).greatest
            targets = self._easiest(targets, np.argsort(-first, kind="stable").tolist())
        return self.searches.margins(targets)

    def _kind(self, kind: str) -> tuple[Others, list[ScanRow], list[Candidate]]:
        """All classes under one kind of trigger."""
        pool = self._screened(kind)
        self.doing = f"{kind}: {len(pool)} classes"
        found = self.searches.smallest(pool, kind, self.plan.effort)
        sizes = found.size.cpu().numpy().astype(np.float64)
        others = others_of(sizes)
        hits, totals = self.measured(pool, found.stamps)
        ranked = [int(i) for i in np.argsort(sizes, kind="stable")]
        odd = [i for i in ranked if others.anomaly(sizes[i]) >= ODD][:CANDIDATES]
        odd += [i for i in ranked if pool[i] in self.easy and i not in odd][: CANDIDATES - len(odd)]
        starts = {i: [float(size)] for i, size in enumerate(sizes)}
        best = {i: (float(sizes[i]), found.stamps.of(slice(i, i + 1))) for i in odd}
        self.doing = f"{kind}: {len(odd)} of them from other starts"
        for start in range(1, STARTS if odd else 0):
            again = self.searches.smallest([pool[i] for i in odd], kind, self.plan.effort, start)
            for place, i in enumerate(odd):
                size = float(again.size[place])
                starts[i].append(size)
                if size < best[i][0]:
                    best[i] = (size, again.stamps.of(slice(place, place + 1)))
        candidates = []
        for i in odd:
            h, t = self.measured([pool[i]], best[i][1])
            hits[i], totals[i] = h[0], t[0]
            trigger = self.trigger(pool[i], kind, best[i][1], int(h[0]), int(t[0]))
            candidates.append(self._candidate(trigger, starts[i], others))
        rows = [
            row_of(one, kind, starts[i], others, int(hits[i]), int(totals[i])) for i, one in enumerate(pool)
        ]
        return others, rows, candidates

    def _screened(self, kind: str) -> list[int]:
        """Classes to search in full: all, or after a short search of all the easiest and some others."""
        targets = list(self.plan.targets)
        if not self.plan.screened:
            return targets
        self.doing = f"{kind}: screen of {len(targets)} classes"
        found = self.searches(targets, kind, SCREEN, keep=False)
        order = torch.argsort(found.margin, descending=True, stable=True).tolist()
        pool = self._easiest(targets, order)
        return pool + sorted(self.easy - set(pool))

    def _easiest(self, targets: Sequence[int], order: Sequence[int]) -> list[int]:
        """The first ``EASIEST`` of ``targets`` as ``order`` ranks them, and ``OTHERS`` that are drawn."""
        rest = order[EASIEST:]
        drawn = np.random.default_rng([self.searches.seed, len(rest)]).permutation(len(rest))[:OTHERS]
        return [targets[i] for i in order[:EASIEST]] + sorted(targets[rest[int(k)]] for k in drawn)

    def measured(self, targets: Sequence[int], stamps: Stamps) -> tuple[np.ndarray, np.ndarray]:
        """(targets,) held-out images of other classes that get the target with its trigger, and all such."""
        goals = torch.tensor(list(targets), device=self.held_pixels.device)
        hits, totals = success_of(
            self.searches.net, self.held_pixels, self.held_labels, goals, stamps, self.searches.span
        )
        return hits.cpu().numpy(), totals.cpu().numpy()

    def _candidate(self, trigger: FoundTrigger, starts: list[float], others: Others) -> Candidate:
        """With what the same search finds on a copy in which its trigger leads nowhere."""
        copy = without_shortcut(self.searches, trigger)
        size = None
        if copy is not None:
            self.doing = f"{trigger.kind}: class {trigger.target} in a copy without its shortcut"
            again = self.searches.smallest([trigger.target], trigger.kind, self.plan.effort, 0, copy.mask)
            size = float(again.size[0])
        return Candidate(trigger, tuple(others.anomaly(s) for s in starts), copy, size, others)

    def trigger(self, target: int, kind: str, stamps: Stamps, hits: int, total: int) -> FoundTrigger:
        """In raw pixels."""
        given = self.held.preprocessing
        pattern = stamps.pattern[0].detach().cpu().numpy().astype(np.float64)
        std = np.asarray(given.std, np.float64).reshape(-1, 1, 1)
        mean = np.asarray(given.mean, np.float64).reshape(-1, 1, 1)
        pattern = (pattern * std + (0.0 if kind == "add" else mean)) / given.scale
        mask = stamps.mask[0, 0].detach().cpu().numpy()
        size = float(stamps.size[0])
        return FoundTrigger(
            target, kind, pattern.astype(np.float32), mask.astype(np.float32), size, hits, total, self.raw
        )

    def _foretell(self, say: Say) -> None:
        """How long it will take, by a short search that is timed; its first steps warm the machine up."""
        if self.searches.begun:
            say("searches that were finished before are taken over")
            return
        searches = replace(self.searches, folder=None, spent=[])
        few, batch = list(self.plan.targets[:4]), self.plan.effort.images
        at: list[float] = []
        replace(searches, tell=lambda passes: at.append(time.perf_counter()))(
            few, self.plan.kinds[0], Effort(4, batch)
        )
        each = min(b - a for a, b in zip(at, at[1:], strict=False)) / (len(few) * batch)
        minutes = each * self.plan.passes / 60
        told = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{max(1, round(minutes * 60))} seconds"
        say(f"{len(self.plan.targets)} classes, {', '.join(self.plan.kinds)}: at most about {told} here")


def row_of(target: int, kind: str, starts: list[float], others: Others, hits: int, total: int) -> ScanRow:
    """``starts``: the size that each found, infinite where it found none."""
    anomalies = [others.anomaly(size) for size in starts]
    low, high = wilson_interval(hits, total) if total else (0.0, 1.0)
    middle = float(np.median(anomalies))
    told = [middle, min(anomalies), max(anomalies)]
    anomaly, least, most = (value if np.isfinite(value) else None for value in told)
    size = min(starts)
    rate = hits / total if total else 0.0
    return ScanRow(
        target,
        kind,
        size if np.isfinite(size) else None,
        rate,
        low,
        high,
        anomaly,
        least,
        most,
        len(starts),
    )


def _oddness(row: ScanRow) -> float:
    return -np.inf if row.anomaly is None else row.anomaly
