"""Answers that are looked up are those that would be worked out; what is shared and kept is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories import handed_out
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import made

from prune_core.counts import Ask, Counts
from prune_core.errors import InputError
from prune_core.evaluation.cached import Known, RememberingEvaluator
from prune_core.evaluation.evaluator import EVERYTHING, Evaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.registry import prune
from prune_core.rules import RULES
from sweeps.config.schema import ResourcesConfig
from sweeps.config.sweep import SweepConfig
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.grid import trials_of
from sweeps.records.settings import TrialSettings
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial

limits = st.one_of(st.none(), st.integers(0, 6))
asks = st.one_of(
    st.builds(Ask, st.booleans(), limits, limits),
    st.builds(Ask, st.booleans(), limits, st.none(), limits),
)


class Sizes:
    clean, poisoned = range(5), range(5)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.lists(asks, max_size=6), asks)
def test_what_is_known_answers_as_whole_counts_would(
    correct: int, attacked: int, agreeing: int, earlier: list[Ask], ask: Ask
) -> None:
    hidden = Counts(correct, 5, attacked, min(attacked, agreeing), 5, 1.5)
    known = Known()
    for before in earlier:
        known = known.learning(before, before.told(hidden))
    answer = known.answer(ask, Sizes)  # type: ignore[arg-type]
    assert answer is None or answer == ask.told(hidden)
    if ask in earlier:
        assert answer == ask.told(hidden)
    if Ask(margin=True) in earlier:
        assert answer is not None


class Counting:
    """An evaluator that counts its questions."""

    def __init__(self, inner: Evaluator) -> None:
        self.inner, self.split, self.asked = inner, inner.split, 0
        self.badnet, self.expect = inner.badnet, inner.expect

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        self.asked += 1
        return self.inner.counts(mask, ask)


@pytest.mark.parametrize("policy", sorted({*RULES, "seed"}))
@pytest.mark.parametrize("kind", ["Chain", pytest.param("Residual", marks=pytest.mark.slow)])
def test_walks_that_share_a_memory_are_those_of_separate_ones(policy: str, kind: str) -> None:
    """Longest first, so that others start on what it found and part somewhere."""
    model, split = made(kind, 2)
    order = [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)]
    memory = EvaluationCache("b", "s")
    shared = Counting(make_evaluator(model, split))
    plain = PlainEvaluator(model, split)
    alone = 0
    for x in (40.0, 10.0, 2.0):
        for length in (len(order), len(order) // 2):
            evaluator = RememberingEvaluator(split, lambda: shared, memory)
            steps = list(prune(policy, x, evaluator, order[:length]))
            separate = Counting(plain)
            assert steps == list(prune(policy, x, separate, order[:length]))
            alone += separate.asked
    assert shared.asked < alone / 2


@pytest.fixture
def inputs() -> TrialInputs:
    model, split = made("Chain", 2)
    return TrialInputs(model, split, replace(split, clean=split.clean.keeping(range(40))))


def settings_of(inputs: TrialInputs) -> list[TrialSettings]:
    grid = SweepConfig(
        orders=["index", "l1", "reverse-index"],
        layer_sets=["last:1", "last:2", "last:3"],
        x_thresholds=[2, 10, 40],
        policies=["margin"],
    )
    return trials_of(grid, inputs.model)


def test_a_shared_grid_has_the_records_of_separate_trials(inputs: TrialInputs, tmp_path: Path) -> None:
    trials = handed_out(settings_of(inputs))
    assert len(trials) == 27 and set(trials) == set(settings_of(inputs))
    storage = Storage(str(tmp_path))
    # A worker of its own for each trial, so that all they share is in the storage.
    together = [run_trial(s, inputs, evaluators(inputs, storage)) for s in trials]
    for trial, record in zip(trials, together, strict=True):
        alone = run_trial(trial, inputs, evaluators(inputs, None))
        assert alone.status == "done"
        assert replace(record, seconds=0.0) == replace(alone, seconds=0.0)


def evaluators(inputs: TrialInputs, storage: Storage | None) -> Evaluators:
    return Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb, storage)


def test_an_interrupted_trial_gets_back_by_looking_up(inputs: TrialInputs, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    settings = next(s for s in settings_of(inputs) if len(s.layers) == 3 and s.x == 40.0)
    whole = run_trial(settings, inputs, evaluators(inputs, None))
    seen = 0

    def interrupt(progress: object) -> None:
        nonlocal seen
        seen += 1
        if seen == len(whole.steps) - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(settings, inputs, evaluators(inputs, storage), interrupt)
    again = evaluators(inputs, storage)
    asked = Counting(make_evaluator(inputs.model, inputs.valid))
    again.valid.make = lambda: asked  # type: ignore[attr-defined]
    record = run_trial(settings, inputs, again)
    assert replace(record, seconds=0.0) == replace(whole, seconds=0.0)
    assert asked.asked <= 2 * 2  # two candidates, each asked once and once more when accepted


def test_a_trial_that_was_walked_before_runs_no_network(inputs: TrialInputs, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    settings = settings_of(inputs)[0]
    first = run_trial(settings, inputs, evaluators(inputs, storage))
    again = evaluators(inputs, storage)
    for evaluator in (again.valid, again.test):
        evaluator.make = forbidden  # type: ignore[attr-defined]
    second = run_trial(settings, inputs, again)
    assert replace(second, seconds=first.seconds) == first
    assert first.ran is not None and second.ran is not None
    assert first.ran.known < first.ran.asked and second.ran.known == second.ran.asked > 0


def forbidden() -> Evaluator:
    raise AssertionError("a network was run")


def test_evaluations_are_exchanged_tidied_and_survive_damage(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    a, b = EvaluationCache("badnet", "split", storage), EvaluationCache("badnet", "split", storage)
    other = EvaluationCache("badnet", "another split", storage)
    masks = [ChannelMask.of({"conv": [i]}) for i in range(3)]
    known = [
        Known(Counts(9, 10, 3, 2, 5, 1.25, recovered=1)),
        Known(Counts(9, 10, 3, 2, 5, None)),
        Known(None, 4, 1, 3, None, 2),
    ]
    for mask, what in zip(masks, known, strict=True):
        a.put(mask, what)
        a.exchange()
    folder = tmp_path / a.folder
    (folder / "damaged.parquet").write_bytes(b"PAR1 no")
    for _ in range(2):
        b.exchange()
        other.exchange()
        assert [b.get(mask) for mask in masks] == known
        assert [other.get(mask) for mask in masks] == [None] * 3
        b.tidy()
        assert len(list(folder.iterdir())) == 1
        b = EvaluationCache("badnet", "split", storage)


def test_a_storage_that_is_away_loses_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "there"))
    memory, mask = EvaluationCache("badnet", "split", storage), ChannelMask.of({"conv": [1]})
    memory.put(mask, Known(clean_below=3))
    (tmp_path / "there").write_text("in the way")
    memory.exchange()
    (tmp_path / "there").unlink()
    memory.exchange()
    later = EvaluationCache("badnet", "split", storage)
    later.exchange()
    assert later.get(mask) == Known(clean_below=3)


def test_what_an_evaluator_cannot_be_made_of_is_said_at_the_first_need() -> None:
    def refuse() -> Evaluator:
        raise InputError("no")

    evaluator = RememberingEvaluator(Sizes, refuse, EvaluationCache("b", "s"))  # type: ignore[arg-type]
    with pytest.raises(InputError):
        _ = evaluator.badnet
