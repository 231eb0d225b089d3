"""A sweep of many workers as a discrete-event simulation, from costs that were measured.

The driver is one process. Its main thread takes what ended, reads the record, tells the followers and hands
out the next trial; meanwhile MLflow's thread logs what it was told. Both are Python, so while both want to
run each gets half of one core; while the main thread waits for the storage, the other has it alone. Workers
sleep, write, and wait for the driver.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Of one trial; seconds.

    Attributes:
        driver: CPU of the driver's main thread. logging: CPU of MLflow's thread; 0 without MLflow.
        worker: CPU of a worker beside the trial's work. latency: of one request to the storage.
        driver_requests, worker_requests: to the storage, one after the other.
    """

    driver: float
    logging: float
    worker: float
    latency: float
    driver_requests: int
    worker_requests: int

    @property
    def most(self) -> float:
        """Trials per second that the driver's main thread can hand out, however many workers there are."""
        waits = self.latency * self.driver_requests
        return 1 / (self.driver + waits + min(self.driver, max(0.0, self.logging - waits)))

    @property
    def logged(self) -> float:
        """Trials per second that MLflow's thread keeps up with; more are logged later."""
        return 1 / (self.driver + self.logging)


@dataclass(frozen=True)
class Found:
    """Attributes:
    efficiency: the time that workers slept, as a share of all workers' time until the last trial ended.
    busy: share of the time that the driver's main thread was at it.
    behind: seconds that MLflow's thread goes on after the last trial.
    """

    efficiency: float
    busy: float
    behind: float


def simulate(workers: int, seconds: float, costs: Costs, rounds: int = 30, seed: int = 0) -> Found:
    """``workers`` times ``rounds`` trials of ``seconds``, give or take a tenth."""
    chance = random.Random(seed)
    beside = costs.worker + costs.latency * costs.worker_requests
    waits = costs.latency * costs.driver_requests
    # All workers are free at the start, as trials that ended at once.
    ended = [(0.0, number) for number in range(workers)]
    heapq.heapify(ended)
    free = slept = busy = backlog = 0.0  # the driver's next free moment; CPU that MLflow's thread has to do
    last = 0.0
    for number in range(workers * (rounds + 1)):
        at, worker = heapq.heappop(ended)
        start = max(at, free)
        backlog = max(0.0, backlog - (start - free))  # the core was idle, or MLflow's alone
        backlog = max(0.0, backlog - waits)
        shared = min(backlog, costs.driver)  # as long as both want it, each gets half of the core
        free = start + waits + costs.driver + shared
        backlog += costs.logging * (number >= workers) - shared
        busy += free - start
        last = at
        if number < workers * rounds:
            work = seconds * chance.uniform(0.9, 1.1)
            slept += work
            heapq.heappush(ended, (free + work + beside, worker))
        if not ended:
            break
    return Found(slept / (workers * last), busy / free, backlog)
