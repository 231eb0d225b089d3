"""The policy that finds a prefix by halving, against looking at each one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core.counts import Ask, Counts, exact_points
from prune_core.evaluation.evaluator import EVERYTHING
from prune_core.evaluators import make_evaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.methods import method_of
from prune_core.policies.prefix import FILL, NEAR, prefix_of
from prune_core.policies.registry import prune
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records.settings import TrialSettings
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial
from tests.nets.networks import made

TOTAL = 1000


@dataclass
class Line:
    """Prefix k of the order has ``right[k]`` clean images right and ``attacked[k]`` attacked."""

    right: list[int]
    attacked: list[int]
    asked: list[int] = field(default_factory=list)

    @property
    def order(self) -> list[Channel]:
        return [Channel("a", i) for i in range(len(self.right) - 1)]

    @property
    def badnet(self) -> Counts:
        return self.at(0)

    def at(self, size: int) -> Counts:
        return Counts(self.right[size], TOTAL, self.attacked[size], self.attacked[size], TOTAL, 0.0)

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        assert mask.channels == frozenset(self.order[: len(mask)])
        self.asked.append(len(mask))
        return ask.told(self.at(len(mask)))

    def expect(self, mask: ChannelMask) -> None: ...


falls = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@st.composite
def lines(draw: st.DrawFn, falling: bool) -> Line:
    lost, won = draw(falls), draw(st.lists(st.integers(0, 60), min_size=60, max_size=60))
    right, attacked = [TOTAL], [TOTAL]
    for fall, weaker in zip(lost, won, strict=False):
        back = 0 if falling else draw(st.integers(0, 40))
        right.append(min(TOTAL, max(0, right[-1] - fall + back)))
        attacked.append(max(0, attacked[-1] - weaker))
    return Line(right, attacked)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(line=lines(falling=True), x=st.sampled_from([0, 0.5, 4, 10, 100]))
def test_it_ends_where_in_order_ends_when_all_only_falls(line: Line, x: float) -> None:
    plain = list(prune("in-order", x, line, line.order))
    line.asked.clear()
    steps = list(prune("prefix", x, line, line.order))
    assert steps[-1].mask == plain[-1].mask and steps[-1].now.with_margins_of(plain[-1].now) == plain[-1].now
    assert len(line.asked) == len(set(line.asked)), "nothing is asked twice"
    assert len(line.asked) <= 2 * len(line.order).bit_length() + 1 + FILL


@settings(max_examples=60, deadline=None, derandomize=True)
@given(line=lines(falling=False), x=st.sampled_from([0, 1, 4]))
def test_every_state_is_within_the_bound_and_counted(line: Line, x: float) -> None:
    for step in prune("prefix", x, line, line.order):
        size = len(prefix_of(line.order, step))
        assert step.tried == line.at(size) and step.now == line.at(len(step.mask))
        within = line.at(size).clean_accuracy_fell(since=line.badnet) <= exact_points(x)
        assert step.accepted == within and (step.mask == prefix_of(line.order, step) or not within)
        assert step.now.clean_accuracy_fell(since=line.badnet) <= exact_points(x)


def test_many_channels_cost_few_questions_and_the_frontier_is_filled() -> None:
    size = 4800
    line = Line([TOTAL - i // 100 for i in range(size + 1)], [TOTAL - i // 5 for i in range(size + 1)])
    steps = list(prune("prefix", 4.0, line, line.order))
    assert len(steps[-1].mask) == 4099 and steps[-1].now.clean_correct == 960
    assert len(line.asked) <= 25 + FILL
    shown = sorted(line.attacked[k] / 10 for k in {0, *line.asked} if k <= 4099)
    assert max(b - a for a, b in pairwise(shown)) < 10 and NEAR < 10


def test_on_networks_it_ends_where_looking_at_every_prefix_ends() -> None:
    falling = 0
    for kind, seed in product(("Chain", "Residual", "Fork"), range(3)):
        model, split = made(kind, seed)
        evaluator, plain = make_evaluator(model, split), make_evaluator(model, split, "plain")
        order = [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)][:10]
        every = [plain.counts(ChannelMask(frozenset(order[:k]))) for k in range(len(order) + 1)]
        pairs = list(pairwise(every))
        if any(b.clean_correct > a.clean_correct or b.attacked > a.attacked for a, b in pairs):
            continue
        for x in (2, 10, 40):
            ended = [c.clean_accuracy_fell(since=every[0]) > x for c in every]
            first = next((k for k, c in enumerate(every) if k and (ended[k] or not c.attacked)), len(order))
            *_, last = prune("prefix", x, evaluator, order)
            expected = first - ended[first]
            assert len(last.mask) == expected and last.now == every[expected]
            falling += 0 < expected < len(order)
    assert falling >= 2


def test_a_record_tells_of_each_prefix(tmp_path: Path) -> None:
    model, split = made("Residual", 1)
    inputs = TrialInputs(model, split, split)
    evaluators = Evaluators.of(inputs, "incremental", 4.0)
    layers = tuple(la.name for la in model.layers[1:])
    given = TrialSettings("index", layers, 10.0, "prefix")
    record = run_trial(given, inputs, evaluators)
    assert record.status == "done" and not record.steps and record.nets
    assert all("prefixes between those asked are unknown" in net.note for net in record.nets)
    for net in record.nets:
        assert net.counts == evaluators.valid.counts(net.mask) and net.digest is None
    plain = run_trial(TrialSettings("index", layers, 10.0, "in-order"), inputs, evaluators)
    within = [net.mask for net in record.nets if net.accepted]
    assert record.mask == within[-1] and len(within[-1]) >= 1 and plain.mask.channels
    store = RecordStore(Storage(str(tmp_path)))
    store.write(record)
    assert store.read(record.key) == record and record.states()[-1].weights is None


def test_it_is_pruning_that_walks_an_order() -> None:
    assert method_of("prefix").kind == "pruning" and method_of("prefix").ordered
