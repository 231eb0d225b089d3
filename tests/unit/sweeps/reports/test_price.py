"""What a GoodNet costs against the BadNet, worked by hand."""

from __future__ import annotations

import numpy as np
from factories import make_counts

from sweeps.reports.price import class_lines, losing_classes, price, price_words, prices


def test_the_price_of_a_split() -> None:
    found = price(make_counts(390, clean_total=400), make_counts(375, clean_total=400))
    assert found == {"lost": 15, "images": 400, "points": 3.75}
    assert price_words(found) == "3.75 points below the BadNet's (15 of 400 images)"
    won = price(make_counts(390, clean_total=400), make_counts(391, clean_total=400))
    assert price_words(won) == "0.25 points above the BadNet's (1 of 400 images)"


def test_only_splits_that_are_known() -> None:
    assert set(prices({"test": make_counts()}, {"valid": make_counts(), "test": make_counts()})) == {"test"}


def test_classes_that_lose_more_than_the_whole() -> None:
    """12 images, 4 a class. The whole loses 5 of 12: class 1 loses 3 of 4, class 2 only 2 of 4, which is
    more too; class 0 loses none."""
    labels = np.repeat([0, 1, 2], 4)
    after = labels.copy()
    after[[4, 5, 6, 8, 9]] = 0
    assert losing_classes(labels, labels, after) == [
        {"class": 1, "images": 4, "badnet": 4, "goodnet": 1},
        {"class": 2, "images": 4, "badnet": 4, "goodnet": 2},
    ]


def test_a_loss_shared_alike_names_no_class() -> None:
    labels = np.repeat([0, 1], 4)
    after = np.where(np.arange(8) % 2, labels, 1 - labels)
    assert losing_classes(labels, labels, after) == []


def test_many_classes_are_counted() -> None:
    rows = [{"class": c, "images": 9, "badnet": 9, "goodnet": 1} for c in range(11)]
    lines = class_lines(rows)
    assert lines[0] == "class 0: 9 of 9 right in the BadNet, 1 now" and lines[-1] == "and 3 more classes"
