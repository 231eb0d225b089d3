"""The Ray cluster that there is, or one started here: connecting, and calling every node of it. Only files
of this folder import ray."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tenacity import Retrying, stop_after_attempt

from prune_core.errors import InputError, Unavailable
from sweeps.config.schema import ResourcesConfig
from sweeps.doctor.nodes import diagnose_nodes
from sweeps.execution.gpu import take_gpu
from sweeps.execution.ray_private import errors_in_one_line, only_on_this_machine, show_token
from sweeps.execution.stopping import stoppable
from sweeps.inputs.load import Parcel
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.storage.retry import persistently
from sweeps.storage.storage import Storage

T = TypeVar("T")
R = TypeVar("R")
Tell = Callable[[str], None]

FULL = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
_STORE = "Ray's object store is full"
_ADVICE = (
    "free space (`ray memory` lists its use), or give Ray more memory (`ray start --object-store-memory`) "
    "or disk; the same command goes on"
)

LOCAL_STARTS = 2
CONNECT_SECONDS = 5.0  # a port on a private network answers at once or not at all
NODE_SECONDS = 300.0  # a first worker of a busy node takes its time to import torch
_EXPECTED = "expected a Ray cluster that answers there, or no RAY_ADDRESS for one on this machine"


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS or one on this machine, or start a local one; leave things
    as they were. Raises Unavailable where nothing answers, this machine is not part of it, or none starts
    here; InputError for an address that is none, or a token that does not fit."""
    mine = not ray.is_initialized()
    if mine:
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.ERROR)
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _check_port(address)
            show_token()
        _join(address)
    try:
        with errors_in_one_line() if mine else contextlib.nullcontext():
            yield
    finally:
        if mine:
            ray.shutdown()


def _check_port(address: str) -> None:
    """Ray itself waits more than a minute for a port where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and "local"
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"RAY_ADDRESS {address!r}: {reason}; {_EXPECTED}") from None


def _join(address: str | None) -> None:
    # Workers import the package from where the driver did, also when it is not installed.
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))

    def init() -> None:
        with only_on_this_machine():
            ray.init(
                include_dashboard=None if address else False,
                dashboard_host="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": paths}},
            )

    # Ray gives the processes that it starts here half a minute, which a busy machine may not have.
    starts = 1 if address else LOCAL_STARTS
    try:
        Retrying(stop=stop_after_attempt(starts), before_sleep=lambda _: ray.shutdown(), reraise=True)(init)
    except Exception as error:  # of many kinds: no answer, other versions, a token that does not fit
        reason = " ".join((f"{error}: {error.__cause__}" if error.__cause__ else str(error)).split())[:300]
        if address is None:
            ray.shutdown()
            raise Unavailable(
                f"Ray did not start on this machine in {starts} attempts: {reason}; expected a machine with "
                "time and memory for it; --executor inline sweeps without Ray"
            ) from None
        mistaken = isinstance(error, (ValueError, ray.exceptions.AuthenticationError))
        kind = InputError if mistaken else Unavailable
        raise kind(f"RAY_ADDRESS {address!r}: {reason}; {_EXPECTED}") from None


def put(value: T, tell: Tell) -> ray.ObjectRef[T]:
    """``value`` in Ray's object store, waited for while that is full. Raises StorageAway."""
    return persistently(lambda: ray.put(value), FULL, _STORE, _ADVICE, tell)


def get(place: ray.ObjectRef[T], tell: Tell) -> T:
    """The value that was put there, as above."""
    return persistently(lambda: cast(T, ray.get(place)), FULL, _STORE, _ADVICE, tell)


def on_every_node(function: Callable[[], T]) -> dict[str, T | Exception]:
    """What ``function`` returns, or raises, in a worker of each node; by the node's address. An ImportError
    where what it needs is not installed. It takes no CPU from trials. Raises like ``connected``."""
    with connected():
        remote = ray.remote(num_cpus=0, max_retries=0)(_visitor(ray.cloudpickle.dumps(function)))
        nodes = [node for node in ray.nodes() if node["Alive"]]
        calls = {
            node["NodeManagerAddress"]: remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in nodes
        }
        answers: dict[str, T | Exception] = {}
        ray.wait(list(calls.values()), num_returns=len(calls), timeout=NODE_SECONDS)
        for address, call in calls.items():
            try:
                answers[address] = ray.get(call, timeout=0.1)
            except Exception as error:  # a node can fail in any way; that is what is asked
                answers[address] = error
                ray.cancel(call, force=True)
        return answers


def over_workers(
    work: Callable[[TrialInputs, Storage, T], R],
    items: Sequence[T],
    inputs: TrialInputs,
    storage: Storage,
    resources: ResourcesConfig,
    tell: Tell,
) -> Iterator[R | Exception]:
    """What ``work`` makes of each item, or raises, in workers that take as much of a node as a trial does; in
    the order in which they end. ``work`` is a function of a module; data and network travel once. Raises like
    ``connected``, and InputError where nodes do not agree."""
    with stoppable(), connected(), stoppable():
        nodes_agree(storage)
        parcel = put(Parcel.of(inputs), tell)
        remote: Any = ray.remote(num_cpus=resources.cpu, num_gpus=resources.gpu)(_item)
        left = [remote.remote(work, item, [parcel], storage.address, resources) for item in items]
        while left:
            (done,), left = ray.wait(left, num_returns=1)
            try:
                yield ray.get(done)
            except Exception as error:  # whatever it is, the others go on
                yield error


def _item(
    work: Callable[[TrialInputs, Storage, T], R],
    item: T,
    parcel: list[ray.ObjectRef[Parcel]],
    place: str,
    resources: ResourcesConfig,
) -> R:
    """In a worker. ``parcel`` in a list, as Ray would fetch it anew for each call else."""
    torch.set_num_threads(max(1, math.floor(resources.cpu)))
    inputs = ray.get(parcel[0]).opened()
    take_gpu(inputs.model.graph, resources.gpu)
    return work(inputs, Storage(place, begun=True), item)


def _visitor(work: bytes) -> Callable[[], Any]:
    """A function that runs pickled ``work``. It is pickled itself by what it says, not by its name, so it
    also starts where this package is not installed, and its answer says so by type."""

    def visit() -> Any:
        import pickle

        try:
            function = pickle.loads(work)
        except (ImportError, AttributeError) as error:  # no such module; another version of it
            return ImportError(str(error))
        return function()

    return visit


def nodes_agree(storage: Storage) -> None:
    """Raises InputError unless all nodes of a cluster have the driver's versions and see its storage.
    Asks nobody where there is one node, this one."""
    with connected():
        if sum(node["Alive"] for node in ray.nodes()) < 2:
            return
    wrong = [c for c in diagnose_nodes(storage, on_every_node, whole=False) if not c["ok"]]
    if wrong:
        more = f" (and {len(wrong) - 1} more; see goodnet doctor)" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]['name']}: {wrong[0]['detail']}{more}")
