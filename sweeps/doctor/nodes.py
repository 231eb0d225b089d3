"""Checks on every node of a cluster: the driver's versions, and a storage that all of them share."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import pyarrow as pa

from prune_core import ALGORITHM_VERSION
from prune_core.errors import InputError
from sweeps.doctor.checks import diagnose_worker
from sweeps.doctor.findings import Check, check, failed
from sweeps.storage.storage import Storage, open_storage


class OnEveryNode(Protocol):
    """Calls a function on each node: what it returns or raises there, by the node's address."""

    def __call__(self, function: Callable[[], Visited], /) -> Mapping[str, Visited | Exception]: ...


@dataclass(frozen=True)
class Visited:
    """What was found on a node, and the name of the file that it left in the storage."""

    checks: list[Check]
    left: str | None = None


def versions() -> dict[str, str]:
    """What must be the same wherever a part of a sweep runs: else its trials do not compare."""
    packages = {name: metadata.version(name) for name in ("goodnet", "torch", "ray")}
    return {**packages, "algorithm": str(ALGORITHM_VERSION), "Python": platform.python_version()}


def diagnose_nodes(
    storage: Storage | None, on_every_node: OnEveryNode, gpu: float = 0, whole: bool = True
) -> list[Check]:
    """The checks of each node: what is well everywhere is one entry, what is not has one a node.

    ``storage``: the configuration's, where there is one. ``gpu``: how many a trial is to have. ``whole``:
    all of the doctor's checks; otherwise only what a sweep cannot do without, versions and storage.
    """
    if storage is None:
        answers = on_every_node(_Visit(versions(), whole, gpu))
        return _gathered({node: _checks(answer) for node, answer in answers.items()})
    # A name that is new each time: a file system may remember for seconds that one was not there.
    folder = f".nodes-{uuid.uuid4().hex}"
    try:
        storage.write_bytes(f"{folder}/driver", b"goodnet")
        answers = on_every_node(_Visit(versions(), whole, gpu, storage.address, folder))
        return _gathered({node: _checks(answer, storage) for node, answer in answers.items()})
    finally:
        with suppress(OSError, pa.ArrowException):  # then a small folder stays behind
            storage.fs.delete_dir(storage.full(folder))


@dataclass(frozen=True)
class _Visit:
    """What is done on a node: the checks; and in ``folder`` of the storage, where the driver has left a
    file for all nodes, each node leaves one for it. ``address``: of the storage, as a process with another
    working folder must name it."""

    wanted: Mapping[str, str]
    whole: bool
    gpu: float
    address: str | None = None
    folder: str = ""

    def __call__(self) -> Visited:
        checks = [check("versions", self._versions)]
        if self.whole:
            checks += diagnose_worker(self.gpu, self.address)
        if self.address is None:
            return Visited(checks)
        try:
            return Visited(checks, self._meet(open_storage(self.address)))
        except Exception as error:  # whatever breaks is a finding
            return Visited([*checks, failed("shared storage", error)])

    def _meet(self, storage: Storage) -> str:
        """Find the driver's file, leave one. Returns its name."""
        if storage.read_bytes(f"{self.folder}/driver") is None:
            raise InputError(
                f"{storage.place} on {platform.node()} is not the driver's: a file that the driver wrote "
                "is not there; storage must be a folder that all nodes mount, or a URI such as s3://"
            )
        name = f"{self.folder}/{uuid.uuid4().hex}"
        storage.write_bytes(name, b"goodnet")
        return name

    def _versions(self) -> str:
        here = versions()
        wrong = [
            f"{what} {here[what]} (driver: {self.wanted[what]})"
            for what in self.wanted
            if here[what] != self.wanted[what]
        ]
        if wrong:
            raise InputError(f"{platform.node()} has {', '.join(wrong)}; install the same on all nodes")
        return ", ".join(f"{what} {version}" for what, version in here.items())


def _checks(answer: Visited | Exception, storage: Storage | None = None) -> list[Check]:
    if isinstance(answer, Exception):
        missing = _of_kind(answer, ImportError)
        if missing is not None:
            answer = InputError(
                f"goodnet, or this version of it, is not installed there: {_last_line(missing)}"
            )
        return [failed("node", answer)]
    if storage is None or answer.left is None:
        return answer.checks
    left = answer.left
    return [*answer.checks, check("shared storage", lambda: _seen(storage, left))]


def _seen(storage: Storage, name: str) -> str:
    """On the driver: is a node's file there?"""
    if storage.read_bytes(name) is None:
        raise InputError(f"{storage.place}: the driver does not see a file that was written there")
    return "the driver and every node see each other's files"


def _of_kind(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first of that kind among an error and what caused it."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def _gathered(found: Mapping[str, list[Check]]) -> list[Check]:
    """One entry for what is well on all nodes, with each answer said once."""
    gathered: list[Check] = []
    for name in dict.fromkeys(c["name"] for checks in found.values() for c in checks):
        answers = {n: c for n, checks in found.items() for c in checks if c["name"] == name}
        well: dict[str, list[str]] = {}
        for node, answer in answers.items():
            if answer["ok"]:
                well.setdefault(answer["detail"], []).append(node)
            else:
                gathered.append({**answer, "name": f"worker {node}: {name}"})
        if len(found) == 1:
            said = "; ".join(well)
        else:
            said = "; ".join(f"{', '.join(nodes)}: {detail}" for detail, nodes in well.items())
        if well:
            gathered.append({"name": f"worker: {name}", "ok": True, "level": "ok", "detail": said})
    return gathered


def _last_line(error: BaseException) -> str:
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1][:200]
