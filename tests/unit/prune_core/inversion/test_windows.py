"""A patch that works in one small place, in a net where larger ones lead to every class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from shortcut_net import TARGET, images_of, net_of

from prune_core.inversion.margins import STARTS, STEPS
from prune_core.inversion.plan import Plan
from prune_core.inversion.scan import stages_of
from prune_core.inversion.search import Effort, loss_of
from prune_core.inversion.windows import A_SIDE, windows_of


def test_windows_overlap_and_cover_the_image() -> None:
    made = windows_of(32, 20)  # 7 x 4 pixels
    assert made.shape == (A_SIDE**2, 1, 32, 20) and set(made.unique().tolist()) == {0.0, 1.0}
    assert made.sum(dim=(1, 2, 3)).unique().tolist() == [28.0]
    assert (made.sum(0) >= 1).all() and made[0, 0, :7, :4].all() and made[-1, 0, -7:, -4:].all()
    assert len(windows_of(1, 3)) == 3


def test_a_patch_keeps_to_its_window() -> None:
    searches = stages_of(net_of(True), images_of(), kinds=["patch"]).searches
    windows = windows_of(8, 8)
    found = searches([TARGET, TARGET], "patch", Effort(30, 32), windows=[0, 7])
    for row, window in enumerate((0, 7)):
        assert (found.stamps.mask[row][windows[window] == 0] == 0).all()
        assert found.size[row] <= windows[window].sum() or torch.isinf(found.size[row])
    whole = searches([TARGET], "patch", Effort(5, 8), windows=[7], whole=True)
    assert torch.equal(whole.stamps.mask[0], windows[7])
    even = torch.arange(0, 48)  # of 48 images, all
    shown = loss_of(
        searches.net,
        searches.pixels[even],
        searches.labels[even],
        torch.tensor([TARGET]),
        whole.stamps,
        searches.span,
    )
    assert torch.allclose(whole.margin, -shown)


def test_the_smaller_of_the_two_searches_is_taken() -> None:
    searches = stages_of(net_of(True), images_of(), kinds=["patch"]).searches
    effort, targets = Effort(30, 32), [0, TARGET]
    free = searches(targets, "patch", effort)
    least = searches.smallest(targets, "patch", effort)
    assert (least.size <= free.size).all()
    same = least.size == free.size
    assert torch.equal(least.stamps.mask[same], free.stamps.mask[same])
    added = searches.smallest(targets, "add", effort)
    assert torch.equal(added.size, searches(targets, "add", effort).size)


def test_what_is_told_is_what_was_planned() -> None:
    """No candidate beyond the classes: the searches of the classes alone."""
    spent: list[int] = []
    stages = stages_of(net_of(True), images_of(), classes=[0, TARGET], kinds=["patch"])
    searches = replace(stages.searches, tell=spent.append)
    searches.smallest(stages.plan.targets, "patch", stages.plan.effort)
    searched = stages.plan.passes - 2 * STARTS * STEPS  # what remains beside the margins
    assert sum(spent) * 11 == searched * 2  # 2 classes, and 9 searches of candidates at most


def test_the_cost_that_is_told_is_the_most_that_is_spent() -> None:
    """By hand: 10 classes, 3 candidates of two other starts and a copy each; and the margins."""
    climbed = 10 * 3 * 100
    plan = Plan(tuple(range(10)), ("add",), 150, False)
    assert (plan.effort.steps, plan.effort.images) == (215, 16)
    assert plan.passes == 19 * 215 * 16 + climbed
    patches = Plan(tuple(range(10)), ("patch",), 150, False, 36)
    assert patches.passes == 19 * (2 * 215 * 16 + 36 * (10 * 6 + 48 // 3)) + climbed
    many = Plan(tuple(range(43)), ("add",), 150, False)
    assert (many.effort.steps, many.effort.images) == (100, 8)


def test_images_that_lie_class_by_class_are_judged_on_all_classes() -> None:
    pixels, labels = images_of(960)
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels > 0)[:72]]
    searches = stages_of(net_of(True), (pixels[rows], labels[rows]), kinds=["patch"]).searches
    assert (searches.labels[:48] == 0).all()
    looked = searches([0], "patch", Effort(1, 8), windows=[0], whole=True)
    assert looked.margin[0] < 0
