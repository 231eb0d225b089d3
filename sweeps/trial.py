"""One trial: settings -> record. A plain function; knows neither Ray nor MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prune_core.counts import Counts
from prune_core.errors import InputError
from prune_core.evaluation.net_counter import NetCounter
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.methods import NET_POLICIES
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.memory import out_of_memory, typed
from prune_core.orders import OrderInput, channel_order
from prune_core.policies.registry import empty_mask, prune
from prune_core.repair.nets import Candidate, Given
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.progress import Progress, Watch
from sweeps.records import ChangedNet, TrialRecord
from sweeps.settings import TrialSettings
from sweeps.trial_nets import policy_nets, repaired_nets


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
        whose = "input" if isinstance(error, InputError) else "fault"
        return TrialRecord(key, settings, "failed", reason, time.monotonic() - started, failure=whose)
    finally:
        evaluators.exchange()


def machine_fault(error: Exception) -> bool:
    """Whether trying again may help: memory or files were out of reach. All else a trial meets
    again, since it follows from its settings and its data."""
    return isinstance(error, OSError) or out_of_memory(typed(error))


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
