"""MLflow is there and refuses, since another driver of the same sweep was faster."""

from __future__ import annotations

import pytest
from factories import make_manifest, make_record
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE

from sweeps.tracking import background
from sweeps.tracking.background import BackgroundTracking

RECORD = make_record("a", [(985, 400)])
DOUBLE = MlflowException("UNIQUE constraint failed: params.key, params.run_uuid", BAD_REQUEST)
DELETED = MlflowException(
    "The run must be in the 'active' state. Current state is deleted.", INVALID_PARAMETER_VALUE
)


class Crossed:
    """Raises ``errors`` one after the other, of whatever is to be logged; then logs."""

    uri = "sqlite:///mlflow.db"

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors
        self.logged: list[str] = []

    def _log(self, what: str) -> str:
        if self.errors:
            raise self.errors.pop(0)
        self.logged.append(what)
        return "run"

    def start_sweep(self, *_) -> str:
        return self._log("start")

    def has_trial(self, *_) -> bool:
        return False

    def log_trial(self, run_id, record) -> None:
        self._log(f"trial {record.key}")

    def finish_sweep(self, *_) -> None:
        self._log("end")


def close(tracking: Crossed, warnings: list[str]) -> list[str]:
    driver = BackgroundTracking(lambda: tracking, make_manifest([RECORD]), {}, warnings.append)
    driver.log_trial("a", "done", lambda: RECORD)
    driver.finish_sweep({}, {})
    return driver.close(timeout=60)


@pytest.mark.parametrize("error", [DOUBLE, DELETED])
def test_the_sweep_is_logged_whole_and_nobody_is_told(error) -> None:
    tracking, warnings = Crossed([error] * 5), []
    assert close(tracking, warnings) == []
    assert [t for t in tracking.logged if t != "start"] == ["trial a", "end"] and warnings == []


def test_what_is_refused_for_ever_is_told_in_the_end(monkeypatch) -> None:
    monkeypatch.setattr(background, "REFUSALS", 2)  # it pauses after each
    tracking, warnings = Crossed([DOUBLE] * 30), []
    assert "the sweep's run" in close(tracking, warnings)
    assert len(warnings) == 1 and "UNIQUE constraint failed" in warnings[0]
