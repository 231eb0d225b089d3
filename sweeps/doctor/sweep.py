"""Checks of what a sweep would do with this network and these images, before it is paid for."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterable

from prune_core.data.pairs import find_pairs, known_truth
from prune_core.data.told import goal_words
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.look import findings_of, see
from prune_core.evaluators import make_evaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.methods import NET_POLICIES
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.orders import find_order
from prune_core.policies.prefix import FILL
from prune_core.policies.registry import RANKING
from sweeps.config.schema import Config
from sweeps.config.search import XRange
from sweeps.doctor.findings import Check, check, failed, told
from sweeps.inputs.look import asked_x
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.plan import listed
from sweeps.planning.search_space import SearchSpace
from sweeps.records.settings import TrialSettings

ENOUGH = 10.0  # seconds that are spent on asking questions
QUESTIONS = {"best-first": 5.0, "plateau": 1.3}  # for each channel; 1 of the others (docs/methods.md)
SCREENED = 12  # questions for each channel that is chosen at a time, at most those of above
MANY = 512  # candidates; with more, best-first had better be told whom to ask about


def diagnose_sweep(config: Config, inputs: TrialInputs) -> list[Check]:
    """The attack, the look at the data, orders and layer sets on this network, and what it will take."""
    checks: list[Check] = []
    try:
        seen = [see(inputs.model, "validation", inputs.valid), see(inputs.model, "test", inputs.test)]
        found = findings_of(inputs.model, seen, asked_x(config.sweep))
    except Exception as error:  # whatever breaks is a finding
        return [failed("attack", error)]
    clean, poisoned = seen[0].clean.above == 0, seen[0].poisoned.above == 0
    said = (
        f"clean accuracy {clean.mean():.2%}, attack success {poisoned.mean():.2%} "
        f"on validation, target {goal_words(inputs.valid.goal)}"
    )

    def attack() -> str:
        """Is there something to repair, and is the network fed as it was trained?"""
        if clean.mean() < 0.5:
            raise InputError(
                f"{said}: a BadNet should be right on most clean images; are data.scale and the labels "
                "those that it was trained with?"
            )
        if poisoned.mean() < 0.5 and not any(f.name == "no-attack" for f in found):
            raise InputError(
                f"{said}: the attack hardly works on the unpruned network; are these the poisoned "
                "images of this BadNet, with the trigger in its place?"
            )
        return said

    checks.append(check("attack", attack))
    checks += map(told, found)
    if not found:
        checks.append(check("look at the data", lambda: "nothing to remark"))
    trials: list[TrialSettings] = []

    def resolves() -> str:
        trials.extend(_trials(config, inputs))
        _check_orders(config.sweep.orders, inputs)
        count = f"{len(trials)} trial{'s' if len(trials) != 1 else ''}"
        return f"{count}; every layer set and order can be made on this network"

    checks.append(check("search space", resolves))
    if trials and checks[-1]["ok"]:
        checks.append(_effort(config, inputs, trials))
        checks += _unscreened(trials, inputs)
    return checks


def _trials(config: Config, inputs: TrialInputs) -> list[TrialSettings]:
    """Those that the sweep will run, or as many of them as a search that learns will draw."""
    sweep = config.sweep
    if sweep.search != "optuna":
        return listed(sweep, inputs.model, inputs.inverted)
    space = SearchSpace.of(sweep, inputs.model, inputs.inverted)
    assert sweep.samples is not None  # checked by SweepConfig
    if isinstance(sweep.x_thresholds, XRange):
        import numpy as np

        drawn = space.draw_other(lambda settings: False, np.random.default_rng(0))
        return [drawn] * sweep.samples if drawn is not None else []
    return space.all[: sweep.samples]


def _check_orders(orders: Iterable[str], inputs: TrialInputs) -> None:
    """Raises InputError for an order that needs what these images do not tell."""
    valid = inputs.valid
    pairs = find_pairs(valid)
    for name in orders:
        needs = find_order(name).needs
        if "pairs" in needs and pairs is None:
            raise InputError(
                f"order {name!r} needs {needs}, and it is not known which clean image a poisoned one was "
                "made "
                "from: row i of the poisoned validation file must be row i of the clean one with the "
                "trigger on"
            )
        if "true labels" in needs and known_truth(valid, pairs) is None:
            raise InputError(
                f"order {name!r} needs {needs}; give them as field 'true_label' of data.poisoned_valid, "
                "or clean "
                "images row by row with them"
            )


def _effort(config: Config, inputs: TrialInputs, trials: list[TrialSettings]) -> Check:
    """Time and memory of the sweep, from one question for each layer that may be pruned."""
    name = "effort"
    try:
        limit = config.resources.memory_gb
        evaluator = make_evaluator(inputs.model, inputs.valid, config.evaluator, limit)
        seconds = _ask(evaluator, _layers(trials, inputs))
        cost = {s: _questions(s, inputs, seconds) for s in set(trials)}
        asked = round(sum(cost[s][0] for s in trials))
        spent = sum(cost[s][1] for s in trials)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    except Exception as error:  # whatever breaks is a finding
        return failed(name, error)
    training = sum(s.repair != "none" or s.policy in NET_POLICIES for s in trials)
    more = f", besides the training that {training} of them do" if training else ""
    said = (
        f"about {asked:,} questions of {1000 * min(seconds.values()):.1f} to "
        f"{1000 * max(seconds.values()):.1f} ms: at most about {_time(spent)} on one worker{more}; a "
        "worker takes "
        f"about {memory:.1f} GiB of memory now, and resources.memory_gb lets it take {limit:g}"
    )
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if memory > limit:
        said += "; that is more than it may take"
    elif limit > free + memory:
        said += f"; only {free:.1f} GiB are free here"
    level = "warning" if memory > limit else "ok"
    return {"name": name, "ok": True, "level": level, "detail": said}


def _unscreened(trials: list[TrialSettings], inputs: TrialInputs) -> list[Check]:
    """Whether best-first goes through more channels than it has to."""
    asking = {s.layers for s in trials if s.policy in RANKING and s.screen is None}
    sizes = [sum(len(channels) for _, channels in resolve_layer_set(ls, inputs.model)) for ls in asking]
    if max(sizes, default=0) <= MANY:
        return []
    said = (
        f"best-first goes through {max(sizes):,} channels; with sweep.screen: 32 it asks only about those "
        "that a gradient chooses (docs/performance-more.md)"
    )
    return [{"name": "screen", "ok": True, "level": "note", "detail": said}]


def _layers(trials: list[TrialSettings], inputs: TrialInputs) -> list[str]:
    sets = {settings.layers for settings in trials}
    return sorted({name for layers in sets for name, _ in resolve_layer_set(layers, inputs.model)})


def _ask(evaluator: Evaluator, layers: list[str]) -> dict[str, float]:
    """Seconds of a question about a channel of each layer; once time is up, the mean of those asked."""
    seconds: dict[str, float] = {}
    begun = time.monotonic()
    evaluator.counts(ChannelMask())
    for layer in layers:
        if seconds and time.monotonic() - begun > ENOUGH:
            break
        started = time.monotonic()
        evaluator.counts(ChannelMask().adding(Channel(layer, 0)))
        seconds[layer] = time.monotonic() - started
    mean = math.fsum(seconds.values()) / len(seconds)
    return {layer: seconds.get(layer, mean) for layer in layers}


def _questions(
    settings: TrialSettings, inputs: TrialInputs, seconds: dict[str, float]
) -> tuple[float, float]:
    """How many a trial asks, and the seconds they take."""
    if settings.policy in NET_POLICIES:
        return 0.0, 0.0
    each = QUESTIONS.get(settings.policy, 1.0)
    layers = resolve_layer_set(settings.layers, inputs.model)
    if settings.policy == "prefix":  # few questions, each about many channels: as long as the longest
        asked = 2 * math.log2(2 + sum(len(channels) for _, channels in layers)) + FILL
        return asked, asked * max(seconds[layer] for layer, _ in layers)
    total = sum(len(channels) for _, channels in layers)
    if settings.screen is not None:
        each = min(each, SCREENED * settings.screen / total)
    return (
        each * total,
        each * math.fsum(len(channels) * seconds[layer] for layer, channels in layers),
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
