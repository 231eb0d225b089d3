"""The driver: ``python -m fuzz --count 100000 --seed 1`` (``make fuzz``).

Each input runs in a child with bounds: 5 s of computing, 1 GiB of memory beyond what the child had
at its start. A child that dies is replaced, and the next input goes on. What is watched:

- a traceback: anything raised but InputError, and messages of more than one line;
- a hang: computing for more than 5 s where the product does not end it by itself;
- growth: more than 1 GiB of memory, or torch refused it where the product has no bound;
- outside: any file opened for writing, or any program started, outside the working folder; and any
  access (inotify) to the folder beside it that hostile files point to.

A death by a signal while the reader process would be at work is what that process is for: counted
as "stopped the reader", not as a failure; a user sees one line.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True

from fuzz.feed import CORPUS, KINDS, ROOT, SECONDS, Feeder, write_corpus  # noqa: E402

GROWTH = 2**30
WALL_SECONDS = 60.0  # of one input on a busy machine, before it counts as a hang
START_SECONDS = 200.0  # to import torch on a busy machine
FIELDS = ("number", "stage", "done", "taken", "refused", "stopped", "failed", "slowest_us", "peak_kb", "busy")


class Board:
    """Counters of one lane and kind that survive the child that counts."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 0)

    def __getitem__(self, name: str) -> int:
        return int(struct.unpack_from("q", self.shared, 8 * FIELDS.index(name))[0])

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self.shared, 8 * FIELDS.index(name), value)


def run_child(feeder: Feeder, kind: str, numbers: range, board: Board, log: Path) -> None:
    """Feed inputs of a kind until the last."""
    board["busy"] = 1
    base = _pages()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        board["number"], board["stage"] = number, 0
        data = feeder.make(kind, number)
        resource.setrlimit(resource.RLIMIT_AS, (base + GROWTH + 2**28, -1))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        begun = time.process_time()
        what, reason = "refused", None
        try:
            reason = feeder.feed(kind, data, lambda stage: board.__setitem__("stage", stage == "reader"))
            if reason is None:
                what = "taken"
            elif "\n" in reason or "allocate memory" in reason or not reason.strip():
                what = "failed"
        except BaseException:
            what, reason = "failed", traceback.format_exc()
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, -1))
        if what == "failed":
            _note(log, kind, number, str(reason))
        board["slowest_us"] = max(board["slowest_us"], int(1e6 * (time.process_time() - begun)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
        board["peak_kb"] = max(board["peak_kb"], grown)
        board[what] += 1
        board["done"] += 1
    board["busy"] = 0


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _watch_opens(folder: Path, top: Path) -> None:
    """Writing outside the working folder, and starting programs, is a failure at once."""
    inside = (str(folder.resolve()), str(top / "board-"), str(top / "failures."), "/dev/null", "/proc/self/")

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str):
            mode, flags = given[1], given[2]
            writes = any(c in (mode or "") for c in "wxa+") or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and not os.path.realpath(given[0]).startswith(inside):
                raise RuntimeError(f"outside: {given[0]} opened to write")
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
            raise RuntimeError(f"outside: {event} {given!r}")

    sys.addaudithook(hook)


def _note(log: Path, kind: str, number: int, text: str) -> None:
    with log.open("a") as file:
        file.write(json.dumps({"kind": kind, "number": number, "what": text[-3000:]}) + "\n")


def run_lane(top: Path, lane: int, lanes: int, count: int, seed: int, kinds: tuple[str, ...]) -> None:
    """All inputs of a lane, with as many children as that takes. They are started fresh: forked
    ones would wait for threads of Arrow that they do not have."""
    (top / f"lane{lane}").mkdir()
    boards = {kind: Board(top / f"board-{lane}-{kind}") for kind in kinds}
    given = json.dumps([str(top), lane, lanes, count, seed, kinds])
    said = top / f"lane{lane}.err"
    # Whole paths: the child works in another folder.
    places = (ROOT, ROOT / "tests", ROOT / "tests" / "nets")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    while open_kinds := [k for k in kinds if boards[k]["done"] < len(range(lane, count, lanes))]:
        board = boards[open_kinds[0]]
        board["number"] = -1
        with said.open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "fuzz", "--worker", given],
                cwd=top / f"lane{lane}",
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        status, kind = _wait(child, boards)
        if status == 0:
            continue
        board = boards[kind]
        name = signal.Signals(-status).name if status < 0 else f"exit {status}"
        if board["number"] < 0:  # no input is to blame, and the next child would fare no better
            _note(
                top / "failures.jsonl",
                kind,
                -1,
                f"a child did not start: {name}\n" + said.read_text("utf-8", "replace"),
            )
            return
        # It died of the input at hand.
        if board["stage"] and status < 0:
            board["stopped"] += 1
        else:
            board["failed"] += 1
            _note(top / "failures.jsonl", kind, board["number"], f"died: {name}")
        board["done"] += 1


def work(given: str) -> None:
    """One child: see ``run_lane``."""
    folder, lane, lanes, count, seed, kinds = json.loads(given)
    top = Path(folder)
    home, log = top / f"lane{lane}", top / "failures.jsonl"
    os.environ.update(HOME=str(home), TMPDIR=str(home))
    tempfile.tempdir = str(home)
    feeder = Feeder.at(home, seed)
    _watch_opens(home, top)
    for kind in kinds:
        board = Board(top / f"board-{lane}-{kind}")
        run_child(feeder, kind, range(lane, count, lanes)[board["done"] :], board, log)


def _wait(child: subprocess.Popen[bytes], boards: dict[str, Board]) -> tuple[int, str]:
    """Its exit status and the kind at hand; killed when one input takes too long."""
    # Looks are counted, not the clock: a paused machine is no hang.
    before, looks = "", 0
    while (status := child.poll()) is None:
        now = str([(board["number"], board["done"]) for board in boards.values()])
        looks = looks + 1 if now == before else 0
        before = now
        if looks * 0.05 > WALL_SECONDS + START_SECONDS:
            child.kill()
            child.wait()
            status = -signal.SIGKILL
            for board in boards.values():
                board["stage"] = 0  # waiting is never the reader's right
            break
        time.sleep(0.05)
    return status, next((k for k, b in boards.items() if b["busy"]), next(iter(boards)))


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Names of files in ``folder`` that anyone opened, changed, made or deleted (Linux)."""
    touched: list[str] = []
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    if fd < 0 or libc.inotify_add_watch(fd, str(folder).encode(), 0xFFF) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    try:
        yield touched
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, 65536):
                while data:
                    _, mask, _, length = struct.unpack_from("iIII", data)
                    touched.append(f"{data[16 : 16 + length].rstrip(bytes(1)).decode()} ({mask:#x})")
                    data = data[16 + length :]
    finally:
        os.close(fd)


def fuzz(count: int, seed: int, lanes: int = 2, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """``count`` inputs or a few more, spread evenly over ``kinds``. Figures by kind, and what failed."""
    top = Path(tempfile.mkdtemp(prefix="goodnet-fuzz-"))
    outside, log = top / "outside", top / "failures.jsonl"
    outside.mkdir()
    (outside / "canary.bin").write_bytes(b"\0" * 4096)
    shutil.copyfile(outside / "canary.bin", outside / "canary.h5")
    started = time.monotonic()
    try:
        with watched(outside) as touched:
            threads = []
            for lane in range(lanes):
                threads.append(
                    threading.Thread(
                        target=run_lane, args=(top, lane, lanes, -(-count // len(kinds)), seed, kinds)
                    )
                )
                threads[-1].start()
            for thread in threads:
                thread.join()
        found = {kind: _sum([Board(top / f"board-{lane}-{kind}") for lane in range(lanes)]) for kind in kinds}
        failures = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return {
            "seed": seed,
            "seconds": time.monotonic() - started,
            "kinds": found,
            "outside": touched,
            "failures": failures,
        }
    finally:
        shutil.rmtree(top)


def _sum(boards: list[Board]) -> dict[str, int]:
    names = ("done", "taken", "refused", "stopped", "failed")
    found = {name: sum(board[name] for board in boards) for name in names}
    return found | {name: max(b[name] for b in boards) for name in ("slowest_us", "peak_kb")}


def table(result: dict[str, Any]) -> str:
    """Figures by kind, as Markdown."""
    lines = [
        "| kind | inputs | taken | refused in one line | stopped the reader | failures | slowest, s |"
        " largest growth, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, f in result["kinds"].items():
        lines.append(
            f"| {kind} | {f['done']:,} | {f['taken']:,} | {f['refused']:,} | {f['stopped']:,} | "
            f"{f['failed']:,} | {f['slowest_us'] / 1e6:.2f} | {f['peak_kb'] / 1024:.0f} |"
        )
    total = sum(f["done"] for f in result["kinds"].values())
    lines.append(
        f"\n{total:,} inputs of seed {result['seed']} in {result['seconds']:.0f} s; touched outside "
        f"the working folder: {', '.join(result['outside']) or 'nothing'}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--lanes", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--only", help="kind:number, one input in this process; to look at a failure")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write-corpus", action="store_true", help="make tests/fuzz/corpus anew")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        return
    if given.write_corpus:
        write_corpus(CORPUS)
        return
    if given.only:
        kind, number = given.only.split(":")
        with tempfile.TemporaryDirectory() as folder:
            feeder = Feeder.at(Path(folder), given.seed)
            data = feeder.make(kind, int(number))
            print(feeder.feed(kind, data, lambda stage: print("stage:", stage, flush=True)))
        return
    result = fuzz(given.count, given.seed, given.lanes, tuple(given.kinds.split(",")))
    if given.json:
        print(json.dumps(result))
        sys.exit(1 if result["failures"] or result["outside"] else 0)
    for failure in result["failures"][:50]:
        print(f"--only {failure['kind']}:{failure['number']} --seed {given.seed}\n{failure['what']}\n")
    print(table(result))
    sys.exit(1 if result["failures"] or result["outside"] else 0)


if __name__ == "__main__":
    main()
