"""Trial records: what a trial found, as one Parquet file each, written whole or not at all.

A record's rows are its steps, so any Parquet reader can look at all trials together; settings,
counts and the mask stand in the file's metadata. So do the nets of a trial that changed weights; their
weights lie beside it, in ``weights/<key>.safetensors``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prune_core.counts import Counts
from prune_core.files.constants import Weights
from prune_core.greedy import PruneStep
from prune_core.masks import ChannelMask
from sweeps.records.ran import Ran
from sweeps.records.settings import TrialSettings

Whose = Literal["input", "machine", "fault"]  # fault a failure is
Status = Literal["done", "failed", "stopped"]


@dataclass(frozen=True)
class State:
    """A net that a trial passed through: an accepted step, or the BadNet (step 0, no channel).

    ``step`` is the number of the candidate in its trial, from 1; nets that are made after the candidates are
    counted on; ``counts`` are on validation; ``settings`` are the
    trial's; ``weights`` is the digest of changed weights, None where only channels are pruned.
    """

    trial_key: str
    step: int
    mask: ChannelMask
    counts: Counts
    settings: TrialSettings | None = None
    weights: str | None = None


@dataclass(frozen=True)
class ChangedNet:
    """A net that a trial made otherwise than by its pruning rule.

    Attributes:
        step: among the trial's nets, from 0, as its weights are stored; ``TrialRecord.number`` is the step
            that people see.
        note: what it is, in words: the stage, the threshold, the epoch.
        mask: channels that are pruned in it.
        counts: on validation.
        accepted: within the bound X.
        digest: of the changed weights; None when it is the mask alone.
        weights: the weights themselves, only in the process that made them.
    """

    step: int
    note: str
    mask: ChannelMask
    counts: Counts
    accepted: bool
    digest: str | None = None
    weights: Weights | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class TrialRecord:
    """Settings, fate and findings of one trial.

    Attributes:
        key: digest of what the trial is (``space.trial_key``).
        status: "done"; "stopped" by ``sweep.stop`` before its end, with a ``reason``, and all else as of one
            that is done; or "failed", with a ``reason`` and nothing after ``seconds``.
        badnet_valid, badnet_test: counts of the unpruned net; valid, test: of the final one.
        mask: the final mask. steps: every candidate in turn.
        failure: whose it was that it failed: "input" (of what was given), "machine" (it was tried again,
            and given up) or "fault" (ours); None when it is done, and in records of versions before.
        nets: what was made by scaling, repair or a baseline; the last accepted one is the final net.
        ran: where and when; None where that is not known, as in records of versions before.
    """

    key: str
    settings: TrialSettings
    status: Status
    reason: str | None = None
    seconds: float = 0.0
    badnet_valid: Counts | None = None
    badnet_test: Counts | None = None
    valid: Counts | None = None
    test: Counts | None = None
    mask: ChannelMask = ChannelMask()
    steps: tuple[PruneStep, ...] = ()
    nets: tuple[ChangedNet, ...] = ()
    failure: Whose | None = None
    ran: Ran | None = field(default=None, compare=False)

    @property
    def weights(self) -> str | None:
        """Digest of the final net's changed weights."""
        accepted = [net for net in self.nets if net.accepted]
        return accepted[-1].digest if accepted else None

    def number(self, net: ChangedNet) -> int:
        """The step of a net: counted on from the trial's candidates, from 1."""
        return len(self.steps) + net.step + 1

    @property
    def last_step(self) -> int:
        """Of the last candidate, or net, that was tried: the trial's end."""
        return len(self.steps) + len(self.nets)

    def states(self) -> list[State]:
        """Every accepted state in turn. Of a trial with a repair only repaired nets count: what was
        pruned before is a state of the trial without."""
        pruned = [
            State(self.key, number, step.mask, step.now, self.settings)
            for number, step in enumerate(self.steps, 1)
            if step.accepted
        ]
        made = [
            State(self.key, self.number(net), net.mask, net.counts, self.settings, net.digest)
            for net in self.nets
            if net.accepted
        ]
        return made if self.settings.repair != "none" else pruned + made
