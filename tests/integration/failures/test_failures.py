"""What the machine does to a trial is tried again, what its settings do is not; nothing done is lost."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from factories import make_record, make_settings

from prune_core.errors import InputError
from sweeps.config.schema import load_config
from sweeps.events import SweepEvents
from sweeps.execution import inline, stopping
from sweeps.execution.attempts import given_up
from sweeps.execution.inline import InlineExecutor
from sweeps.execution.stopping import stoppable
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.planning.queue import Listed
from sweeps.storage import retry as patience
from sweeps.storage.record_store import RecordStore, finished, keep
from sweeps.storage.retry import StorageAway
from sweeps.storage.storage import Storage

DONE = make_record("a")
FAILED = make_record("a", reason="lost")


class Told(SweepEvents):
    def __init__(self) -> None:
        self.records, self.lines = [], []
        self.ended, self.trouble = self.records.append, self.lines.append


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(Storage(str(tmp_path / "runs")))


def run_two(config: Path, monkeypatch, failing) -> tuple[Told, list[str]]:
    """Two trials in this process; ``failing(settings, times)`` runs before each attempt."""
    asked: list[str] = []
    real = inline.run_trial

    def run_trial(settings, *args):
        asked.append(settings.order)
        failing(settings, asked.count(settings.order))
        return real(settings, *args)

    monkeypatch.setattr(inline, "run_trial", run_trial)
    settings = load_config(config, ["sweep.layer_sets=['last:1']", "sweep.x_thresholds=[10]"])
    inputs, told = load_inputs(input_files(settings), settings.sweep.repair), Told()
    storage = Storage(settings.storage).begin()
    executor = InlineExecutor(settings.evaluator, settings.resources)
    executor.run(Listed(trials_of(settings.sweep, inputs.model)), inputs, storage, told)
    return told, asked


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_machine_faults_are_tried_again(smoke_config, monkeypatch, error) -> None:
    def failing(settings, times):
        if settings.order == "l1" and times < 3:
            raise error

    told, asked = run_two(smoke_config, monkeypatch, failing)
    assert asked == ["index", "l1", "l1", "l1"]
    assert [r.status for r in told.records] == ["done", "done"]


def test_a_machine_that_stays_at_fault_is_given_up(smoke_config, monkeypatch) -> None:
    def failing(settings, times):
        if settings.order == "index":
            raise OSError(5, "Input/output error")

    told, asked = run_two(smoke_config, monkeypatch, failing)
    assert asked == ["index"] * 3 + ["l1"]
    lost, done = told.records
    assert lost.reason == "failed 3 times, the last time: [Errno 5] Input/output error"
    assert (lost.status, done.status) == ("failed", "done")


@pytest.mark.parametrize("error", [InputError("no such layer"), ZeroDivisionError("ours")])
def test_bad_settings_and_faults_of_ours_are_not_tried_again(smoke_config, monkeypatch, error) -> None:
    from sweeps import trial

    tried: list[str] = []

    def order(settings, inputs):
        tried.append(settings.order)
        raise error

    monkeypatch.setattr(trial, "_order", order)
    told, _ = run_two(smoke_config, monkeypatch, lambda settings, times: None)
    assert tried == ["index", "l1"] and {r.status for r in told.records} == {"failed"}
    assert str(error) in told.records[0].reason


def test_a_trial_that_another_sweep_has_done_is_not_run(smoke_config, monkeypatch) -> None:
    first, _ = run_two(smoke_config, monkeypatch, lambda settings, times: None)
    again, asked = run_two(smoke_config, monkeypatch, lambda settings, times: None)
    assert asked == [] and again.records == first.records


def test_a_done_record_stays(store) -> None:
    assert keep(FAILED, store, pytest.fail) == FAILED
    assert keep(DONE, store, pytest.fail) == DONE  # done later: replaces the failure
    assert keep(FAILED, store, pytest.fail) == DONE
    assert store.read("a") == DONE == finished("a", store, pytest.fail)


def test_storage_away_for_a_while_loses_no_record(store, tmp_path) -> None:
    """A file stands where the folder should be, as when a disk is not mounted."""
    (tmp_path / "runs").write_text("")
    lines: list[str] = []
    noticed = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        noticed.set()

    def back() -> None:
        noticed.wait(60)
        (tmp_path / "runs").unlink()

    helper = threading.Thread(target=back)
    helper.start()
    keep(DONE, store, tell)
    helper.join()
    assert store.read("a") == DONE
    assert len(lines) in (1, 2) and "does not answer" in lines[0]  # reading, then writing


def test_storage_away_for_good_is_one_line(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageAway, match="finished trials are kept, the same command goes on"):
        keep(DONE, store, lambda line: None)


def test_given_up_says_the_last_reason(store) -> None:
    record = given_up("k", make_settings(), store, "worker\n died ", pytest.fail)
    assert record == store.read("k") and record.reason.endswith("the last time: worker died")


def test_sigterm_is_heard_where_ctrl_c_is_ignored() -> None:
    """As in ``nohup goodnet sweep CONFIG &``."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
        stopping._terminated.clear()
