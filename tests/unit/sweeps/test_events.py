"""Who hears of a sweep, and in which order."""

from __future__ import annotations

import inspect

import pytest
from factories import make_record

from sweeps.cli.progress import SweepProgress
from sweeps.events import Everyone, SweepEvents

EVENTS = [name for name, _ in inspect.getmembers(SweepEvents, inspect.isfunction)]


@pytest.mark.parametrize("event", EVENTS)
def test_everyone_hears_everything_in_turn(event: str) -> None:
    heard: list[tuple[str, object]] = []

    class Told(SweepEvents):
        def __init__(self, name: str) -> None:
            setattr(self, event, lambda *what: heard.append((name, what)))

    count = len(inspect.signature(getattr(SweepEvents, event)).parameters) - 1
    what = tuple(object() for _ in range(count))
    getattr(Everyone(Told("a"), SweepEvents(), Told("b")), event)(*what)
    assert heard == [("a", what), ("b", what)]


@pytest.mark.parametrize("event", EVENTS)
def test_the_terminal_answers_to_every_event(event: str) -> None:
    """A field of the same name would take an event's place."""
    assert callable(getattr(SweepProgress(), event))


def test_the_terminal_counts_what_is_over() -> None:
    progress = SweepProgress()
    progress.ended(make_record())
    progress.ended(make_record("b", reason="no pairs"))
    assert progress.course.over == 2
