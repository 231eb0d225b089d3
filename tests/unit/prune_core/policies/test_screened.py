"""First-order estimates choose whom best-first asks; what it decides is counted as ever."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import goodnet
from prune_core.counts import exact_points
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.data.subset import subset
from prune_core.errors import InputError
from prune_core.evaluation.numerics import target_margin
from prune_core.evaluators import make_evaluator
from prune_core.greedy import Walk
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.policies.registry import prune
from prune_core.policies.screened import TRIES
from prune_core.policies.screening import Screen
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.grid import trials_of
from sweeps.records.settings import TrialSettings
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial
from tests.nets.networks import as_model, made

NETS = [("Chain", 3), ("Residual", 1), ("Fork", 1), ("Depthwise", 5)]
STEP = 1e-6


def net_of(kind: str, seed: int) -> tuple[PrunableModel, Split, list[Channel]]:
    model, split = made(kind, seed)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(la.channels)]
    return model, split, order


def weakened(model: PrunableModel, channel: Channel) -> torch.nn.Module:
    """A float64 copy of the net, where the channel is by ``STEP`` smaller."""
    layer, graph = model.layer(channel.layer), copy.deepcopy(model.graph).double()
    for name, part in graph.named_modules():
        if name == (layer.batch_norm or layer.node):
            for tensor in (part.weight, part.bias):
                if isinstance(tensor, torch.Tensor):
                    tensor.data[channel.index] *= 1 - STEP
    return graph


@pytest.mark.parametrize("kind, seed", NETS)
def test_the_estimates_are_slopes_of_the_net(kind: str, seed: int) -> None:
    """The plain twin weakens one channel after the other, in float64."""
    model, split, order = net_of(kind, seed)
    mask = ChannelMask(frozenset(order[1::5]))
    pixels = torch.from_numpy(split.poisoned.floats(0, len(split.poisoned))).double()
    targets = torch.from_numpy(split.targets)
    screen = Screen(model, split, 4, order)
    found = screen._slopes(screen.poisoned, mask)
    with model.pruned(mask), torch.no_grad():
        whole = target_margin(copy.deepcopy(model.graph).double()(pixels), targets)
        for channel in set(order) - mask.channels:
            less = target_margin(weakened(model, channel)(pixels), targets)
            fall = ((whole - less) / STEP).numpy()
            told = found.falls[:, screen.place[channel]].numpy()
            assert np.abs(told - fall).max() < 1e-3 * (1 + np.abs(fall).max()), channel
    assert np.abs(found.margins.numpy() - whole.numpy()).max() < 1e-4 * (1 + whole.abs().max())


@pytest.mark.parametrize("kind, seed", NETS)
@pytest.mark.parametrize("count, part", [(3, None), (50, 20)])
def test_what_is_accepted_is_counted_on_all_images(
    kind: str, seed: int, count: int, part: int | None
) -> None:
    model, split, order = net_of(kind, seed)
    few = split if part is None else subset(split, part, 0)
    assert few is not None
    steps = list(
        prune(
            "best-first",
            10.0,
            make_evaluator(model, split),
            order,
            None if part is None else lambda: make_evaluator(model, few),
            lambda order: Screen(model, split, count, order),
        )
    )
    whole = make_evaluator(model, split, "plain")
    now, mask = whole.badnet, ChannelMask()
    for step in steps:
        if step.accepted:
            mask, now = step.after(mask), step.now
            assert now == whole.counts(mask)
            assert now.clean_accuracy_fell(since=whole.badnet) <= exact_points(10.0)
        assert step.mask == mask and step.now == now
    assert steps


def first_rounds(model: PrunableModel, split: Split, count: int, order: list[Channel]) -> list[Channel]:
    """Whom it asks before it accepts anything."""
    asked = []
    screen = lambda order: Screen(model, split, count, order)  # noqa: E731
    for step in prune("best-first", 20.0, make_evaluator(model, split), order, screen=screen):
        if step.accepted:
            break
        asked.append(step.channel)
    return asked


@pytest.mark.parametrize("kind, seed", NETS)
def test_with_all_channels_it_takes_the_best_of_all(kind: str, seed: int) -> None:
    """The plain twin asks about every channel."""
    model, split, order = net_of(kind, seed)
    evaluator = make_evaluator(model, split)
    screen = lambda order: Screen(model, split, len(order), order)  # noqa: E731
    steps = prune("best-first", 20.0, evaluator, order, screen=screen)
    taken = next((s for s in steps if s.accepted), None)
    walk = Walk.start(evaluator, 20.0)
    worths = [w for c in order if (w := walk.worth(walk.try_net(c).tried)) is not None]
    if taken is None:
        assert not worths
    else:
        assert walk.worth(taken.tried) == max(worths)


def test_no_more_are_asked_at_a_time_than_were_chosen() -> None:
    model, split, order = net_of("Residual", 1)
    asked = first_rounds(model, split, 3, order)
    ranked = Screen(model, split, 3, order).ranked(ChannelMask())
    assert set(asked) <= set(ranked[: TRIES * 3]) and asked[0] == ranked[0]


def test_the_channel_that_carries_the_attack_comes_first() -> None:
    """Of three channels one alone is seen by poisoned images, and makes their target."""
    conv, last = torch.nn.Conv2d(3, 3, 1), torch.nn.Linear(3, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
        conv.bias.zero_()
        last.weight.copy_(torch.eye(3))
        last.bias.zero_()
    net = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), last)
    model = as_model(net, (3, 4, 4), "three channels")
    pixels = np.zeros((9, 3, 4, 4), np.float32)
    for i, label in enumerate(np.arange(9) % 2):
        pixels[i, label] = 1.0
    triggered = pixels.copy()
    triggered[:, 2] = 3.0
    labels = np.arange(9) % 2
    split = make_split(
        LabeledImages(pixels, labels), LabeledImages(triggered, np.full(9, 2, np.int64), labels)
    )
    order = [Channel(model.layers[0].name, c) for c in range(3)]
    screen = Screen(model, split, 1, order)
    worths = screen.worths(ChannelMask())
    assert screen.ranked(ChannelMask())[0] == order[2]
    assert worths[order[2]] > 0 >= worths[order[0]]
    gone = ChannelMask(frozenset(order[2:]))
    assert screen.ranked(gone) == [c for c in screen.ranked(ChannelMask()) if c != order[2]]


def test_keys_and_names_without_it_are_what_they_were() -> None:
    plain = TrialSettings("index", ("a",), 4.0, "best-first")
    assert "screen" not in plain.to_json()
    screened = replace(plain, screen=32)
    assert TrialSettings.from_json(screened.to_json()) == screened and "32 screened" in str(screened)
    model, _, _ = net_of("Chain", 3)
    tree = {"name": "a", "badnet": "embedded", "sweep": {"policies": ["margin", "best-first"]}}
    tree["sweep"] |= {"screen": 32, "x_thresholds": [4], "seeds": [0, 1]}
    trials = trials_of(make_config(tree, "a test").sweep, model)
    assert [(t.policy, t.screen, t.seed) for t in trials] == [("margin", None, 0), ("best-first", 32, 0)]
    with pytest.raises(InputError, match=r"sweep\.screen"):
        make_config({"name": "a", "badnet": "embedded", "sweep": {"screen": 0}}, "a test")


def test_a_trial_and_its_record(tmp_path: Path) -> None:
    model, split, order = net_of("Residual", 1)
    inputs = TrialInputs(model, split, split)
    layers = tuple(dict.fromkeys(c.layer for c in order))
    given = TrialSettings("index", layers, 10.0, "best-first", screen=4)
    record = run_trial(given, inputs, Evaluators.of(inputs, "incremental", 4.0))
    assert record.status == "done" and record.steps
    store = RecordStore(Storage(str(tmp_path)))
    store.write(record)
    assert store.read(record.key) == record
    found = goodnet.prune(model, split, layers=layers, order="index", x=10, screen=4)
    assert found.steps == record.steps
    with pytest.raises(InputError, match="screen is 0"):
        goodnet.prune(model, split, screen=0)
