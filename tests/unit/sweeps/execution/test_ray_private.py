"""Ray's private parts are as they were when they were tested: a new Ray that changes one fails here."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace

import pytest

ray = pytest.importorskip("ray")

from ray._private import ray_constants, services, worker  # noqa: E402
from ray.air.execution._internal import RayActorManager  # noqa: E402

from sweeps.execution import ray_private  # noqa: E402
from sweeps.execution.ray_private import (  # noqa: E402
    errors_in_one_line,
    every_loss_is_one_trial,
    only_on_this_machine,
    show_token,
)
from sweeps.execution.ray_searcher import ForgettingScheduler  # noqa: E402


@pytest.fixture
def another_ray(monkeypatch: pytest.MonkeyPatch):
    """A Ray that nobody has tested."""
    monkeypatch.setattr(ray, "__version__", "3.1.4")
    ray_private.tested.cache_clear()
    yield
    ray_private.tested.cache_clear()


def test_this_ray_is_one_that_was_tested() -> None:
    """Where it fails: run the tests of this file with the new Ray, then add it to TESTED."""
    assert ray_private.tested()


def test_another_ray_is_left_alone_and_one_line_says_so(another_ray, caplog) -> None:
    real, cluster = RayActorManager._actor_task_failed, ray_constants.ENABLE_RAY_CLUSTER
    controller = SimpleNamespace(_trials=["a trial"], _trial_metadata={})
    with caplog.at_level(logging.WARNING):
        with every_loss_is_one_trial(), only_on_this_machine():
            assert RayActorManager._actor_task_failed is real
            assert cluster is ray_constants.ENABLE_RAY_CLUSTER
        show_token()
        ray_private.forget(controller, "a trial")
    assert controller._trials == ["a trial"]
    (line,) = [r.getMessage() for r in caplog.records]
    assert "Ray 3.1.4 is not a version that was tested (==2.60.*)" in line and "\n" not in line


def test_the_names_are_there_and_take_what_they_took() -> None:
    from ray._private.authentication import authentication_token_setup as tokens
    from ray.tune.execution.tune_controller import TuneController

    def takes(function: object, *names: str) -> bool:
        return list(inspect.signature(function).parameters)[: len(names)] == list(names)  # type: ignore[arg-type]

    assert takes(RayActorManager._actor_task_failed, "self", "tracked_actor_task", "exception")
    assert takes(services.canonicalize_bootstrap_address, "addr")
    assert takes(worker.print_to_stdstream, "data", "ignore_prefix")
    assert "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages)
    assert (
        "warn_if_disabled" in inspect.signature(tokens.maybe_enable_token_auth_if_token_available).parameters
    )
    source = inspect.getsource(TuneController)
    names = ("_trials", "_live_trials", "_stopped_trials", "_trials_to_cache", "_trial_metadata")
    assert all(f"self.{name}:" in source for name in names)
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)


def test_a_ray_of_this_machine_is_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda addr, temp_dir=None: None)
    before = ray_constants.ENABLE_RAY_CLUSTER
    with only_on_this_machine():
        assert services.get_node_ip_address() == "127.0.0.1"
    assert before is ray_constants.ENABLE_RAY_CLUSTER
    monkeypatch.setattr(
        services, "canonicalize_bootstrap_address", lambda addr, temp_dir=None: "10.0.0.1:6379"
    )
    with only_on_this_machine():
        assert ray_constants.ENABLE_RAY_CLUSTER is True


def test_tune_lets_go_of_what_is_over() -> None:
    """What ended before, not the one that Tune is not quite done with."""

    class Ended:
        def __init__(self, trial_id: str) -> None:
            self.trial_id, self.status = trial_id, "RUNNING"

        def is_finished(self) -> bool:
            return self.status != "RUNNING"

    class Controller:
        def __init__(self) -> None:
            self._trials, self._stopped_trials, self._trials_to_cache = [], set(), set()
            self._trial_metadata: dict[str, str] = {}

    controller, scheduler, trials = Controller(), ForgettingScheduler(), [Ended(str(i)) for i in range(5)]
    controller._trials += trials
    for done, trial in enumerate(trials, start=1):
        scheduler.on_trial_complete(controller, trial, {})
        trial.status = "TERMINATED"
        controller._stopped_trials.add(trial)
        controller._trials_to_cache.add(trial)
        controller._trial_metadata[trial.trial_id] = "state"
        assert controller._trials == trials[done - 1 :]
    assert controller._stopped_trials == controller._trials_to_cache == {trials[-1]}
    assert list(controller._trial_metadata) == ["4"]


def test_a_worker_killed_for_memory_is_a_lost_worker() -> None:
    """To Tune by itself it is an error that ends the sweep."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    told: list[Exception] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append(error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    error = OutOfMemoryError("low on memory\nmore")
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with pytest.raises(RuntimeError, match="unexpected exception"):
        RayActorManager._actor_task_failed(manager, task, error)  # type: ignore[arg-type]
    with every_loss_is_one_trial():
        RayActorManager._actor_task_failed(  # by name, as Tune does
            self=manager, tracked_actor_task=task, exception=error
        )  # type: ignore[arg-type]
    assert isinstance(told[0], RayActorError) and "OutOfMemoryError: low on memory" in str(told[0])


def test_tune_adds_no_callback_of_its_own() -> None:
    """The one that it adds where none of its kind is given keeps every trial, 38 kB each."""
    from ray.tune.utils.callback import _create_default_callbacks

    from sweeps.execution.ray_executor import _Relay

    given = [_Relay(None, None, None, None, None)]  # type: ignore[arg-type]
    assert _create_default_callbacks(list(given), config={}, air_verbosity=None) == given


def test_what_a_node_is_asked_starts_without_the_package(tmp_path) -> None:
    """It is pickled by what it says: where nothing of ours is installed the answer is an ImportError."""
    import subprocess
    import sys

    from sweeps.doctor.nodes import versions
    from sweeps.execution.ray_cluster import _visitor

    visit = tmp_path / "visit"
    visit.write_bytes(ray.cloudpickle.dumps(_visitor(ray.cloudpickle.dumps(versions))))
    code = (
        "import sys, pickle, pathlib\n"
        "sys.modules['sweeps'] = sys.modules['prune_core'] = None\n"
        "answer = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())()\n"
        "print(type(answer).__name__)"
    )
    path = ":".join(p for p in sys.path if p.endswith("-packages"))
    done = subprocess.run(
        [sys.executable, "-c", code, visit],
        env={"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "ImportError\n" or done.stdout == "ModuleNotFoundError\n", done.stderr


def test_what_rays_processes_complain_of_is_one_line(caplog, capsys) -> None:
    traceback = "Traceback (most recent call last):\n  File ...\nAn error: no space left on device\n"
    with caplog.at_level(logging.WARNING), errors_in_one_line():
        for _ in range(2):
            worker.print_to_stdstream(
                {"lines": [traceback], "pid": "raylet", "is_err": False}, ignore_prefix=False
            )
    assert [r.getMessage() for r in caplog.records] == ["Ray says: An error: no space left on device"]
    assert capsys.readouterr().out == ""
