"""One trial: settings -> record. A plain function; knows neither Ray nor MLflow.

A trial ranks the channels of a layer set by an order, and prunes along it as a policy says, never
costing more than X points of clean accuracy (``prune_core.greedy`` has the walk); some policies make
nets otherwise, and a repair may train what was pruned. Validation decides; test is counted once, at the
end, and reports.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from prune_core.counts import Counts
from prune_core.errors import InputError
from prune_core.evaluation.net_counter import NetCounter
from prune_core.frontier import hypervolume
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.methods import NET_POLICIES, make_nets, repaired
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.memory import out_of_memory, typed
from prune_core.orders import OrderInput, channel_order
from prune_core.policies.prefix import prefix_of
from prune_core.policies.registry import empty_mask, prune
from prune_core.policies.screening import Screen
from prune_core.repair.nets import Given, MadeNet
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.progress import Judge, Progress, Watch
from sweeps.records.net_bound import Bound, until_beyond
from sweeps.records.ran import Ran
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import ChangedNet, TrialRecord, Whose


def run_trial(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Watch = lambda progress: None,
    judge: Judge | None = None,
) -> TrialRecord:
    """Prune, scale, repair as ``settings`` say, count the result on test, make the record.

    ``watch`` is told of every candidate, stage and round. ``judge`` may stop a walk without a repair; its
    record has what it found by then. A trial that cannot be done comes back as
    a failed record with its reason; what gets through is Ctrl-C and ``machine_fault``, which a
    caller may answer by trying again.
    """
    key, started, began = inputs.key(settings), time.monotonic(), time.time()
    evaluators.exchange()
    before = evaluators.answered()

    def ran() -> Ran:
        asked, known = (now - then for now, then in zip(evaluators.answered(), before, strict=True))
        return Ran(f"{platform.node()}/{os.getpid()}", began, asked, known)

    try:
        outcome = trial_outcome(settings, inputs, evaluators, watch, judge)
        test = NetCounter(inputs.model, evaluators.test)(outcome.final.mask, outcome.final.weights)
        return TrialRecord(
            key,
            settings,
            "done" if outcome.stopped is None else "stopped",
            outcome.stopped,
            seconds=time.monotonic() - started,
            badnet_valid=evaluators.valid.badnet,
            badnet_test=evaluators.test.badnet,
            valid=outcome.valid,
            test=test,
            mask=outcome.final.mask,
            steps=outcome.steps,
            nets=outcome.nets,
            ran=ran(),
        )
    except Exception as error:  # whatever it is, the sweep goes on and the record says it
        if machine_fault(error):
            raise
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        reason = kind + (" ".join(str(error).split()) or "no message")[:500]
        whose: Whose = "input" if isinstance(error, InputError) else "fault"
        seconds = time.monotonic() - started
        return TrialRecord(key, settings, "failed", reason, seconds, failure=whose, ran=ran())
    finally:
        evaluators.exchange()


@dataclass(frozen=True, eq=False)
class TrialOutcome:
    """What a trial did to the BadNet.

    Attributes:
        final: the net that it ends with. valid: that net's counts on validation.
        steps: every channel that was tried, in turn.
        nets: every net that was made otherwise than by pruning, in turn.
        stopped: why it was stopped before its end, if it was.
    """

    final: MadeNet
    valid: Counts
    steps: tuple[PruneStep, ...] = ()
    nets: tuple[ChangedNet, ...] = ()
    stopped: str | None = None


def trial_outcome(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Watch,
    judge: Judge | None = None,
) -> TrialOutcome:
    """A policy, then a repair where ``settings`` name one."""
    if judged(settings):
        return _prune(settings, inputs, evaluators, watch, judge)
    policy = _nets if settings.policy in NET_POLICIES else _prune
    if settings.policy == "prefix":
        policy = _prefixes
    outcome = policy(settings, inputs, evaluators, watch)
    return outcome if settings.repair == "none" else _repair(outcome, settings, inputs, evaluators, watch)


def judged(settings: TrialSettings) -> bool:
    """Whether such a trial may be stopped: a walk, whose states come one after the other. What a repair or a
    baseline comes to shows only at its end."""
    return settings.repair == "none" and settings.policy not in (*NET_POLICIES, "prefix")


def _prune(
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Watch,
    judge: Judge | None = None,
) -> TrialOutcome:
    """Channels pruned along the order, as the policy says."""
    order = _order(settings, inputs)
    steps: list[PruneStep] = []
    part, stopped = None, None
    if settings.rank_images is not None:
        part = partial(evaluators.part, settings.rank_images, settings.seed)
    screen = None
    if settings.screen is not None:
        screen = partial(Screen, inputs.model, inputs.valid, settings.screen)
    for step in prune(settings.policy, settings.x, evaluators.valid, order, part, screen):
        steps.append(step)
        doing = f"trying channels of {step.channel.layer}"
        watch(Progress(doing, len(steps), max(len(order), len(steps)), len(step.mask)))
        if judge is not None and (stopped := judge(len(steps), partial(volume_of, steps))) is not None:
            break
    if not steps:
        return TrialOutcome(_pruned(empty_mask(settings.policy)), evaluators.valid.badnet)
    return TrialOutcome(_pruned(steps[-1].mask), steps[-1].now, tuple(steps), stopped=stopped)


def volume_of(steps: Sequence[PruneStep]) -> float:
    """Hypervolume of the accepted states among ``steps``, on validation."""
    counts = [step.now for step in steps if step.accepted]
    return hypervolume(
        np.array([c.clean_accuracy for c in counts]), np.array([c.attack_success for c in counts])
    )


def _prefixes(
    settings: TrialSettings, inputs: TrialInputs, evaluators: Evaluators, watch: Watch
) -> TrialOutcome:
    """Prefixes of the order, each a net of the record: from one to the next many channels go."""
    order, nets = _order(settings, inputs), list[ChangedNet]()
    for step in prune(settings.policy, settings.x, evaluators.valid, order):
        mask, number = prefix_of(order, step), len(nets)
        note = f"the first {len(mask):,} of {len(order):,} channels; prefixes between those asked are unknown"
        nets.append(ChangedNet(number, note, mask, step.tried, step.accepted))
        watch(Progress(f"trying the first {len(mask):,} channels", number + 1, number + 2, len(step.mask)))
    return _with_nets(TrialOutcome(_pruned(ChannelMask()), evaluators.valid.badnet), nets)


def _order(settings: TrialSettings, inputs: TrialInputs) -> list[Channel]:
    known = (settings.order, settings.layers, settings.seed)
    if known not in inputs.orders:
        layer_set = resolve_layer_set(settings.layers, inputs.model)
        given = OrderInput.of(inputs.model, inputs.valid, layer_set, settings.seed)
        inputs.orders[known] = channel_order(settings.order, given)
    return inputs.orders[known]


def _nets(settings: TrialSettings, inputs: TrialInputs, evaluators: Evaluators, watch: Watch) -> TrialOutcome:
    """Nets that the policy makes, the mildest first; the last one within X is the final one."""
    layer_set = resolve_layer_set(settings.layers, inputs.model)
    given = Given(inputs.model, inputs.valid, settings.seed)
    made = make_nets(settings.policy, given, layer_set, _telling(watch, 0))
    nets = until_beyond(Bound(settings.x, inputs.model, evaluators.valid).judged(made))
    return _with_nets(TrialOutcome(_pruned(ChannelMask()), evaluators.valid.badnet), tuple(nets))


def _repair(
    outcome: TrialOutcome,
    settings: TrialSettings,
    inputs: TrialInputs,
    evaluators: Evaluators,
    watch: Watch,
) -> TrialOutcome:
    """Nets that training makes of the final one, the best balanced last; the last one within X is the
    final one then. What the policy made before is a state of the trial without a repair, not of this."""
    given = Given(inputs.model, inputs.valid, settings.seed)
    made = repaired(settings.repair, given, outcome.final, _telling(watch, len(outcome.final.mask)))
    nets = Bound(settings.x, inputs.model, evaluators.valid).judged(made)
    return _with_nets(outcome, tuple(nets))


def _with_nets(outcome: TrialOutcome, nets: Sequence[ChangedNet]) -> TrialOutcome:
    """``outcome`` with ``nets`` made after it; the last accepted one is the final net, if there is one."""
    outcome = replace(outcome, nets=tuple(nets))
    for net in reversed(nets):
        if net.accepted:
            return replace(outcome, final=MadeNet(net.mask, net.weights or {}, net.note), valid=net.counts)
    return outcome


def _pruned(mask: ChannelMask) -> MadeNet:
    return MadeNet(mask, {}, "")


def _telling(watch: Watch, pruned: int) -> Callable[[int, int, str], None]:
    return lambda done, total, doing: watch(Progress(doing, done, total, pruned))


def machine_fault(error: Exception) -> bool:
    """Whether trying again may help: memory or files were out of reach. All else a trial meets
    again, since it follows from its settings and its data."""
    return isinstance(error, OSError) or out_of_memory(typed(error))
