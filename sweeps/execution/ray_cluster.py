"""The Ray cluster that there is, or one started here: connecting, and calling every node of it. Only this
file, ``ray_executor`` and ``ray_search`` import ray."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tenacity import Retrying, stop_after_attempt

from prune_core.errors import InputError
from sweeps.config.schema import Config
from sweeps.doctor.nodes import diagnose_nodes
from sweeps.storage.retry import persistently
from sweeps.storage.storage import Storage

T = TypeVar("T")
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
    as they were. Raises InputError where nothing answers, or this machine is not part of it."""
    mine = not ray.is_initialized()
    if mine:
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.ERROR)
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _check_port(address)
            # Ray shows its token by itself only to a cluster that it finds by itself, not to a named one.
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        _join(address)
    try:
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
        raise _refused(address, str(error) or type(error).__name__) from None


def _join(address: str | None) -> None:
    # Workers import the package from where the driver did, also when it is not installed.
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))

    def init() -> None:
        # Whoever reaches a port of Ray can run code. Of a Ray that is started here all ports are on
        # 127.0.0.1: Ray has no option for that on Linux, only what it does by itself on other systems.
        alone = services.canonicalize_bootstrap_address(None) is None  # type: ignore[arg-type]
        with mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", not alone):
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
            raise InputError(
                f"Ray did not start on this machine in {starts} attempts: {reason}; expected a machine with "
                "time and memory for it; --executor inline sweeps without Ray"
            ) from None
        raise _refused(address, reason) from None


def _refused(address: str, reason: str) -> InputError:
    return InputError(f"RAY_ADDRESS {address!r}: {reason}; {_EXPECTED}")


def put(value: T, tell: Tell) -> ray.ObjectRef[T]:
    """``value`` in Ray's object store, waited for while that is full. Raises StorageAway."""
    return persistently(lambda: ray.put(value), FULL, _STORE, _ADVICE, tell)


def get(place: ray.ObjectRef[T], tell: Tell) -> T:
    """The value that was put there, as above."""
    return persistently(lambda: cast(T, ray.get(place)), FULL, _STORE, _ADVICE, tell)


def on_every_node(function: Callable[[], T]) -> dict[str, T | Exception]:
    """What ``function`` returns, or raises, in a worker of each node; by the node's address. It takes
    no CPU from trials. Raises InputError like ``connected``."""
    with connected():
        remote = ray.remote(num_cpus=0, max_retries=0)(lambda: function())
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


def nodes_agree(config: Config, storage: Storage) -> None:
    """Raises InputError unless all nodes of a cluster have the driver's versions and see its storage.
    Asks nobody where there is one node, this one."""
    with connected():
        if sum(node["Alive"] for node in ray.nodes()) < 2:
            return
    wrong = [c for c in diagnose_nodes(config, storage, on_every_node, whole=False) if not c["ok"]]
    if wrong:
        more = f" (and {len(wrong) - 1} more; see goodnet doctor)" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]['name']}: {wrong[0]['detail']}{more}")
