"""How a sweep stands while it runs, and when its page is due."""

from __future__ import annotations

import pytest
from factories import make_manifest, make_record

from sweeps.following.course import Course
from sweeps.following.live import Pause
from sweeps.progress import Progress

RECORDS = [make_record(key, [(980, 250)]) for key in "abcd"]


def test_trials_are_counted_and_the_best_kept() -> None:
    course = Course()
    course.planned(make_manifest(RECORDS), RECORDS[:1], 4)
    course.candidates("b", Progress("pruning", 5, 20, 3))
    standing = course.standing()
    assert (standing.sweep, standing.state, standing.total) == ("sweep-1", "running", 4)
    assert (standing.done, standing.running, standing.seconds_left) == (1, 1, None)
    assert course.done == 1.25
    course.ended(make_record("b", reason="no pairs"))
    standing = course.standing("interrupted")
    assert (standing.done, standing.failed, standing.running) == (1, 1, 0)
    assert standing.hypervolume == pytest.approx(0.98 * 0.5)
    assert [b["trial_key"] for b in standing.best] == ["a", "a", "a"]


def test_the_time_left_is_by_the_pace_of_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials were there before; one took 30 s; half of another is done: 1.5 trials in 30 s."""
    now = 100.0
    monkeypatch.setattr("sweeps.following.course.time.monotonic", lambda: now)
    course = Course()
    course.planned(make_manifest(RECORDS), RECORDS[:2], 5)
    course.ended(RECORDS[2])
    course.candidates("d", Progress("pruning", 10, 20, 3))
    now = 130.0
    assert course.standing().seconds_left == pytest.approx(1.5 * 20)


def test_pages_take_a_fiftieth_of_a_core() -> None:
    now = 0.0
    pause = Pause(lambda: now)
    assert not pause.over()
    now = 15.0
    assert pause.over()
    with pause.measured():
        now = 17.0  # it took two seconds: the next one comes a hundred after it was begun
    now = 114.9
    assert not pause.over()
    now = 115.0
    assert pause.over()


def test_an_old_sweep_is_drawn_less_often() -> None:
    now = 0.0
    pause = Pause(lambda: now)
    now = 3600.0
    with pause.measured():
        pass
    now += 72.0
    assert not pause.over()  # of an hour a fiftieth is 72 s, and the sweep has grown older
    now += 2.0
    assert pause.over()
