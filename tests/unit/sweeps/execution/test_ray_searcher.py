"""How many trials are out at a time, and what is asked of Ray for each; no cluster is needed to see it."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

ray = pytest.importorskip("ray")

from sweeps.config.schema import ResourcesConfig  # noqa: E402
from sweeps.execution.attempts import Lost  # noqa: E402
from sweeps.execution.ray_searcher import (  # noqa: E402
    GIB,
    QueueSearcher,
    needs,
    slots,
)
from sweeps.planning.grid import TrialSettings  # noqa: E402
from sweeps.planning.queue import Listed  # noqa: E402


def node(address: str = "10.0.0.1", alive: bool = True, gib: float = 8, **resources: float) -> dict:
    return {"Alive": alive, "NodeManagerAddress": address, "Resources": {**resources, "memory": gib * GIB}}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    nodes: list[dict] = []
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    return nodes


def grid(count: int) -> list[TrialSettings]:
    return [TrialSettings("index", ("c",), float(x), "margin") for x in range(count)]


def test_slots_are_counted_on_every_node(cluster: list[dict]) -> None:
    cluster += [node(CPU=4, GPU=1), node(CPU=3, GPU=1), node(CPU=64), node(CPU=9, GPU=9, alive=False)]
    assert slots({"CPU": 1}) == 71
    assert slots({"CPU": 2}) == 2 + 1 + 32
    assert slots({"CPU": 1, "GPU": 0.25}) == 4 + 3
    assert slots({"CPU": 1, "memory": 3 * GIB}) == 2 + 2 + 2


def test_memory_is_asked_for_where_it_is_said(cluster: list[dict]) -> None:
    cluster += [node(CPU=4, gib=3), node(CPU=4, gib=6)]
    assert needs(ResourcesConfig()) == {"CPU": 1}
    assert needs(ResourcesConfig(memory_gb=4)) == {"CPU": 1, "memory": 4 * GIB}
    assert needs(ResourcesConfig(memory_gb=40)) == {"CPU": 1, "memory": 6 * GIB}
    assert slots(needs(ResourcesConfig(memory_gb=40))) == 1


def test_a_machine_that_is_too_small_is_told_at_once(cluster: list[dict]) -> None:
    from prune_core.errors import InputError

    cluster.append(node(CPU=2))
    with pytest.raises(InputError, match=r"resources\.cpu is 3, but the only node has 2 CPUs"):
        needs(ResourcesConfig(cpu=3))
    with pytest.raises(InputError, match=r"resources\.gpu is 0\.5, but the only node has 0 GPUs"):
        needs(ResourcesConfig(gpu=0.5))
    cluster.append(node(CPU=1))
    assert needs(ResourcesConfig(cpu=3)) == {"CPU": 3}  # one that can grow may get such a node


@pytest.mark.parametrize("address, most", [("127.0.0.1", 2), ("10.0.0.1", 6)])
def test_no_more_are_out_than_can_run(cluster: list[dict], address: str, most: int) -> None:
    """On a cluster that can grow, some wait, for its autoscaler to see."""
    cluster.append(node(address, CPU=2))
    trials = Listed(grid(10))
    trials.lock = threading.RLock()  # type: ignore[attr-defined]  # as Optuna's storage has
    handed = QueueSearcher(trials, {"CPU": 1})
    out = []
    for number in range(10):
        if handed.suggest(str(number)) is None:
            break
        out.append(str(number))
    assert len(out) == most
    pickle.dumps(handed)  # as Tune does with all that it is given
    handed.on_trial_complete(out[0], {"clean_accuracy": 0.9, "attack_success": 0.1})
    assert isinstance(handed.suggest("next"), dict) and handed.suggest("too many") is None


def test_all_are_handed_out_once_then_it_is_over(cluster: list[dict]) -> None:
    cluster.append(node("127.0.0.1", CPU=1))
    handed = QueueSearcher(Listed(grid(3)), {"CPU": 1})
    seen = []
    while (given := handed.suggest(str(len(seen)))) != QueueSearcher.FINISHED:
        seen.append(TrialSettings.from_json(given["settings"]))
        handed.on_trial_complete(str(len(seen) - 1), {})
    assert sorted(s.x for s in seen) == [0, 1, 2]


def test_a_lost_trial_is_run_again_after_growing_pauses(cluster: list[dict], monkeypatch) -> None:
    cluster.append(node("127.0.0.1", CPU=1))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    handed = QueueSearcher(Listed(grid(2)), {"CPU": 1})
    handed.most, pauses, other = 1, [], None
    first = handed.suggest("0")
    for number in range(20):
        handed.on_trial_complete(str(number), error=True)  # as Tune says it, before ``failed``
        pause = handed.failed(str(number), counts=True)
        if pause is None:
            break
        pauses.append(pause)
        if other is None:  # the worker that is free has something else to do meanwhile
            other = handed.suggest("other")
            assert other != first
            handed.on_trial_complete("other", {})
        assert handed.suggest("too early") is None and handed.unfinished
        now += pause
        assert handed.suggest(str(number + 1)) == first
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]  # ten attempts, some minutes
    assert handed.suggest("no more") == QueueSearcher.FINISHED and not handed.unfinished


def test_what_never_began_is_no_attempt_until_long_after(cluster: list[dict], monkeypatch) -> None:
    """As on a node that is dead and not yet known to be."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lost, (trial,) = Lost(), grid(1)
    while now < 600:
        pause = lost.pause(trial, counts=False)
        assert pause is not None
        now += pause
    left = 0
    while (pause := lost.pause(trial, counts=False)) is not None:
        now, left = now + pause, left + 1
    assert left < 12
