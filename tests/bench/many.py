"""A thousand trials of the smallest net: what a trial costs beside its work, and whether the driver grows.

``python -m tests.bench.many [--trials 1000] [--executor ray] [--executor inline]`` prints a table. The
trials are those of ``configs/smoke.yaml`` with many seeds of order random; MLflow is left out.

``--keep FOLDER --minutes M`` runs as much of a long sweep as fits, under Ray, and goes on when it is called
again: ``python -m tests.bench.many --trials 10000 --keep /tmp/many --minutes 12``. What it measures stays
in FOLDER/samples.jsonl, and a table of it is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from sweeps.config.schema import Config, make_config
from sweeps.evaluators import Evaluators
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep
from sweeps.trial import run_trial
from tests.bench.lab import ROOT
from tests.factories import handed_out

Found = dict[str, Any]


def config_of(trials: int, folder: str, minutes: float | None = None) -> Config:
    """Four trials a seed; ``minutes``: after which no other is begun."""
    return make_config({
        "name": "many", "badnet": "embedded-smoke", "storage": folder,
        "sweep": {"orders": ["random"], "layer_sets": ["last:1", "last:2"], "x_thresholds": [4, 10],
                  "policies": ["margin"], "seeds": list(range(trials // 4)),
                  "budget": {"minutes": minutes}},
    }, "bench")  # fmt: skip


def cpu_of_all(process: psutil.Process) -> float:
    """Seconds of this process and all that it started and that is still there."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


class Samples(SweepEvents):
    """A watcher that notes, every so many trials, the time, the CPU of all processes, and the driver's
    memory."""

    def __init__(self, every: int, log: Path | None = None) -> None:
        """``log``: a file that gets each row as it comes, as a process may not live to the end."""
        self.log = log
        self.every, self.done, self.rows = every, 0, []  # type: ignore[var-annotated]
        self.last = [time.perf_counter(), time.process_time()]  # when a trial ended
        self.me = psutil.Process()

    def note(self) -> None:
        self.rows.append([self.done, time.perf_counter(), cpu_of_all(self.me), time.process_time(),
                          self.me.memory_info().rss / 2**20])  # fmt: skip
        if self.log is not None:
            with self.log.open("a") as out:
                out.write(json.dumps(self.rows[-1]) + "\n")

    def ended(self, record: TrialRecord) -> None:
        assert record.status == "done", record.reason
        self.done += 1
        self.last = [time.perf_counter(), time.process_time()]
        if self.done % self.every == 0:
            self.note()

    def planned(self, *what: object) -> None:
        self.note()


def pure(trials: int, folder: str) -> Found:
    """The same trials by a plain loop, without storage."""
    config = config_of(trials, folder)
    inputs = load_inputs(input_files(config), config.sweep.repair)
    evaluators = Evaluators.of(inputs, config.evaluator, config.resources.memory_gb)
    todo = handed_out(trials_of(config.sweep, inputs.model))
    run_trial(todo[0], inputs, evaluators)  # caches
    wall, cpu = time.perf_counter(), time.process_time()
    for settings in todo:
        assert run_trial(settings, inputs, evaluators).status == "done"
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def swept(trials: int, folder: str, executor: str) -> Found:
    samples = Samples(max(1, trials // 20))
    config = config_of(trials, folder)
    load_inputs(input_files(config), config.sweep.repair)  # makes the BadNet
    result = run_sweep(config, open_storage(config.storage), make_executor(executor, config), samples)
    assert len(result.records) == trials
    return {"rows": samples.rows, "after": samples.me.memory_info().rss / 2**20}


def piece(trials: int, folder: Path, minutes: float) -> Found:
    """As many of the trials that are missing as fit into ``minutes``: samples of the driver, and what the end
    cost, from the last trial to all of the sweep's pages and tables."""
    config = config_of(trials, str(folder), minutes)
    load_inputs(input_files(config), config.sweep.repair)
    samples = Samples(200, folder / "rows.jsonl")
    result = run_sweep(config, open_storage(str(folder)), make_executor("ray", config), samples)
    wall, cpu = time.perf_counter() - samples.last[0], time.process_time() - samples.last[1]
    return {"before": result.skipped, "rows": samples.rows, "end": [wall, cpu],
            "after": samples.me.memory_info().rss / 2**20, "records": len(result.records),
            "frontier": len(result.frontier.points)}  # fmt: skip


def commands(folder: Path) -> Found:
    """CPU and wall-clock seconds of the commands that look at the sweep, each in a process of its own."""
    found = {}
    for words in (
        ["frontier"],
        ["list"],
        ["watch", "--once"],
        ["trials", "--csv", str(folder / "trials.csv")],
    ):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "goodnet", *words, "--storage", str(folder), "--json"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found[words[0]] = [cpu, time.perf_counter() - start]
    return found


def long(trials: int, folder: Path, minutes: float) -> list[str]:
    """Another piece, and the table of all."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "samples.jsonl"
    with log.open("a") as out:
        out.write(json.dumps(piece(trials, folder, minutes)) + "\n")
    pieces = [json.loads(line) for line in log.read_text().splitlines()]
    page = next(folder.glob("sweeps/*.html")).stat().st_size / 1e6
    return long_table(trials, pieces, commands(folder), page)


def long_table(trials: int, pieces: list[Found], looked: Found, page: float) -> list[str]:
    """``page``: MB of the sweep's page."""
    lines = ["| trials done | driver, CPU ms a trial | all processes | driver, MiB |", "|---|---|---|---|"]
    for one in pieces:
        rows = [row for row in one["rows"] if row[0] % 1000 == 0 or row in (one["rows"][1], one["rows"][-1])]
        for first, last in zip(rows[:-1], rows[1:], strict=True):
            count = max(1, last[0] - first[0]) / 1000
            lines.append(f"| {one['before'] + last[0]:,} | {(last[3] - first[3]) / count:.1f} | "
                         f"{(last[2] - first[2]) / count:.0f} | {last[4]:.0f} |")  # fmt: skip
        lines.append(f"| end of this call, {one['records']:,} of {trials:,} | {one['end'][1]:.1f} s of CPU, "
                     f"{one['end'][0]:.0f} s by the clock | | {one['after']:.0f} |")  # fmt: skip
    lines += ["", "| command | CPU s | wall clock s |", "|---|---|---|"]
    lines += [f"| `goodnet {name}` | {cpu:.1f} | {wall:.1f} |" for name, (cpu, wall) in looked.items()]
    return [*lines, "", f"The page: {page:.2f} MB."]


def in_a_process(name: str, trials: int, folder: str, *more: str) -> Found:
    print(f"{time.strftime('%H:%M:%S')} {name} {' '.join(more)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.bench.many", "--part", name, "--trials", str(trials),
               "--folder", folder, *(f"--executor={e}" for e in more)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(trials: int, executors: list[str]) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        found = {"trials": trials, "pure": in_a_process("pure", trials, folder)}
        for executor in executors:
            with tempfile.TemporaryDirectory() as place:
                found[executor] = in_a_process("swept", trials, place, executor)
    return found


def table(found: Found) -> list[str]:
    """Overheads, then the driver's memory."""
    trials, work = found["trials"], found["pure"]
    names = [n for n in ("inline", "ray") if n in found]
    lines = [
        f"{trials:,} trials of the network of `configs/smoke.yaml` (order random, {trials // 4} seeds), "
        f"without MLflow. The work alone, in a plain loop, no storage: {1000 * work['cpu'] / trials:.0f} ms "
        f"of CPU each ({1000 * work['wall'] / trials:.0f} ms of wall-clock time). Milliseconds per trial:",
        "",
        "| executor | wall clock | CPU, all processes | of which the driver | CPU beyond the work |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        first, last = found[name]["rows"][1], found[name]["rows"][-1]  # the start-up is told apart
        count = (last[0] - first[0]) / 1000
        wall, cpu, own = ((last[i] - first[i]) / count for i in (1, 2, 3))
        lines.append(f"| {name} | {wall:.0f} | {cpu:.0f} | {own:.0f} | "
                     f"{cpu - 1000 * work['cpu'] / trials:.0f} |")  # fmt: skip
    lines += ["", "Memory of the driver, MiB, after so many trials:", "",
              "| trials | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]  # fmt: skip
    for step in range(0, len(found[names[0]]["rows"]), 4):
        rows = [found[name]["rows"][step] for name in names]
        lines.append(f"| {rows[0][0]:,} | " + " | ".join(f"{row[4]:.0f}" for row in rows) + " |")
    after = " | ".join(f"{found[name]['after']:.0f}" for name in names)
    return [*lines, f"| all, frontier drawn | {after} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--executor", action="append", choices=["inline", "ray"])
    parser.add_argument("--part", choices=["pure", "swept"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of a long sweep that goes on")
    parser.add_argument("--minutes", type=float, default=12, help="of one call with --keep")
    given = parser.parse_args()
    if given.keep:
        print("\n".join(long(given.trials, given.keep, given.minutes)))
        return
    executors = given.executor or ["inline", "ray"]
    if given.part == "pure":
        print(json.dumps(pure(given.trials, given.folder)))
    elif given.part == "swept":
        print(json.dumps(swept(given.trials, given.folder, executors[0])))
    else:
        print("\n".join(table(measured(given.trials, executors))))


if __name__ == "__main__":
    main()
