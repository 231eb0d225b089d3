"""Files that show a sweep as it stands, in MLflow: the last ones count, and the end's come after them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from factories import make_manifest

from sweeps.tracking.background import BackgroundTracking

BUSY = 60.0  # seconds that a loaded machine may take


class Slow:
    """A Tracking that answers once it is let; ``fails`` are methods that then fail."""

    uri = "http://slow"

    def __init__(self, *fails: str) -> None:
        self.release, self.fails = threading.Event(), fails
        self.calls: list[tuple[str, Any]] = []

    def connected(self) -> Slow:
        assert self.release.wait(BUSY)
        return self

    def __getattr__(self, name: str) -> Any:
        def call(run_id: Any, *args: Any) -> str:
            self.calls.append((name, args[0] if args else None))
            if name in self.fails:
                raise ConnectionError("Connection refused")
            return "run"

        return call


def test_later_ones_take_the_place_of_those_that_wait() -> None:
    slow = Slow()
    background = BackgroundTracking(slow.connected, make_manifest(), {}, pytest.fail)
    for number in range(3):
        background.renew({"page": str(number).encode()})
    with background._changed:
        assert sum(job.passing for job in background._jobs) == 1
    slow.release.set()
    assert background.run_id(BUSY) == "run"
    background.finish_sweep({}, {})
    assert background.close(BUSY) == []
    named = [name for name, _ in slow.calls]
    assert named.count("log_files") <= 1 and named[-1] == "finish_sweep"
    assert all(given == {"page": b"2"} for name, given in slow.calls if name == "log_files")


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_takes_the_place_of_those_that_wait(ends: bool) -> None:
    slow = Slow()
    background = BackgroundTracking(slow.connected, make_manifest(), {}, pytest.fail)
    background.renew({"page": b"0"})
    if ends:
        background.finish_sweep({}, {})
        slow.release.set()
        assert background.close(BUSY) == []
        assert "log_files" not in [name for name, _ in slow.calls]
    else:
        assert "the sweep so far" not in background.close(0.0)
        slow.release.set()


def test_what_mlflow_does_not_take_of_them_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tracking.background.LONGEST_PAUSE", 0.01)
    slow, told = Slow("log_files"), []
    slow.release.set()
    background = BackgroundTracking(slow.connected, make_manifest(), {}, told.append)
    assert background.run_id(BUSY) == "run"
    background.renew({"page": b"0"})
    background.finish_sweep({}, {})
    assert background.close(BUSY) == [] and slow.calls[-1][0] == "finish_sweep"
