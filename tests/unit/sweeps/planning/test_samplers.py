"""Samplers by name, and constraints, told to Optuna."""

from __future__ import annotations

import pytest

optuna = pytest.importorskip("optuna")

from factories import make_counts, make_record  # noqa: E402

from sweeps.config.constraint import Constraint, constraints_of, within  # noqa: E402
from sweeps.planning.objectives import objectives, violations_in  # noqa: E402
from sweeps.planning.optuna_queue import Study, Suggested  # noqa: E402
from sweeps.planning.search_space import SearchSpace  # noqa: E402

SPACE = SearchSpace(
    policies=("margin", "in-order"),
    repairs=("none",),
    layer_sets=(("a",), ("a", "b"), ("b",)),
    first_layers=(("a",), ("a",), ("b",)),
    orders=("index", "l1", "activation", "reverse-index"),
    seeds=(0,),
    x=(1.0, 2.0, 4.0, 8.0),
)


def found(settings, constraints=()):
    """Better with larger X, and where order is l1."""
    attacked = 500 - int(20 * settings.x) - 200 * (settings.order == "l1")
    return objectives(make_record(steps=((980 - int(settings.x), attacked),), settings=settings), constraints)


def searched(sampler: str, count: int, known=(), seed: int = 0, constraints=()):
    done = [(settings, found(settings, constraints)) for settings in known]
    study = Study(SPACE, seed, 6, done, sampler)
    queue = Suggested(study, count - len(done), list(known))
    given = list(known)
    while (settings := queue.next()) is not None:
        given.append(settings)
        queue.ended(settings, found(settings, constraints))
    return given, study


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_an_interrupted_search_makes_the_same_suggestions(sampler: str) -> None:
    count = 8 if sampler == "gp" else 24
    at_once, _ = searched(sampler, count)
    again, _ = searched(sampler, count, at_once[: count - 2])
    assert again == at_once and len(set(at_once)) == count


def test_seeds_and_samplers_make_other_searches() -> None:
    ours, tpe = searched("nsga2", 10)[0], searched("tpe", 10)[0]
    assert ours != tpe and ours != searched("nsga2", 10, seed=1)[0]


def test_generations_are_bred_in_turn() -> None:
    _, study = searched("nsga2", 24)
    generations = [
        value
        for trial in study.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        for name, value in trial.system_attrs.items()
        if name.endswith("generation")
    ]
    assert generations == sorted(generations) and generations[-1] == 3
    assert all(generations.count(n) == 6 for n in range(4))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_optuna_hears_of_constraints(sampler: str) -> None:
    constraints = constraints_of(["attack_success <= 0.5", "accuracy_drop <= 1.2"])
    first, _ = searched(sampler, 8, constraints=constraints)
    _, study = searched(sampler, 9, first, constraints=constraints)
    trials = study.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert len(trials) == 9
    for trial in trials:
        assert list(trial.constraints) == [
            "constraint: attack_success <= 0.5",
            "constraint: accuracy_drop <= 1.2",
        ]
        attack = trial.values[1]
        assert trial.constraints["constraint: attack_success <= 0.5"] == pytest.approx(attack - 0.5)


def test_a_trial_is_told_by_its_best_state_within_the_constraint() -> None:
    """BadNet: 990 of 1000 right. The second state has more of the hypervolume, and costs 3 points."""
    record = make_record(steps=((985, 200), (960, 10)))
    plain = objectives(record)
    assert plain == {"clean_accuracy": 0.96, "attack_success": 0.02}
    told = objectives(record, constraints_of(["accuracy_drop <= 1"]))
    assert (told["clean_accuracy"], told["attack_success"]) == (0.985, 0.4)
    assert violations_in(told) == {"constraint: accuracy_drop <= 1": pytest.approx(-0.005)}
    assert violations_in(plain) == {}
    # None is within: the one that misses least.
    far = objectives(record, constraints_of(["accuracy_drop <= 0.1"]))
    assert far["clean_accuracy"] == 0.985 and violations_in(far)["constraint: accuracy_drop <= 0.1"] > 0


def test_a_bound_belongs_to_what_is_within() -> None:
    badnet = make_counts(990, 500)
    for text, inside, outside in [
        ("attack_success <= 0.05", (900, 25), (900, 26)),
        ("clean_accuracy >= 0.95", (950, 500), (949, 500)),
        ("accuracy_drop <= 0.3", (987, 500), (986, 500)),
    ]:
        constraint = Constraint.read(text)
        assert str(constraint) == text
        assert within([constraint], make_counts(*inside), badnet), text
        assert not within([constraint], make_counts(*outside), badnet), text
    fine = Constraint.read("clean_accuracy >= 0.99999999")  # in the configuration that is kept too
    assert (
        Constraint.read(str(fine)) == fine
        and Constraint.read(str(Constraint.read("accuracy_drop <= 2.0"))).bound == 2
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("attack_success", "expected a metric, <= or >= and a number"),
        ("attack_succes <= 0.1", "did you mean 'attack_success'"),
        ("loss <= 0.1", "known: attack_success, clean_accuracy, accuracy_drop"),
        ("attack_success < 0.1", "expected attack_success <= a number"),
        ("clean_accuracy <= 0.1", "expected clean_accuracy >= a number"),
        ("attack_success <= 5", "a fraction from 0 to 1"),
        ("attack_success <= nan", "a fraction from 0 to 1"),
        ("accuracy_drop <= 5%", "percentage points from 0 to 100"),
        ("accuracy_drop <= -1", "percentage points from 0 to 100"),
        ("attack_success <= 0.1 <= 0.2", "expected a metric"),
    ],
)
def test_a_constraint_that_is_none_says_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ValueError) as error:
        Constraint.read(text)
    assert words in str(error.value) and "\n" not in str(error.value)
