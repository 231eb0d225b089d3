"""A sweep as a process: stopped, told to go, killed in the middle of a trial. It goes on where it was."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from processes import RAY, end, ended, records, start_sweep, wait_until, workers

from sweeps.looking import frontier_of
from sweeps.overview.listing import sweeps_of
from sweeps.storage.storage import Storage


@pytest.fixture
def long_config(smoke_config: Path) -> Path:
    """Sixteen trials, none of them over at once."""
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {
        "policies": ["best-first"],
        "layer_sets": ["last:3", "last:4"],
        "orders": ["index", "l1", "activation", "clp"],
    }
    smoke_config.write_text(yaml.safe_dump(tree | {"evaluator": "plain"}))
    return smoke_config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "sign", "status"),
    [
        ("ray", signal.SIGINT, 130),
        ("ray", signal.SIGTERM, 143),
        ("inline", signal.SIGINT, 130),
    ],
)
def test_stopped_sweep_draws_what_is_done(long_config, tmp_path, executor, sign, status) -> None:
    runs = tmp_path / "runs"
    with ended(start_sweep(long_config, "--executor", executor, **RAY)) as process:
        wait_until(lambda: records(runs), process)
        process.send_signal(sign)
        out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    result = json.loads(out)
    assert result["stopped"] and 0 < result["done"] < result["trials"] and result["failed"] == 0
    assert result["frontier_size"] > 0 and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("goodnet: stopped; finished trials are kept")
    assert len(frontier_of(None, str(runs)).points) == result["frontier_size"]
    assert len(records(runs)) == result["done"]
    (listed,) = sweeps_of(Storage(str(runs)))
    assert (listed["state"], listed["trials"]["done"]) == ("interrupted", result["done"])


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_lost_worker_costs_no_trial(long_config, tmp_path, sign) -> None:
    """Killed, or told to go as before its machine is taken away."""
    tree = yaml.safe_load(long_config.read_text())
    tree["sweep"] |= {"orders": ["index", "l1"], "layer_sets": ["last:4"]}
    long_config.write_text(yaml.safe_dump(tree))
    with ended(start_sweep(long_config, **RAY)) as process:
        wait_until(lambda: workers(process.pid), process)
        workers(process.pid)[0].send_signal(sign)
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert (result["done"], result["failed"], result["trials"]) == (4, 0, 4), err
    assert "lost with its worker" in err and "Traceback" not in err
    assert len(records(tmp_path / "runs")) == 4


@pytest.mark.slow
def test_long_trial_goes_on_in_the_middle(long_config, tmp_path) -> None:
    """What was evaluated before the kill, and shared by then, is not evaluated again."""
    tree = yaml.safe_load(long_config.read_text())
    tree["sweep"] |= {"orders": ["index"], "layer_sets": ["last:4"], "x_thresholds": [10]}
    long_config.write_text(yaml.safe_dump(tree))
    often = "from sweeps.storage import evaluation_cache; evaluation_cache.SECONDS = 0.05"  # a short trial
    answers = tmp_path / "runs" / "evaluations"

    def whole() -> list[tuple[str, bytes]]:
        """Splits and masks that were counted to the end; a bound alone may be asked for again."""
        found = []
        for path in answers.glob("*/*.parquet"):
            rows = pq.read_table(path, columns=["mask", "clean_correct"]).to_pylist()
            found += [(path.parent.name, row["mask"]) for row in rows if row["clean_correct"] is not None]
        return found

    first = start_sweep(long_config, "--executor", "inline", code=often)
    with ended(first):
        wait_until(lambda: len(whole()) > 60, first)
        end(first)
    before = whole()
    assert records(tmp_path / "runs") == {}, "the trial was over before it could be killed"
    keep_files = f"{often}; evaluation_cache.EvaluationCache.tidy = lambda self: None"
    with ended(start_sweep(long_config, "--executor", "inline", code=keep_files)) as second:
        out, err = second.communicate(timeout=500)
    assert second.returncode == 0 and json.loads(out)["done"] == 1, err
    after = whole()
    anew = len(after) - len(before)
    print(f"{len(set(after))} states in all, {len(before)} of them known after the kill, {anew} anew")
    assert len(after) == len(set(after)), "some were evaluated twice"
    assert 60 < len(before) < len(after)
