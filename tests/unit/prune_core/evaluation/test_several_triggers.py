"""Several targets and triggers: both evaluators, the cache and a plain loop of PyTorch count the same."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import made, random_masks

import goodnet
from prune_core.counts import Ask, Counts, TriggerCounts
from prune_core.data.images import LabeledImages, Split
from prune_core.evaluation.cached import Known, RememberingEvaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.export.n_plus_one import count_goodnet
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.policies.registry import POLICIES, prune
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records.settings import TrialSettings
from sweeps.results import measured_frontier
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.tracking.trial_files import stepped_metrics
from sweeps.trial import run_trial


def several(kind: str = "Residual", seed: int = 0) -> tuple[PrunableModel, Split]:
    """A net and a split of three triggers: two with one target, one with a target for every image, which
    the net likes to give."""
    model, split = made(kind, seed)
    pixels = split.poisoned.pixels
    third = len(pixels) // 3
    with torch.no_grad():
        logits = model.logits(torch.from_numpy(split.poisoned.floats(0, len(pixels))))
    liked, second = logits.topk(2, dim=1).indices.T.numpy()
    classes = logits.shape[1]
    labels = np.where(np.arange(len(pixels)) % 3, liked, second)
    for part in (slice(0, third), slice(third, 2 * third)):
        shares = np.bincount(liked[part], minlength=classes) / third
        labels[part] = np.abs(shares - 0.4).argmin()
    truth = (labels + 1) % classes
    poisoned = LabeledImages(pixels, labels, truth, "bad", split.poisoned.preprocessing)
    numbers = np.minimum(np.arange(len(pixels)) // third, 2)
    return model, Split(split.clean, replace(poisoned, triggers=numbers))


def by_hand(model: PrunableModel, split: Split, mask: ChannelMask, badnet: np.ndarray) -> Counts:
    """A loop over images, in PyTorch; no margins."""
    with model.pruned(mask) as net, torch.no_grad():
        clean, poisoned = (
            net.logits(torch.from_numpy(i.floats(0, len(i)))).argmax(dim=1).tolist()
            for i in (split.clean, split.poisoned)
        )
    right = sum(a == b for a, b in zip(clean, split.clean.labels, strict=True))
    assert split.poisoned.triggers is not None and split.poisoned.true_labels is not None
    each = []
    for trigger in range(3):
        hits = agreeing = total = recovered = 0
        for said, before, target, truth, number in zip(
            poisoned,
            badnet,
            split.poisoned.labels,
            split.poisoned.true_labels,
            split.poisoned.triggers,
            strict=True,
        ):
            if number == trigger:
                total += 1
                hits += said == target
                agreeing += said == target == before
                recovered += said == truth
        each.append(TriggerCounts(hits, int(agreeing), total, None, int(recovered)))
    return Counts.of(right, len(clean), each)


@pytest.mark.parametrize("keep_bias", [False, True])
@pytest.mark.parametrize("kind", ["Chain", "Residual"])
def test_every_evaluator_counts_as_a_plain_loop(kind: str, keep_bias: bool, tmp_path: Path) -> None:
    model, split = several(kind)
    plain, fast = PlainEvaluator(model, split), make_evaluator(model, split)
    assert plain.badnet == fast.badnet and plain.margin_units == fast.margin_units
    memory = EvaluationCache("badnet", "split", Storage(str(tmp_path)))
    remembering = RememberingEvaluator(split, lambda: fast, memory)
    seen = set()
    masks = list(random_masks(model, 1, keep_bias))
    for mask in masks:
        found = plain.counts(mask)
        assert found.without_margin() == by_hand(model, split, mask, plain.badnet_classes)
        assert fast.counts(mask) == found == remembering.counts(mask)
        assert fast.counts(mask, Ask(margin=False)) == plain.counts(mask, Ask(margin=False))
        limit = Ask(margin=False, attacked=found.in_all.attacked)
        refused = plain.counts(mask, limit)
        assert refused == fast.counts(mask, limit) and not refused.complete
        seen.add((found.worst, found.attacked))
    assert len(seen) > 1
    memory.exchange()
    again = EvaluationCache("badnet", "split", Storage(str(tmp_path)))
    again.exchange()
    assert [again.get(mask).counts for mask in masks] == [plain.counts(m) for m in masks]  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", POLICIES)
def test_walks_are_the_same_with_both_evaluators(policy: str) -> None:
    """And judge by every trigger: what is given back lets none gain."""
    model, split = several("Chain")
    order = [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)]
    plain, fast = PlainEvaluator(model, split), make_evaluator(model, split)
    steps = list(prune(policy, 20.0, plain, order))
    assert steps == list(prune(policy, 20.0, fast, order))
    assert any(step.accepted for step in steps)
    before = plain.badnet
    for step in steps:
        if step.accepted and step.returned == step.channel:
            assert step.now.no_trigger_gains(before)
        before = step.now


def test_one_trigger_in_the_form_of_several_counts_as_ever() -> None:
    model, split = made("Residual", 3)
    marked = replace(split.poisoned, triggers=np.zeros(len(split.poisoned), np.int64))
    for mask in random_masks(model, 2, False):
        one = PlainEvaluator(model, split).counts(mask)
        assert PlainEvaluator(model, Split(split.clean, marked)).counts(mask) == one and not one.triggers
        assert make_evaluator(model, Split(split.clean, marked)).counts(mask) == one


def test_a_record_of_several_triggers_is_read_back(tmp_path: Path) -> None:
    """Refused candidates too, whose bounds are over the images of all triggers."""
    model, split = several("Chain")
    inputs = TrialInputs(model, split, split)
    store = RecordStore(Storage(str(tmp_path)))
    refused = 0
    for policy in ("attack-success", "best-first"):
        settings = TrialSettings("index", tuple(la.name for la in model.layers), 20.0, policy)
        record = run_trial(settings, inputs, Evaluators.of(inputs, "incremental", 4.0, None))
        assert record.status == "done" and record.badnet_valid and record.valid and record.test
        assert len(record.badnet_valid.triggers) == 3
        assert record.test.without_margin() == record.valid.without_margin()
        store.write(record)
        assert store.read(record.key) == record
        refused += sum(not step.tried.complete for step in record.steps)
        assert "attack_success_trigger_2" in str(stepped_metrics(record))
        frontier = measured_frontier(store.storage, "s", [record], lambda state: state.counts, 0.0)
        kept = store.storage.read_bytes("sweeps/s.frontier.parquet")
        again = measured_frontier(store.storage, "s", [record], lambda state: state.counts, 0.0)
        assert again == frontier and store.storage.read_bytes("sweeps/s.frontier.parquet") == kept
    assert refused


def test_the_net_of_n_plus_one_classes_tells_of_every_trigger() -> None:
    model, split = several("Chain")
    mask = next(iter(random_masks(model, 4, False)))
    badnet = PlainEvaluator(model, split)
    with model.pruned(mask) as pruned:
        found = count_goodnet(badnet, PlainEvaluator(pruned, split))
        after = PlainEvaluator(pruned, split).badnet_classes
    same = badnet.badnet_classes == after
    for (attacked, detected, total), rows in zip(found.triggers, split.rows_by_trigger, strict=True):
        assert attacked == int((same & (after == split.targets))[rows].sum())
        assert (detected, total) == (int((~same)[rows].sum()), len(after[rows]))
    assert found.attacked / found.poisoned_total == max(a / t for a, _, t in found.triggers)


small = st.builds(
    lambda hits, agreeing, rest, margin: TriggerCounts(
        hits, min(hits, agreeing), max(1, hits + rest), margin, None
    ),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(-8, 8).map(lambda n: n / 4)),
)
limits = st.one_of(st.none(), st.integers(0, 12))
asks = st.one_of(
    st.builds(Ask, st.booleans(), limits, limits),
    st.builds(Ask, st.booleans(), limits, st.none(), limits),
)


class Sizes:
    def __init__(self, counts: Counts) -> None:
        self.clean, self.poisoned = range(counts.clean_total), range(counts.in_all.poisoned_total)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 5), st.lists(small, min_size=2, max_size=3), st.lists(asks, max_size=4), asks)
def test_the_worst_stands_first_and_what_is_known_answers_as_whole_counts(
    correct: int, each: list[TriggerCounts], earlier: list[Ask], ask: Ask
) -> None:
    each = [replace(t, margin=1.0 if t.margin is None else t.margin) for t in each]
    hidden = Counts.of(correct, 5, each)
    rates = [Fraction(t.attacked, t.poisoned_total) for t in each]
    assert Fraction(hidden.attacked, hidden.poisoned_total) == max(rates)
    assert hidden.worst == rates.index(max(rates))
    assert Counts.from_json(hidden.to_json()) == hidden
    known = Known()
    for before in earlier:
        known = known.learning(before, before.told(hidden))
    answer = known.answer(ask, Sizes(hidden))  # type: ignore[arg-type]
    assert answer is None or answer == ask.told(hidden)
    if ask in earlier:
        assert answer == ask.told(hidden)


def test_counts_that_are_not_of_the_worst_are_refused() -> None:
    good = Counts.of(1, 2, [TriggerCounts(1, 0, 4), TriggerCounts(3, 3, 4)])
    assert (good.attacked, good.attack_success, good.worst) == (3, 0.75, 1)
    value = good.to_json()
    value["attacked"] = 1
    with pytest.raises(ValueError, match="worst"):
        Counts.from_json(value)


def test_every_file_of_a_goodnet_is_measured_trigger_by_trigger(tmp_path: Path) -> None:
    """``save`` measures each file again, the compacted and the N+1-class one too; it raises otherwise."""
    model, split = several("Chain")
    result = goodnet.prune(model, split, layers="last:2", order="activation-gap", policy="margin", x=20.0)
    assert result.steps and len(result.counts.triggers) == 3
    assert result.counts == PlainEvaluator(model, split).counts(result.mask)
    files = result.save(tmp_path / "mine")
    assert {"onnx", "small-onnx", "goodnet-onnx", "safetensors"} <= files.keys()
    for row in result.frontier():
        assert row["attack_success"] == max(t["attack_success"] for t in row["triggers"])
