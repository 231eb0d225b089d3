"""Repairs after pruning: what is held, what is looked at, what comes out, on a planted backdoor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.files.constants import weights_digest
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of, student_of
from prune_core.repair.augment import blended, varied
from prune_core.repair.finetune import (
    TunedNet,
    aims_of,
    finetune,
    kept_apart,
    trained_parameters,
    worst_rate,
)
from prune_core.repair.lesson import BATCHES, Copies, Course
from prune_core.repair.losses import agreement, image_tensor, logits_of

# Big steps, that something happens at once.
QUICK = Course("quick", rounds=3, batches=5, batch=32, learning_rate=0.01, pressure=1.0, size=0.3, truth=0.3)
REPAIRS = ("finetune", "finetune-margin", "unlearn")
NONE = ChannelMask()


def tuned(
    model: PrunableModel,
    repair: str,
    mask: ChannelMask = NONE,
    split: Split | None = None,
    seed: int = 0,
    course: Course = QUICK,
) -> list[TunedNet]:
    return finetune(model, split or small_split(1), mask, {}, repair, seed, [course])


@pytest.fixture
def every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a round does, it is a result: for tests of the training, not of the choice."""
    monkeypatch.setattr("prune_core.repair.finetune._not_beaten", lambda nets: list(range(len(nets))))


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("keep_bias", [False, True])
def test_pruned_channels_stay_zero(tmp_path: Path, repair: str, keep_bias: bool) -> None:
    """In the weights that come out, not only under the mask; with keep_bias the bias may stay."""
    model = small_badnet(tmp_path)
    mask = ChannelMask.of({"c2": [1, TRIGGER_CHANNEL], "c1": [2]}, keep_bias)
    trained = [net for net in tuned(model, repair, mask) if net.round]
    assert trained
    for net in trained:
        made = model.with_weights(net.weights)
        for layer, rows in mask.by_layer().items():
            assert not made.kernels()[layer][rows].any()
            bias = made.conv(made.layer(layer)).bias
            assert bias is not None
            assert keep_bias or not bias[rows].any()
        others = [c for c in range(5) if c not in (1, TRIGGER_CHANNEL)]
        assert (made.kernels()["c2"][others] != model.kernels()["c2"][others]).any()


@pytest.mark.parametrize("repair", REPAIRS)
def test_the_last_layer_is_never_trained_and_the_badnet_is_left_alone(tmp_path: Path, repair: str) -> None:
    model = small_badnet(tmp_path)
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    for net in tuned(model, repair):
        assert not {"out/kernel", "out/bias"} & net.weights.keys()
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before
    assert not any(p.requires_grad for p in model.graph.parameters())


def test_what_is_trained(tmp_path: Path) -> None:
    student = student_of(small_badnet(tmp_path))
    assert [p.name for p in trained_parameters(student)] == [
        f"{layer}/{role}" for layer in ("c2", "hidden") for role in ("kernel", "bias")
    ]


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("repair", REPAIRS)
def test_a_seed_repeats(tmp_path: Path, repair: str) -> None:
    model = small_badnet(tmp_path)
    some = {seed: [weights_digest(n.weights) for n in tuned(model, repair, seed=seed)] for seed in (0, 1)}
    assert some[0] == [weights_digest(n.weights) for n in tuned(model, repair, seed=0)]
    assert some[0] != some[1]


@pytest.mark.usefixtures("every_round")
def test_what_each_repair_looks_at(tmp_path: Path) -> None:
    """finetune trains on no poisoned image, finetune-margin on no true label; unlearn on both."""
    model = small_badnet(tmp_path)
    split = small_split(1)
    poisoned = split.poisoned
    assert poisoned.true_labels is not None
    other_pixels = replace(split, poisoned=replace(poisoned, pixels=poisoned.pixels[::-1].copy()))
    other_truth = replace(split, poisoned=replace(poisoned, true_labels=(poisoned.true_labels + 1) % 3))

    def trained(repair: str, images: Split) -> dict[int, str]:
        return {n.round: weights_digest(n.weights) for n in tuned(model, repair, split=images)}

    def same(repair: str, images: Split) -> bool:
        one, other = trained(repair, split), trained(repair, images)
        assert len(set(one.values())) == QUICK.rounds + 1
        return one == other

    assert same("finetune", other_pixels) and same("finetune", other_truth)
    assert not same("finetune-margin", other_pixels) and same("finetune-margin", other_truth)
    assert not same("unlearn", other_truth)


def test_margin_and_truth_disarm_what_pruning_left(tmp_path: Path) -> None:
    """From the BadNet itself, attacked on every image: the hinge takes the target away, and with
    true labels the right class comes back; on images that were not trained on."""
    model, test = small_badnet(tmp_path), small_split(2)
    course = replace(QUICK, rounds=6, batches=10)
    found = {}
    for repair in ("finetune-margin", "unlearn"):
        best = tuned(model, repair, course=course)[-1]
        found[repair] = PlainEvaluator(model.with_weights(best.weights), test).badnet
        assert found[repair].attack_success < 0.1 and found[repair].clean_accuracy > 0.9
    assert found["unlearn"].recovered_accuracy is not None
    assert found["unlearn"].recovered_accuracy > 0.8


def test_results_are_those_that_no_round_beats_and_the_best_balanced_is_last(tmp_path: Path) -> None:
    nets = tuned(small_badnet(tmp_path), "unlearn")
    assert [n.balance for n in nets] == sorted(n.balance for n in nets)
    for net in nets:
        assert not any(
            o.agreement >= net.agreement
            and o.attack_success <= net.attack_success
            and (o.agreement, o.attack_success) != (net.agreement, net.attack_success)
            for o in nets
        )


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    """A learning rate of 0 changes nothing, so the start is the result, after ``patience`` rounds."""
    told: list[tuple[int, int]] = []
    nets = finetune(
        small_badnet(tmp_path),
        small_split(1),
        NONE,
        {},
        "finetune",
        0,
        [replace(QUICK, learning_rate=0.0, rounds=9, patience=2)] * 2,
        lambda *of: told.append(of),
    )
    assert [(n.round, dict(n.weights)) for n in nets] == [(0, {})]
    assert told == [(1, 18), (2, 18), (10, 18), (11, 18)]


def test_courses_start_from_the_same_net(tmp_path: Path, every_round: None) -> None:
    """What a course comes to does not depend on those before it; the start is a result once."""
    model, split = small_badnet(tmp_path), small_split(1)
    mild = replace(QUICK, name="mild", learning_rate=0.001)
    both = finetune(model, split, NONE, {}, "finetune", 0, [mild, QUICK])
    alone = [n for course in (mild, QUICK) for n in finetune(model, split, NONE, {}, "finetune", 0, [course])]

    def found(nets: list[TunedNet]) -> set[tuple[str, int, str]]:
        return {(n.course, n.round, weights_digest(n.weights)) for n in nets if n.round}

    assert found(both) == found(alone) and len(found(both)) == 2 * QUICK.rounds
    assert [n.course for n in both if not n.round] == ["mild"]


def test_a_course_is_left_where_the_attack_does_not_fall_and_the_next_left_out_where_it_is_gone(
    tmp_path: Path,
) -> None:
    """By intervals of the images kept apart: the BadNet's attack of 1.0 stays under steps of no size."""
    model, split = small_badnet(tmp_path), small_split(1)

    def told(*courses: Course, mask: ChannelMask = NONE) -> list[tuple[int, int]]:
        of: list[tuple[int, int]] = []
        finetune(model, split, mask, {}, "finetune", 0, courses, lambda *now: of.append(now))
        return of

    idle = replace(QUICK, learning_rate=0.0, rounds=6, patience=5)
    assert told(idle, idle) == [(n, 12) for n in (1, 2, 3, 7, 8, 9, 10, 11)]
    gone = ChannelMask.of({"c2": [TRIGGER_CHANNEL]})
    assert told(idle, idle, mask=gone) == [(n, 12) for n in (1, 2, 3, 4, 5)]


def test_the_badnet_is_asked_once_for_each_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch comes again as it was, with what the BadNet says to it; each image comes equally often."""
    model = small_badnet(tmp_path)
    clean = image_tensor(small_split(1).clean, model.device)
    copies, asked = Copies(model, clean, 32, 0.3, seed=0), []
    monkeypatch.setattr(
        "prune_core.repair.lesson.logits_of", lambda *given: asked.append(given) or logits_of(*given)
    )
    plain, seen, answers = copies.batch(1)
    again = copies.batch(1 + BATCHES)
    assert len(asked) == 1 and torch.equal(again[1], seen)
    assert torch.equal(answers, logits_of(model, seen, 32)) and not torch.equal(plain, seen)
    assert not torch.equal(copies.batch(2)[1], seen)
    assert sorted(torch.cat(copies.rows[:3]).tolist()) == list(range(96))


def test_agreement() -> None:
    """By hand: (1/2, 1/2) and (3/4, 1/4) share 3/4, equal ones all, certain and different ones none."""
    one = torch.tensor([[0.0, 0.0], [5.0, 1.0], [100.0, 0.0]])
    two = torch.tensor([[float(np.log(3)), 0.0], [5.0, 1.0], [0.0, 100.0]])
    assert agreement(one, two) == pytest.approx((0.75 + 1 + 0) / 3) == pytest.approx(agreement(two, one))


def test_kept_apart() -> None:
    train, apart = kept_apart(10, 0.2, torch.Generator().manual_seed(0))
    assert len(apart) == 2 and sorted([*train, *apart]) == list(range(10))
    with pytest.raises(InputError, match="4 images are too few for a hold-out of 20%"):
        kept_apart(4, 0.2, torch.Generator())


@pytest.mark.parametrize(
    ("repair", "says"),
    [
        ("unlearn", "unlearn needs the true labels of poisoned images, and poisoned-1 has no field"),
        (
            "heal",
            "repair 'heal' is unknown; expected one of finetune, finetune-robust, finetune-margin, unlearn",
        ),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, repair: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        tuned(small_badnet(tmp_path), repair, split=small_split(1, truth=False))


def test_varied_copies() -> None:
    """Within the span of the originals, changed, the same by the same generator; blends keep the
    larger part of their own image, and a share of none blends none."""
    pixels = torch.from_numpy(small_split(1).clean.pixels[:8])
    span = (float(pixels.min()), float(pixels.max()))
    one, two = (varied(pixels, torch.Generator().manual_seed(5), span) for _ in range(2))
    assert torch.equal(one, two) and one.shape == pixels.shape
    assert not torch.equal(one, pixels)
    assert span[0] <= float(one.min()) and float(one.max()) <= span[1]
    assert torch.equal(blended(pixels, torch.Generator(), 0.0), pixels)
    identity = torch.eye(8).reshape(8, 8, 1, 1)
    parts = blended(identity, torch.Generator().manual_seed(0), 1.0).reshape(8, 8)
    assert (parts.diag() >= 0.5).all() and torch.allclose(parts.sum(1), torch.ones(8))
    assert (np.count_nonzero(parts.numpy(), axis=1) <= 2).all() and (parts.diag() < 1).any()


def with_targets(split: Split, targets: np.ndarray, truth: bool = True) -> Split:
    poisoned = replace(split.poisoned, labels=targets)
    return replace(split, poisoned=poisoned if truth else replace(poisoned, true_labels=None))


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("repair", REPAIRS)
def test_targets_given_for_each_image_train_as_the_one_target_does(tmp_path: Path, repair: str) -> None:
    """Two triggers whose images all aim at one class are one aim; and another target is another lesson."""
    model, split = small_badnet(tmp_path), small_split(1)
    half = (np.arange(len(split.poisoned)) % 2).astype(np.int64)
    marked = replace(split, poisoned=replace(split.poisoned, triggers=half))
    following = with_targets(split, (np.asarray(split.poisoned.true_labels) + 1) % 4)
    one, same, other = (
        {net.round: weights_digest(net.weights) for net in tuned(model, repair, split=s)}
        for s in (split, marked, following)
    )
    assert one == same and other[1] != one[1]


def test_finetune_needs_to_know_who_aims_where(tmp_path: Path) -> None:
    model, split = small_badnet(tmp_path), small_split(1)
    targets = np.arange(len(split.poisoned)) % 4
    with pytest.raises(InputError, match="which class the attacker wants of which.*'true_label'; add it"):
        tuned(model, "finetune", split=with_targets(split, targets, truth=False))
    truth = np.asarray(split.poisoned.true_labels)
    (aim,) = aims_of(with_targets(split, (truth + 1) % 4), 4)
    assert aim.tolist() == [1, 2, 3, 0]
    (partly,) = aims_of(with_targets(split, np.where(truth == 0, 2, 1)), 4)
    assert partly.tolist() == [2, 1, 1, -1]  # no poisoned image truly shows 3
    assert tuned(model, "finetune", split=with_targets(split, np.where(truth == 0, 2, 1)))


def test_the_worst_trigger_chooses_the_round(tmp_path: Path) -> None:
    model, split = small_badnet(tmp_path), small_split(1)
    said = PlainEvaluator(model, split).badnet_classes
    targets = np.where(np.arange(len(said)) % 2, said, (said + 1) % 4)  # every other attack fails
    marked = replace(split.poisoned, labels=targets, triggers=(np.arange(len(said)) % 2).astype(np.int64))
    assert worst_rate(model, marked) == 1.0
    assert worst_rate(model, replace(marked, triggers=None)) == pytest.approx(0.5, abs=0.02)
