"""One report of a trial, for whoever reads it: ``goodnet prune --json``, MLflow, the head of its record."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from prune_core.counts import Counts
from prune_core.greedy import PruneStep
from prune_core.masks import ChannelMask
from prune_core.policies.leaps import Leap
from sweeps.records.ran import Ran
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import ChangedNet, Status, TrialRecord, Whose

SPLITS = ("badnet_valid", "badnet_test", "valid", "test")
OF_TRIGGER = ("attack_success", "attacked", "poisoned_total", "margin")
BRIEF = ("clean_accuracy", "attack_success", "clean_correct", "attacked", "margin", "complete")


class NetReport(BaseModel):
    """A net that a trial made otherwise than by pruning. ``step``: as its record counts; ``number``: the step
    that people see, counted on from the trial's candidates. ``weights``: digest of those it changed;
    ``counts`` are on validation, with rates (fractions) and intervals."""

    model_config = ConfigDict(frozen=True, strict=True)

    step: int
    number: int
    note: str
    accepted: bool
    weights: str | None
    channels_pruned: int
    mask: dict[str, Any]
    counts: dict[str, Any]

    @classmethod
    def of(cls, net: ChangedNet, number: int) -> NetReport:
        return cls(
            step=net.step,
            number=number,
            note=net.note,
            accepted=net.accepted,
            weights=net.digest,
            channels_pruned=len(net.mask),
            mask=net.mask.to_json(),
            counts=net.counts.to_json(),
        )

    def brief(self) -> dict[str, Any]:
        """Without what has a place of its own elsewhere: mask and counts."""
        return {**self.model_dump(exclude={"mask", "counts", "number"}), "step": self.number}

    def record_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "note": self.note,
            "mask": self.mask,
            "counts": self.counts,
            "accepted": self.accepted,
            "digest": self.weights,
        }


class TrialReport(BaseModel):
    """A trial: what was done, what that takes, and what it came to.

    Attributes:
        kind, assumption: what is done to the net, and what has to be known for it (``methods``).
        pruned: channels of the final net by layer. weights: digest of what else was changed in it.
        badnet_valid, badnet_test, valid, test: counts of the BadNet and of the final net, with rates
            (fractions) and 95 % intervals; None of a failed trial.
        failure, ran: whose fault a failure was, where and when it ran, as a record has them.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    trial_key: str
    settings: dict[str, Any]
    status: Status
    reason: str | None
    failure: Whose | None
    seconds: float
    channels_pruned: int
    kind: str
    policy: str
    repair: str
    assumption: str
    weights: str | None
    pruned: dict[str, list[int]]
    keep_bias: bool
    nets: tuple[NetReport, ...]
    badnet_valid: dict[str, Any] | None
    badnet_test: dict[str, Any] | None
    valid: dict[str, Any] | None
    test: dict[str, Any] | None
    ran: Ran | None = None

    @classmethod
    def of(cls, record: TrialRecord) -> TrialReport:
        settings, method = record.settings, record.settings.method
        counts = {split: getattr(record, split) for split in SPLITS}
        return cls(
            trial_key=record.key,
            settings=settings.to_json(),
            status=record.status,
            reason=record.reason,
            failure=record.failure,
            seconds=record.seconds,
            channels_pruned=len(record.mask),
            kind=method.kind,
            policy=settings.policy,
            repair=settings.repair,
            assumption=method.assumption,
            weights=record.weights,
            pruned=record.mask.by_layer(),
            keep_bias=record.mask.keep_bias,
            nets=tuple(NetReport.of(net, record.number(net)) for net in record.nets),
            ran=record.ran,
            **{split: None if c is None else c.to_json() for split, c in counts.items()},
        )

    def params(self) -> dict[str, str]:
        """The settings, and what they amount to, as texts: MLflow's parameters of the trial's run."""
        told = {**self.settings, "layers": self._layers, "layers_count": len(self.settings["layers"])}
        told |= {"repair": self.repair, "kind": self.kind}
        return {key: str(value) for key, value in told.items()}

    def file_json(self) -> dict[str, Any]:
        """``trial.json`` among the run's files; the mask has a file of its own there."""
        told = self.model_dump(exclude={"pruned", "keep_bias", "nets", "ran"})
        return {**told, "nets": [{**n.brief(), "valid": n.counts} for n in self.nets]}

    def record_json(self) -> dict[str, Any]:
        """The head of the trial's record; ``of_record_json`` reads it."""
        return {
            "key": self.trial_key,
            "settings": self.settings,
            "status": self.status,
            "reason": self.reason,
            "failure": self.failure,
            "seconds": self.seconds,
            "mask": {"pruned": self.pruned, "keep_bias": self.keep_bias},
            "nets": [net.record_json() for net in self.nets],
            **{split: getattr(self, split) for split in SPLITS},
            **({} if self.ran is None else {"ran": self.ran.to_json()}),
        }

    @classmethod
    def read(cls, head: dict[str, Any]) -> TrialRecord:
        """The record, without steps, whose ``record_json`` this is; heads of version 0.1 have none of
        ``failure``, ``nets`` and ``ran``. Raises ValueError, LookupError or TypeError where it has not
        that form."""
        counts: dict[str, Any] = {s: None if head[s] is None else Counts.from_json(head[s]) for s in SPLITS}
        record = TrialRecord(
            head["key"],
            TrialSettings.from_json(head["settings"]),
            head["status"],
            head["reason"],
            head["seconds"],
            mask=ChannelMask.from_json(head["mask"]),
            nets=tuple(map(_net, head.get("nets", []))),
            failure=head.get("failure"),
            ran=Ran.from_json(head.get("ran")),
            **counts,
        )
        cls.of(record)  # checks every field
        return record

    def command_json(self, channels_total: int, steps: tuple[PruneStep, ...]) -> dict[str, Any]:
        """What ``goodnet prune --json`` prints of a trial that is done. ``channels_total``: of all
        layers that count; ``steps``: every candidate in turn."""
        left_out = {"status", "reason", "failure", "nets", "ran", "badnet_valid", "badnet_test"}
        return {
            **self.model_dump(exclude=left_out),
            "badnet": {"valid": self.badnet_valid, "test": self.badnet_test},
            "channels_total": channels_total,
            "steps": [_step_json(number, step) for number, step in enumerate(steps, 1)],
            "nets": [{**n.brief(), **_brief(n.counts)} for n in self.nets],
        }

    @property
    def _layers(self) -> str:
        return "+".join(self.settings["layers"])


def _net(value: dict[str, Any]) -> ChangedNet:
    mask, counts = ChannelMask.from_json(value["mask"]), Counts.from_json(value["counts"])
    return ChangedNet(value["step"], value["note"], mask, counts, value["accepted"], value["digest"])


def _step_json(number: int, step: PruneStep) -> dict[str, Any]:
    back = step.returned
    return {
        "step": number,
        "layer": step.channel.layer,
        "channel": step.channel.index,
        "accepted": step.accepted,
        "tried": _brief(step.tried.to_json()),
        "now": _brief(step.now.to_json()),
        "returned": back and {"layer": back.layer, "channel": back.index},
        **(
            {"along": [{"layer": c.layer, "channel": c.index} for c in step.along]}
            if isinstance(step, Leap)
            else {}
        ),
        **(
            {"tried_images": step.tried.clean_total} if step.tried.clean_total != step.now.clean_total else {}
        ),
    }


def _brief(counts: dict[str, Any]) -> dict[str, Any]:
    """Of ``Counts.to_json``; of several triggers each is told, beside the worst of them."""
    told = {name: counts[name] for name in BRIEF}
    if "triggers" in counts:
        told["triggers"] = [{name: one[name] for name in OF_TRIGGER} for one in counts["triggers"]]
    return told
