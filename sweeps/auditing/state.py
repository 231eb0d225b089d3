"""Audit a state of a sweep: its net, the BadNet and perhaps a benign net, attacked again in the same ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_core.audits.entries import AUDITS_VERSION, Entry
from prune_core.audits.names import AUDITS
from prune_core.audits.plan import Bench, Piece, pieces
from prune_core.audits.run import Audited, audited, expected_seconds
from prune_core.audits.subject import Subject
from prune_core.files.constants import Weights
from prune_core.model.model import PrunableModel
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore

Result = dict[str, Any]
_ORDER = {name: place for place, name in enumerate(AUDITS)}
_DIGESTS = ("model_digest", "mask_digest", "weights_digest", "data_digests")
Tell = Callable[[str, int, int, str], None]  # (subject, pieces done, of how many, what comes next)


@dataclass(frozen=True, eq=False)
class Auditor:
    """What the audits of all states of a sweep share.

    Attributes:
        benign: a net of the same kind without a backdoor; None where there is none.
        audits: names of ``names.AUDITS``; all where none is given.
        say: a line for people.
        tell: how it goes.
        made: the entries that were not there before.
    """

    sweep: str
    inputs: TrialInputs
    store: AuditStore
    bench: Bench
    benign: PrunableModel | None
    audits: tuple[str, ...]
    say: Callable[[str], None]
    tell: Tell
    made: list[Entry] = field(default_factory=list)

    def __call__(self, point: FrontierPoint, weights: Weights) -> Result:
        """The audit in the contract's form, kept in the storage too."""
        model = self.inputs.model
        subjects = {"goodnet": Subject(model.with_weights(weights), point.mask), "badnet": Subject(model)}
        if self.benign is not None:
            subjects["benign"] = Subject(self.benign)
        if self.store.outdated(self.sweep, point.trial_key, point.step):
            self.say(f"step {point.step} of trial {point.trial_key}: audited by another version; made again")
        self._say_time(subjects)
        found = {name: self.audited(name, subject) for name, subject in subjects.items()}
        result: Result = {
            "version": AUDITS_VERSION,
            "sweep": self.sweep,
            "trial": point.trial_key,
            "step": point.step,
            "model_digest": model.digest,
            "mask_digest": point.mask.digest,
            "weights_digest": point.weights,
            "data_digests": {"valid": self.inputs.valid.digest, "test": self.inputs.test.digest},
            **({} if self.benign is None else {"benign_digest": self.benign.digest}),
            "subjects": {name: [e.to_json() for e in one.entries] for name, one in found.items()},
            "skipped": _once(found),
        }
        self.store.keep_state(self._with_earlier(result))
        return result

    def _with_earlier(self, result: Result) -> Result:
        """With what was found of the state before and was not asked for now."""
        before = self.store.state(self.sweep, result["trial"], result["step"])
        if before is None or any(before.get(name) != result[name] for name in _DIGESTS):
            return result
        benign = before.get("benign_digest")
        other = "benign_digest" in result and result["benign_digest"] != benign
        subjects = dict(result["subjects"])
        for net, entries in before["subjects"].items():
            if net == "benign" and other:  # figures of two nets do not go into one column
                continue
            now = {Entry.from_json(entry).key: entry for entry in subjects.get(net, [])}
            there = {Entry.from_json(entry).key: entry for entry in entries}
            subjects[net] = sorted({**there, **now}.values(), key=lambda e: _ORDER.get(e["audit"], 0))
        made = {entry["audit"] for entry in subjects["goodnet"]}
        told = {one["audit"] for one in result["skipped"]} | made
        skipped = [one for one in before["skipped"] if one["audit"] not in told]
        kept = {"benign_digest": benign} if benign is not None and not other else {}
        return {**result, **kept, "subjects": subjects, "skipped": [*result["skipped"], *skipped]}

    def audited(self, name: str, subject: Subject) -> Audited:
        """One net, ``name`` among the subjects: what is kept of it, and what is missing, made and kept."""
        net, there = self._known(subject)

        def keep(entry: Entry) -> None:
            self.made.append(entry)
            there[entry.key] = entry
            self.store.keep(net, there.values())

        def tell(done: int, total: int, what: str) -> None:
            self.tell(name, done, total, what)

        return audited(subject, self.bench, self.audits, dict(there), keep, tell)

    def _known(self, subject: Subject) -> tuple[str, dict[str, Entry]]:
        digests = (self.inputs.valid.digest, self.inputs.test.digest)
        net = self.store.net_name(subject.model.digest, subject.mask.digest, *digests)
        return net, self.store.entries(net)

    def left(self, subject: Subject) -> list[Piece]:
        """What is not kept of a net's audits."""
        there = self._known(subject)[1]
        return [p for p in pieces(subject, self.bench, self.audits)[0] if p.key not in there]

    def _say_time(self, subjects: Mapping[str, Subject]) -> None:
        seconds, left = 0.0, 0
        for subject in subjects.values():
            if todo := self.left(subject):
                seconds += expected_seconds(subject, self.bench, todo)
                left += len(todo)
        if left:
            minutes = max(1, round(seconds / 60))
            self.say(
                f"{left} audit{'s' if left > 1 else ''} of {len(subjects)} networks: about {minutes} "
                f"minute{'s' if minutes > 1 else ''} "
                "on one thread of this machine; stopped, the same command goes on from there"
            )


def _once(found: Mapping[str, Audited]) -> list[dict[str, Any]]:
    """What was skipped, each once, with the nets that it was skipped for where not for all."""
    nets: dict[tuple[str, str], list[str]] = {}
    for name, one in found.items():
        for skipped in one.skipped:
            nets.setdefault((skipped.audit, skipped.why), []).append(name)
    return [
        {"audit": audit, "why": why, **({} if len(names) == len(found) else {"subjects": names})}
        for (audit, why), names in nets.items()
    ]


def summary(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that differ in their seed alone, together; in the order in which they first come."""
    rows: dict[str, list[Entry]] = {}
    for entry in entries:
        rows.setdefault(str([entry.audit, sorted(entry.setting.items(), key=str)]), []).append(entry)
    return list(rows.values())
