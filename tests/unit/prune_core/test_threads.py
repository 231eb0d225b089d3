"""The number of threads: fixed where something trains or is put in an order, the caller's elsewhere."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prune_core import threads
from prune_core.baselines import BASELINES, AnpSettings, FinePruningSettings, RnpSettings
from prune_core.data.images import make_split, read_images
from prune_core.files.constants import weights_digest
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import load_model
from prune_core.orders import ORDERS, OrderInput, channel_order
from prune_core.repair.finetune import GENTLE, finetune
from prune_core.repair.nets import Given
from prune_core.repair.robust import ROBUST, finetune_robust
from prune_core.repair.scaling import ScalingSettings, scale_channels
from prune_core.threads import fixed_threads, steps_on_fixed_threads
from sweeps.inputs import embedded


@pytest.fixture(autouse=True)
def three() -> Iterator[int]:
    """Three threads, so that neither the fixed number nor the machine's own is taken for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_the_callers_number_is_given_back(three: int) -> None:
    with fixed_threads():
        assert torch.get_num_threads() == threads.THREADS
        with fixed_threads():
            pass
        assert torch.get_num_threads() == threads.THREADS
    assert torch.get_num_threads() == three
    with pytest.raises(ValueError), fixed_threads():
        raise ValueError
    assert torch.get_num_threads() == three


@steps_on_fixed_threads
def _numbers(until: int) -> Iterator[int]:
    for _ in range(until):
        yield torch.get_num_threads()
    raise ValueError("no more")


def test_between_two_results_it_is_the_callers(three: int) -> None:
    """Also when the generator breaks down, and when its caller has seen enough."""
    seen = []
    with pytest.raises(ValueError, match="no more"):
        for number in _numbers(2):
            seen += [number, torch.get_num_threads()]
    assert seen == [threads.THREADS, three] * 2 and torch.get_num_threads() == three
    left = _numbers(2)
    next(left)
    del left
    assert torch.get_num_threads() == three


def _shortened() -> None:
    """In a process of its own: seconds of each training, and every round of it is a result."""
    training = replace(embedded.SMOKE.training, epochs=1)
    embedded.SMOKE = replace(embedded.SMOKE, samples=(96, 60, 20), training=training)
    of = {name: importlib.import_module(f"prune_core.{name}") for name in SHORTER}
    for name, settings in SHORTER.items():
        for setting, value in settings.items():
            assert hasattr(of[name], setting)
            setattr(of[name], setting, value)


SHORTER: dict[str, dict[str, Any]] = {
    "repair.finetune": {"_not_beaten": lambda nets: list(range(len(nets)))},
    "baselines.fine_pruning": {"SHARES": (0.5,)},
    "baselines.neurons": {"EACH": 2, "GROWTH": 4},
    "orders.learned_mask": {"STEPS": 10},
    "orders.removals": {"COALITIONS": 1},
}


def _made(number: int, folder: Path) -> dict[str, str]:
    """What comes of everything that trains, and of every order, with so many threads set: digests."""
    _shortened()
    torch.set_num_threads(number)
    files = embedded.make_embedded(folder / str(number), smoke=True)
    model = load_model(files.badnet)
    split = make_split(read_images(files.clean_valid), read_images(files.poisoned_valid))
    layers = resolve_layer_set("last:2", model)
    kernels = {layer: np.asarray(kernel) for layer, kernel in model.kernels().items()}
    found = {"the embedded BadNet": weights_digest(kernels)}
    for name in ORDERS:
        found[name] = repr(channel_order(name, OrderInput.of(model, split, layers)))
    course = replace(GENTLE, rounds=1, batches=2)
    for repair in ("finetune", "finetune-margin", "unlearn"):
        for tuned in finetune(model, split, ChannelMask(), {}, repair, courses=[course]):
            found[f"{repair}, round {tuned.round}"] = weights_digest(tuned.weights)
    quick_course = replace(ROBUST, rounds=1, batches=2)
    for net in finetune_robust(Given(model, split), ChannelMask(), {}, course=quick_course):
        found[net.note] = weights_digest(net.weights)
    short = ScalingSettings(pressures=(0.1, 0.2), epochs=1)
    for state in scale_channels(model, split, layers, 0, short):
        found[f"scaling {state.stage}"] = weights_digest(state.weights)
    quick = {
        "baseline:fine-pruning": {"settings": FinePruningSettings(steps=2)},
        "baseline:anp": {"settings": AnpSettings(steps=2)},
        "baseline:rnp": {"settings": RnpSettings(epochs=2, recovering_epochs=2)},
        "baseline:clp": {},
    }
    for name, settings in quick.items():
        make = partial(BASELINES[name], **settings)
        for step, net in enumerate(make(Given(model, split), layers, lambda done, total, what: None)):
            found[f"{name} {step}"] = repr([sorted(net.mask), weights_digest(net.weights)])
    assert torch.get_num_threads() == number
    return found


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, at 1, 2 and 4 threads, each in a process of its own."""
    pytest.importorskip("sklearn", reason="the digits that are learnt come with goodnet[embedded]")
    found = []
    for number in (1, 2, 4):
        monkeypatch.setenv("OMP_NUM_THREADS", str(number))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(_made, number, tmp_path).result())
    one, two, four = found
    assert {"unlearn, round 1", "scaling 1", "baseline:fine-pruning 0", "learned-mask"} <= one.keys()
    assert two == one and four == one
