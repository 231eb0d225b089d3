"""The facts in the frontier's picture and page, not their looks."""

from __future__ import annotations

import io

import pytest
from factories import make_frontier, make_record, make_settings
from matplotlib.image import imread

from prune_core.baselines import BASELINES
from sweeps.reports.frontier_html import frontier_page
from sweeps.reports.frontier_png import draw, frontier_png
from sweeps.reports.frontier_scene import make_scene
from sweeps.results import Frontier

A = make_record("a", [(985, 400), None, (970, 100)], make_settings("index", x=4.0))
B = make_record("b", [(980, 450), (300, 50)], make_settings("l1", x=100.0, policy="final-layer"))
FAILED = make_record("c", reason="no memory", settings=make_settings("random", x=2.0))
HOSTILE = "<script>alert(1)</script>$\\frac{$"


@pytest.fixture
def scene():
    return make_scene([A, B, FAILED], make_frontier([A, B, FAILED]), "sweep-1")


def test_scene_holds_all_states_by_policy(scene) -> None:
    assert scene.grouped_by == "policy"
    assert list(scene.groups) == ["margin", "final-layer"]
    (path,) = scene.groups["margin"]
    found = [(d.step, d.pruned, d.valid.clean_correct, d.valid.attacked) for d in path.dots]
    assert found == [(0, 0, 990, 500), (1, 1, 985, 400), (3, 2, 970, 100)]


def test_scene_groups_by_order_when_there_is_one_policy() -> None:
    other = make_record("b", [(980, 450)], make_settings("l1"))
    scene = make_scene([A, other], make_frontier([A, other]), "s")
    assert (scene.grouped_by, list(scene.groups)) == ("order", ["index", "l1"])


def test_bounds_lie_x_points_below_the_badnet(scene) -> None:
    # X = 100 would leave less than nothing; the failed trial's X = 2 has no BadNet to start from.
    assert scene.bounds == {4.0: pytest.approx(0.95)}


def test_caption_tells_validation_from_test_and_how_many_images(scene) -> None:
    for words in (
        "validation, where states were chosen (1,000 clean, 500 poisoned images)",
        "on test, which chose nothing (1,000 clean, 500 poisoned images)",
        "3 frontier states of 2 trials",
        "hypervolume 0.5000",
    ):
        assert words in scene.caption


def test_picture_has_the_frontier_on_validation_and_on_test(scene) -> None:
    (axes,) = draw(scene).axes
    steps = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_xydata().tolist() for line in steps] == [[[0.985, 0.8], [0.97, 0.2], [0.3, 0.1]]]
    clouds = [c.get_offsets().tolist() for c in axes.collections]
    assert [[0.985, 0.8], [0.97, 0.2], [0.3, 0.1]] in clouds
    assert [[0.98, 0.82], [0.965, 0.22], [0.295, 0.12]] in clouds
    assert [[0.99, 1.0]] in clouds  # the BadNet


def test_states_far_below_the_frontier_do_not_squeeze_it() -> None:
    far = make_record("b", [(980, 450), (300, 200)], make_settings("l1", x=100.0))
    scene = make_scene([A, far], make_frontier([A, far]), "s")
    assert scene.accuracy[0] > 0.9 and scene.outside == 1
    assert "1 state lies left" in " ".join(t.get_text() for t in draw(scene).texts)


def test_legends_of_many_policies_end_within_the_picture() -> None:
    policies = [*(name for name in BASELINES if name.count(":") == 1), "scale", "best-first"]
    records = [make_record(p, [(985, 400)], make_settings(policy=p)) for p in policies]
    drawn = draw(make_scene(records, make_frontier(records), "many"))
    assert {t.get_text() for t in drawn.legends[-1].texts} == {f"policy {p}" for p in policies}
    assert all(legend.get_window_extent().x1 <= drawn.bbox.width for legend in drawn.legends)


def test_png_is_a_picture_of_the_promised_size() -> None:
    pixels = imread(io.BytesIO(frontier_png([A, B], make_frontier([A, B]), "sweep-1")))
    assert pixels.shape[:2] == (1120, 1600)
    assert pixels.std() > 0.05  # not blank


@pytest.mark.parametrize("records", [[], [FAILED], [make_record("n", [None, None])]])
def test_nothing_to_show_is_shown_as_such(records) -> None:
    empty = Frontier((), 0.0)
    assert frontier_png(records, empty, "s").startswith(b"\x89PNG")
    assert "Frontier states" in frontier_page(records, empty, "s")


def test_hostile_names_stay_text() -> None:
    hostile = make_record("<img src=x>", [(985, 400)], make_settings(HOSTILE, (HOSTILE,)))
    frontier = make_frontier([hostile])
    assert frontier_png([hostile], frontier, HOSTILE).startswith(b"\x89PNG")
