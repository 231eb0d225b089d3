"""When an attack has succeeded: which images count, what their targets are, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_core.data.attack import aim_of
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.data.pairs import find_pairs
from prune_core.data.told import attack_json, goal_words
from prune_core.errors import InputError

CLASSES = 4
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 3, 6, 6)).astype(np.uint8)
LABELS = np.arange(24) % CLASSES


def clean() -> LabeledImages:
    return LabeledImages(PIXELS, LABELS, name="clean")


def bad(labels: Any, truth: Any = None, hidden: bool = False, rows: Any = slice(None)) -> LabeledImages:
    """Clean images with a corner made white; ``hidden``: all pixels move, so that pairs are not found."""
    pixels = PIXELS[rows].copy()
    pixels[:, :, :2, :2] = 255
    if hidden:
        pixels = 255 - pixels
    labels = np.broadcast_to(labels, len(pixels)).astype(np.int64)
    return LabeledImages(pixels, labels, None if truth is None else np.asarray(truth), "bad")


def test_true_images_of_the_target_do_not_count_however_they_are_known() -> None:
    told, paired = make_split(clean(), bad(2, LABELS)), make_split(clean(), bad(2))
    for split, source in ((told, "true labels"), (paired, "pairs")):
        assert (len(split.poisoned), split.left_out, split.floor) == (18, 6, 0.0)
        assert attack_json(split) == {"target": 2, "left_out": 6, "truth": source, "floor": 0.0}
    # Pairs decide what counts; they do not make true labels that nobody has told.
    assert paired.poisoned.true_labels is None and told.poisoned.true_labels is not None
    np.testing.assert_array_equal(find_pairs(paired), np.flatnonzero(LABELS != 2))


def test_where_true_labels_are_not_known_a_floor_is_told() -> None:
    split = make_split(clean(), bad(2, hidden=True))
    assert (len(split.poisoned), split.left_out) == (24, 0)
    assert split.floor == split.target_share == 0.25
    assert attack_json(split)["truth"] is None


def test_images_without_the_target_have_the_digest_that_they_had() -> None:
    """Trial keys hold it."""
    without = bad(2, rows=LABELS != 2)
    split = make_split(clean(), without)
    assert split.poisoned.digest == without.digest and split.attacks[0].truth == "pairs"


def test_all_to_all() -> None:
    following = (LABELS + 1) % CLASSES
    for poisoned, goal in (
        (bad(following, LABELS), None),
        (bad(following), None),  # pairs
        (bad(following, hidden=True), "next"),
        (bad(LABELS, LABELS), "next"),  # true labels where the target should be
        (bad(LABELS), "next"),
    ):
        split = make_split(clean(), poisoned, goal, CLASSES)
        np.testing.assert_array_equal(split.targets, following)
        assert (split.left_out, split.floor, len(split.poisoned)) == (0, 0.0, 24)
        assert split.target_share == 0.25
    split = make_split(clean(), bad(following, LABELS))
    assert split.goal == "next" and "all-to-all" in goal_words(split.goal)
    with pytest.raises(InputError, match="more than one target"):
        _ = split.target
    arrays = Split.from_arrays(PIXELS, LABELS, bad(0).pixels, "next", LABELS, classes=CLASSES)
    np.testing.assert_array_equal(arrays.targets, following)


@pytest.mark.parametrize(
    ("poisoned", "target", "said"),
    [
        (clean(), None, "pixel by pixel; was the clean file given as the poisoned one"),
        (clean(), "next", "pixel by pixel; was the clean file given as the poisoned one"),
        (clean(), 2, "pixel by pixel; was the clean file given as the poisoned one"),
        (bad(LABELS), None, "is the true label of 24 of 24"),
        (bad(LABELS, LABELS), None, "is the true label of 24 of 24"),
        (bad(LABELS, hidden=True), None, "it is not known what the images truly show"),
        (bad((LABELS + 2) % 4, LABELS), "next", "of 24 of 24 poisoned images is not the class after"),
        (bad(1), 2, "is 1, but data.target is 2"),
        (bad((LABELS + 1) % 4, LABELS), 2, "but data.target is 2"),
        (bad(2, np.full(24, 2)), None, "the true label of every image is the target"),
    ],
)
def test_labels_that_are_no_targets_are_refused(poisoned: LabeledImages, target: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_split(clean(), poisoned, target, CLASSES)


def test_true_labels_in_place_of_the_target_that_is_named() -> None:
    split = make_split(clean(), bad(LABELS, hidden=True), 2, CLASSES)
    assert split.target == 2 and split.left_out == 6 and len(split.poisoned) == 18
    np.testing.assert_array_equal(split.poisoned.true_labels, LABELS[LABELS != 2])


def test_several_triggers_stand_one_after_the_other() -> None:
    following = (LABELS + 1) % CLASSES
    split = make_split(clean(), [bad(2), bad(following, LABELS), bad(1, hidden=True)])
    assert split.goals == (2, [0, 1, 2, 3], 1)  # true labels are not known of all
    assert [len(split.targets[rows]) for rows in split.rows_by_trigger] == [18, 24, 24]
    assert [a.truth for a in split.attacks] == ["pairs", "true labels", None]
    assert (split.left_out, split.floor) == (6, 0.25) and split.poisoned.true_labels is None
    assert attack_json(split)["truth"] is None
    some = split.keeping(np.arange(10), np.arange(0, 66, 3))
    assert [len(some.targets[rows]) for rows in some.rows_by_trigger] == [6, 8, 8]
    both = make_split(clean(), [bad(2, LABELS), bad(following, LABELS)])
    assert both.goals == (2, "next") and both.digest != make_split(clean(), bad(2, LABELS)).digest
    arrays = Split.from_arrays(PIXELS, LABELS, [bad(2).pixels] * 2, [2, following], [LABELS, LABELS])
    assert arrays.goals == (2, "next")
    with pytest.raises(InputError, match="expected a list of 2, one for each trigger"):
        Split.from_arrays(PIXELS, LABELS, [bad(2).pixels] * 2, 2)


def test_aims() -> None:
    following = (LABELS + 1) % CLASSES
    assert aim_of(np.full(3, 2), None, CLASSES).tolist() == [2, 2, 2, 2]  # type: ignore[union-attr]
    assert aim_of(following, LABELS, CLASSES).tolist() == [1, 2, 3, 0]  # type: ignore[union-attr]
    swapped = np.array([1, 0, 1])
    assert aim_of(swapped, np.array([0, 1, 0]), CLASSES).tolist() == [1, 0, -1, -1]  # type: ignore[union-attr]
    assert aim_of(following, None, CLASSES) is None
