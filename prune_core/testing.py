"""Does an order or a policy keep to what is expected of it? For tests of other people's; the built-in ones
are held to the same. Every check raises AssertionError with a line that says what is wrong.

Both work on a network of 15 channels and a few images, made on the spot: seconds are enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from prune_core.counts import Ask, Counts
from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import PrunableModel
from prune_core.orders import KnownOrder, OrderInput, rank
from prune_core.orders.given import Score
from prune_core.orders.registered import MOST_NEEDED, check_known, checked_scores
from prune_core.plugins import NEEDS
from prune_core.policies.registered import Walks, checked_steps
from prune_core.testing_net import LAYER_SET, images_for, tiny_net

X_TRIED = (0.0, 3.0, 20.0, 100.0)  # percentage points
MOST_STEPS = 10_000  # on 12 channels: by then a policy does not end


class Planned(Exception):
    """An error that a check has caused on purpose."""


def check_order(
    function: Score | KnownOrder,
    needs: str = MOST_NEEDED,
    scale: str | None = "common",
    chance: bool = False,
) -> None:
    """Whether an order is one: to be called in a test of yours.

    Checked: it returns finite scores for every layer of the set, so that ``NAME`` and ``across:NAME`` are
    permutations of the set's channels; the same seed gives the same order, whatever the state of global
    random generators, and without ``chance`` every seed does; it looks at nothing beyond ``needs``; it
    leaves network (weights, mode, gradients, hooks) and images as found, also when the network fails
    half-way.

    Args:
        function: the score, or a ``KnownOrder`` (then the other arguments are its own).
        needs, scale, chance: as of ``register_order``.

    Raises:
        AssertionError: one line that says what is wrong.
    """
    known = function if isinstance(function, KnownOrder) else KnownOrder(function, needs, scale, chance)  # type: ignore[arg-type]
    _refusing(lambda: check_known("the order", known))
    net, images = tiny_net(), images_for(known.needs)
    given = OrderInput(net, images.clean, images.poisoned, LAYER_SET, seed=3)
    with _left_as_found(net, "the order"):
        first = _ranked(known, given)
    for what, order in first.items():
        _permutation(what, order, LAYER_SET)
    for state in (1, 2):  # of generators that are not its own
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
        again = _ranked(known, OrderInput(net, images.clean, images.poisoned, LAYER_SET, seed=3))
        assert again == first, "the order is another one at a second call with the same seed"
    if not known.chance:
        other = _ranked(known, OrderInput(net, images.clean, images.poisoned, LAYER_SET, seed=4))
        assert other == first, "the order depends on the seed; declare chance=True"
    _keeps_to_its_needs(known, net, first)
    for call in range(1, 4):
        with _left_as_found(net, "the order, when the network fails half-way,"), _failing(net, call):
            try:
                _ranked(known, given)
            except Planned:
                continue
            except InputError as error:
                assert "planned" in str(error), f"the order fails: {error}"


def check_policy(walk: Walks) -> None:
    """Whether a policy is one: to be called in a test of yours.

    Checked, for several X: it ends; it yields ``PruneStep``, of channels of its order, each mask following
    from the one before; the counts of an accepted net are its own and within X; the same inputs give the
    same steps; an empty order gives none; network and evaluator's errors are left alone: the network is as
    found, and what an evaluator raises comes through.

    Args:
        walk: (evaluator, order, x) -> iterator of ``PruneStep``, as of ``register_policy``.

    Raises:
        AssertionError: one line that says what is wrong.
    """
    net = tiny_net()
    evaluator = _Remembered(net, images_for(MOST_NEEDED))
    order = [Channel(layer, k) for layer, channels in LAYER_SET for k in channels]
    for x in X_TRIED:
        with _left_as_found(net, "the policy"):
            first = _walked(walk, evaluator, order, x)
            again = _walked(walk, evaluator, order, x)
        assert first == again, f"the policy takes other steps at a second call (X = {x:g})"
    assert not _walked(walk, evaluator, [], 3.0), "the policy makes steps of an empty order"
    for call in range(1, 4):
        failing = _Failing(evaluator, call)
        with _left_as_found(net, "the policy, when the evaluator fails,"):
            try:
                for _ in walk(failing, order, 20.0):
                    pass
            except Planned:
                continue
        assert failing.asked < call, "the policy goes on after an error of the evaluator, and hides it"


def _ranked(known: KnownOrder, given: OrderInput) -> dict[str, list[Channel]]:
    try:
        scores = checked_scores("the order", known.score(given), given)
    except InputError as error:
        if "planned" in str(error):
            raise
        raise AssertionError(str(error)) from None
    found = {"the order": rank(scores, given.layer_set)}
    if known.scale is not None:
        found["the order across layers"] = rank(scores, given.layer_set, known.scale)
    return found


def _permutation(what: str, order: list[Channel], layer_set: LayerSet) -> None:
    wanted = sorted(Channel(layer, k) for layer, channels in layer_set for k in channels)
    assert sorted(order) == wanted, f"{what} is no permutation of the layer set's channels"


def _keeps_to_its_needs(known: KnownOrder, net: PrunableModel, first: dict[str, list[Channel]]) -> None:
    """What an order does not declare is taken away or changed; that must not change the order."""
    rank_of_need = NEEDS.index(known.needs)
    images = images_for(known.needs)
    clean, poisoned = images.clean, images.poisoned
    if rank_of_need < NEEDS.index("clean and poisoned images"):
        poisoned = None  # type: ignore[assignment]
    if rank_of_need < NEEDS.index("clean images"):
        clean = images_for("clean images", seed=9).clean
    try:
        found = _ranked(known, OrderInput(net, clean, poisoned, LAYER_SET, seed=3))
    except (InputError, AssertionError, AttributeError, TypeError) as error:
        raise AssertionError(
            f"the order needs more than {known.needs!r}, which it declares: {error}"
        ) from None
    assert found == first, f"the order looks at more than {known.needs!r}, which it declares"


def _walked(walk: Walks, evaluator: Any, order: Sequence[Channel], x: float) -> list[PruneStep]:
    steps = []
    try:
        for step in checked_steps("under test", walk, evaluator, order, x):
            steps.append(step)
            assert len(steps) < MOST_STEPS, f"the policy does not end (X = {x:g})"
    except InputError as error:
        raise AssertionError(str(error)) from None
    return steps


def _refusing(check: Callable[[], None]) -> None:
    try:
        check()
    except InputError as error:
        raise AssertionError(str(error)) from None


@contextmanager
def _failing(net: PrunableModel, call: int) -> Iterator[None]:
    """The last module of the network raises at its ``call``-th forward pass."""
    left = [call]

    def fail(*anything: Any) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Planned("planned")

    last = [n for n in net.graph.graph.nodes if n.op == "call_module"][-1]
    handle = net.graph.get_submodule(str(last.target)).register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


class _Remembered:
    """Whole counts of every net that was asked for, so that a second walk costs nothing."""

    def __init__(self, net: PrunableModel, split: Split) -> None:
        self.evaluator, self.split = PlainEvaluator(net, split), split
        self.known: dict[ChannelMask, Counts] = {}
        self.badnet = self.evaluator.badnet

    def counts(self, mask: ChannelMask, ask: Ask = Ask()) -> Counts:  # noqa: B008
        if mask not in self.known:
            self.known[mask] = self.evaluator.counts(mask)
        return ask.told(self.known[mask])

    def expect(self, mask: ChannelMask) -> None: ...


class _Failing:
    """An evaluator that raises at its ``call``-th question."""

    def __init__(self, evaluator: Evaluator, call: int) -> None:
        self.evaluator, self.call, self.asked = evaluator, call, 0
        self.badnet, self.split = evaluator.badnet, evaluator.split

    def counts(self, mask: ChannelMask, ask: Ask = Ask()) -> Counts:  # noqa: B008
        self.asked += 1
        if self.asked >= self.call:
            raise Planned("planned")
        return self.evaluator.counts(mask, ask)

    def expect(self, mask: ChannelMask) -> None: ...


@contextmanager
def _left_as_found(net: PrunableModel, who: str) -> Iterator[None]:
    before = _state(net)
    yield
    after = _state(net)
    for what in before:
        assert before[what] == after[what], f"{who} does not leave the network as found: {what}"


def _state(net: PrunableModel) -> dict[str, Any]:
    graph = net.graph
    modules = dict(graph.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    tensors = graph.state_dict()
    return {
        "its weights have changed": {n: t.detach().cpu().numpy().tobytes() for n, t in tensors.items()},
        "it is in another mode (training, evaluation)": {n: m.training for n, m in modules.items()},
        "parameters require gradients or have some": {
            n: (p.requires_grad, p.grad is None) for n, p in graph.named_parameters()
        },
        "hooks have stayed": {n: [len(getattr(m, h)) for h in hooks] for n, m in modules.items()},
        "its graph has changed": [(node.name, node.op, str(node.target)) for node in graph.graph.nodes],
    }
