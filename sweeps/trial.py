"""One trial: settings -> record. A plain function; knows neither Ray nor MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from prune_core.counts import Counts
from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.evaluation.cached import RememberingEvaluator
from prune_core.evaluation.net_counter import NetCounter
from prune_core.evaluation.plain import Evaluator, make_evaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.methods import NET_POLICIES
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import OrderInput, channel_order
from prune_core.policies.registry import empty_mask, prune
from prune_core.repair.nets import Candidate, Given
from sweeps.config.schema import ResourcesConfig
from sweeps.planning.grid import TrialSettings, trial_key
from sweeps.records import ChangedNet, TrialRecord
from sweeps.storage.evaluation_cache import Evaluations
from sweeps.storage.storage import Storage
from sweeps.trial_nets import Progress, Watch, policy_nets, repaired_nets


@dataclass(frozen=True, eq=False)
class TrialInputs:
    """What all trials of a sweep share: the BadNet and both splits, with the BadNet's test counts."""

    model: PrunableModel
    valid: Split
    test: Split
    # Orders computed so far: trials that differ in X or policy only share one.
    orders: dict[tuple[str, tuple[str, ...], int], list[Channel]] = field(default_factory=dict, repr=False)

    def key(self, settings: TrialSettings) -> str:
        return trial_key(settings, self.model.digest, self.valid.digest, self.test.digest)


@dataclass(frozen=True, eq=False)
class Evaluators:
    """A worker's two evaluators, kept from trial to trial. Validation decides, test reports."""

    valid: Evaluator
    test: Evaluator
    memories: tuple[Evaluations, ...] = ()

    @classmethod
    def of(
        cls, inputs: TrialInputs, kind: str, resources: ResourcesConfig, storage: Storage | None = None
    ) -> Evaluators:
        """What they find out is shared through ``storage``. A trial asks test only once, so its
        evaluator gets the smaller part of the memory."""
        made = [
            remembering(inputs.model, split, kind, resources.memory_gb * share, storage)
            for split, share in ((inputs.valid, 0.6), (inputs.test, 0.4))
        ]
        (valid, of_valid), (test, of_test) = made
        return cls(valid, test, (of_valid, of_test))

    def exchange(self) -> None:
        """Tell other workers what was found out here, and hear from them."""
        for memory in self.memories:
            memory.exchange()


def remembering(
    model: PrunableModel, split: Split, kind: str, memory_gb: float, storage: Storage | None
) -> tuple[RememberingEvaluator, Evaluations]:
    """An evaluator over what ``storage`` holds, and its memory."""
    memory = Evaluations(model.digest, split.digest, storage)
    memory.exchange()
    make = partial(make_evaluator, model, split, kind, memory_gb)
    return RememberingEvaluator(split, make, memory), memory


def run_trial(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Watch = lambda progress: None,
) -> TrialRecord:
    """Prune, scale, repair as ``settings`` say, count the result on test, make the record.

    ``watch`` is told of every candidate, stage and round. A trial that cannot be done comes back as
    a failed record with its reason; what gets through is Ctrl-C and ``machine_fault``, which a
    caller may answer by trying again.
    """
    key, started = inputs.key(settings), time.monotonic()
    evaluators.exchange()
    try:
        steps: list[PruneStep] = []
        nets: list[ChangedNet] = []
        if settings.policy in NET_POLICIES:
            final, now = _nets(settings, inputs, evaluators, nets, watch)
        else:
            final, now = _prune(settings, inputs, evaluators, steps, watch)
        if settings.repair != "none":
            nets.clear()  # what a policy made before its repair is a state of the trial without
            final, now = _repair(settings, inputs, evaluators, final, now, nets, watch)
        return TrialRecord(
            key,
            settings,
            "done",
            seconds=time.monotonic() - started,
            badnet_valid=evaluators.valid.badnet,
            badnet_test=evaluators.test.badnet,
            valid=now,
            test=NetCounter(inputs.model, evaluators.test)(final.mask, final.weights),
            mask=final.mask,
            steps=tuple(steps),
            nets=tuple(nets),
        )
    except Exception as error:  # whatever it is, the sweep goes on and the record says it
        if machine_fault(error):
            raise
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        reason = kind + (" ".join(str(error).split()) or "no message")[:500]
        return TrialRecord(key, settings, "failed", reason, time.monotonic() - started)
    finally:
        evaluators.exchange()


def machine_fault(error: Exception) -> bool:
    """Whether trying again may help: memory or files were out of reach. All else a trial meets
    again, since it follows from its settings and its data."""
    if isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _prune(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    steps: list[PruneStep],
    watch: Watch,
) -> tuple[Candidate, Counts]:
    """Fills ``steps``; the net at the end, and its counts on validation."""
    order = _order(settings, inputs)
    for step in prune(settings.policy, settings.x, evaluators.valid, order):
        steps.append(step)
        doing = f"trying channels of {step.channel.layer}"
        watch(Progress(doing, len(steps), max(len(order), len(steps)), len(step.mask)))
    if not steps:
        return Candidate(empty_mask(settings.policy), {}, ""), evaluators.valid.badnet
    return Candidate(steps[-1].mask, {}, ""), steps[-1].now


def _nets(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    nets: list[ChangedNet],
    watch: Watch,
) -> tuple[Candidate, Counts]:
    """Fills ``nets``; the last one within X, and its counts on validation."""
    layer_set = resolve_layer_set(settings.layers, inputs.model)
    given = Given(inputs.model, inputs.valid, settings.seed)
    badnet, measure = evaluators.valid.badnet, NetCounter(inputs.model, evaluators.valid)
    nets += policy_nets(settings, given, layer_set, badnet, measure, watch)
    return _last_accepted(nets, Candidate(ChannelMask(), {}, ""), badnet)


def _repair(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    start: Candidate,
    now: Counts,
    nets: list[ChangedNet],
    watch: Watch,
) -> tuple[Candidate, Counts]:
    """Fills ``nets``; the best balanced one within X, and its counts on validation."""
    given = Given(inputs.model, inputs.valid, settings.seed)
    badnet, measure = evaluators.valid.badnet, NetCounter(inputs.model, evaluators.valid)
    nets += repaired_nets(settings, given, start, 0, badnet, measure, watch)
    return _last_accepted(nets, start, now)


def _last_accepted(
    nets: Sequence[ChangedNet], otherwise: Candidate, counts: Counts
) -> tuple[Candidate, Counts]:
    for net in reversed(nets):
        if net.accepted:
            return Candidate(net.mask, net.weights or {}, net.note), net.counts
    return otherwise, counts


def _order(settings: TrialSettings, inputs: TrialInputs) -> list[Channel]:
    known = (settings.order, settings.layers, settings.seed)
    if known not in inputs.orders:
        layer_set = resolve_layer_set(settings.layers, inputs.model)
        given = OrderInput.of(inputs.model, inputs.valid, layer_set, settings.seed)
        inputs.orders[known] = channel_order(settings.order, given)
    return inputs.orders[known]
