"""MLflow that is away, hangs, or stands at another address: said in one line, and nobody waits for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from factories import make_manifest, make_record

from prune_core.errors import InputError, Unavailable
from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.mlflow_runs import Tracking

DONE = make_record("a", [(985, 400), None, (970, 100)])


@pytest.fixture
def silent_server():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


BUSY = 60.0  # seconds that a busy machine may take over what takes none; MLflow's own limits are longer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def fails_to_check(uri: str, kind: type[Exception], seconds: float = 1.0) -> str:
    started = time.monotonic()
    with pytest.raises(kind) as error:
        Tracking(uri, "goodnet").check(seconds)
    assert time.monotonic() - started < seconds + BUSY
    message = str(error.value)
    assert "\n" not in message and "expected http(s)://host:port" in message
    return message


def test_check_of_a_server_that_never_answers_ends(silent_server) -> None:
    assert "no answer within 1 seconds" in fails_to_check(silent_server, Unavailable)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://127.0.0.1:{port}", "nothing listens there"),
        ("http://me:secret@127.0.0.1:{port}", "MLflow at http://127.0.0.1"),
        ("ftp://host/x", "tracking.uri 'ftp://host/x'"),
        ("file:///tmp/mlruns", "tracking.uri 'file:///tmp/mlruns'"),
        ("mlruns", "tracking.uri 'mlruns'"),
        ("sqlite:///{tmp}/a-file/mlflow.db", "a-file"),
        ("sqlite:///{tmp}/a-file", "file is not a database"),
        ("sqlite:///{tmp}", "unable to open database file"),
    ],
)
def test_check_names_what_is_wrong_with_an_address(tmp_path, monkeypatch, uri, words) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "a-file").write_text("text, and more text than a header of SQLite takes " * 4)
    kind = Unavailable if "{port}" in uri else InputError
    message = fails_to_check(uri.format(port=free_port(), tmp=tmp_path), kind, 5.0)
    assert words in message and "secret" not in message


def test_killed_while_mlflow_makes_its_tables(tmp_path) -> None:
    """Seen with a real kill: half the tables, and MLflow refused the file for ever."""
    code = (
        "import os, sys\n"
        "from sqlalchemy import Engine, event\n"
        "from sweeps.tracking.mlflow_runs import Tracking\n"
        "def see(connection, cursor, statement, *more):\n"
        "    if 'CREATE TABLE mcp_servers' in statement: os._exit(9)  # made by a late migration\n"
        "event.listen(Engine, 'after_cursor_execute', see)\n"
        "Tracking(sys.argv[1], 'goodnet')._client.search_experiments()\n"
    )
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    died = subprocess.run([sys.executable, "-c", code, uri], check=False)
    assert died.returncode == 9
    tracking = Tracking(uri, "goodnet", f"{tmp_path}/artifacts")
    assert tracking.start_sweep(make_manifest([DONE]), {})


def test_check_of_a_new_sqlite_file_makes_no_database(tmp_path) -> None:
    Tracking(f"sqlite:///{tmp_path}/new/mlflow.db", "goodnet").check()
    assert not (tmp_path / "new" / "mlflow.db").exists()


def test_dead_server_warns_once_and_holds_nobody_up() -> None:
    warnings: list[str] = []
    uri = f"http://127.0.0.1:{free_port()}"
    logged = threading.Event()

    def connect() -> Tracking:
        assert logged.wait(BUSY), "logging a trial waits for MLflow"
        return Tracking(uri, "goodnet")

    background = BackgroundTracking(connect, make_manifest([DONE]), {}, warnings.append)
    for _ in range(50):
        background.log_trial("a", "done", lambda: DONE)
    logged.set()
    started = time.monotonic()
    assert background.run_id(timeout=10) is None
    unlogged = background.close(timeout=20)
    assert time.monotonic() - started < 30 + BUSY
    assert len(warnings) == 1 and f"MLflow at {uri}" in warnings[0] and "\n" not in warnings[0]
    assert sorted(unlogged) == ["the sweep's run", "the sweep's status", "trial a"]


def test_server_that_hangs_is_given_up_at_the_time_limit(silent_server) -> None:
    warnings: list[str] = []
    background = BackgroundTracking(
        lambda: Tracking(silent_server, "goodnet"), make_manifest([DONE]), {}, warnings.append
    )
    background.log_trial("a", "done", lambda: DONE)
    started = time.monotonic()
    assert "trial a" in background.close(timeout=1.0)
    assert time.monotonic() - started < BUSY


class Flaky:
    """A Tracking whose every method fails as often as it is told, then works."""

    uri = "http://flaky"

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, []

    def has_trial(self, *args) -> bool:
        return False

    def __getattr__(self, name: str):
        def call(*args):
            if self.failures > 0:
                self.failures -= 1
                raise ConnectionError("Connection refused")
            self.calls.append(name)
            return "run"

        return call


def test_background_tries_again_after_an_outage(monkeypatch) -> None:
    monkeypatch.setattr("sweeps.tracking.background.LONGEST_PAUSE", 0.01)
    flaky, warnings = Flaky(failures=2), []
    background = BackgroundTracking(lambda: flaky, make_manifest(), {}, warnings.append)
    background.log_trial("a", "done", lambda: DONE)
    deadline = time.monotonic() + BUSY
    while flaky.calls.count("log_trial") < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    background.finish_sweep({}, {}, None)
    assert background.close(timeout=BUSY) == []
    assert flaky.calls == ["start_sweep", "log_trial", "finish_sweep"] and len(warnings) == 1


def test_close_from_a_sweep_that_failed_before_mlflow_came_up() -> None:
    release = threading.Event()

    def slow():
        release.wait(10)
        return Flaky(0)

    background = BackgroundTracking(slow, make_manifest(), {}, pytest.fail)
    assert background.close(timeout=0.2) == ["the sweep's run", "the sweep's status"]
    release.set()
