"""Audits in the storage.

``audits/nets/<name>.json``: the entries of one net, under a name that is what they rest on: the model's
bytes, changed weights and mask, the images and the version of the audits. Nets that several states share, as
the BadNet, are audited once. ``audits/<sweep>/<trial>-<step>.json``: the audit of a state as it was shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from prune_core.audits.entries import AUDITS_VERSION, Entry, Skipped
from sweeps.limits import DAMAGE, NAME
from sweeps.storage.storage import Storage

MAX_BYTES = 2**24


class AuditStore:
    """The audits of a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def net_name(self, model_digest: str, mask_digest: str, valid_digest: str, test_digest: str) -> str:
        """``model_digest``: changed weights included."""
        parts = [AUDITS_VERSION, model_digest, mask_digest, valid_digest, test_digest]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def entries(self, net: str) -> dict[str, Entry]:
        """Of a net, by their keys; none of a damaged file, which is written again."""
        try:
            found = [Entry.from_json(value) for value in self._read(f"audits/nets/{net}.json")["entries"]]
        except DAMAGE:
            return {}
        return {entry.key: entry for entry in found}

    def keep(self, net: str, entries: Iterable[Entry]) -> None:
        """Whole or not at all."""
        data = {"version": AUDITS_VERSION, "entries": [entry.to_json() for entry in entries]}
        self.storage.write_bytes(f"audits/nets/{net}.json", json.dumps(data).encode())

    def state(self, sweep: str, trial: str, step: int) -> dict[str, Any] | None:
        """The audit of a state in the form of ``goodnet audit --json``; None where there is none, a damaged
        one, or one of another version of the audits, whose figures are not to be compared with today's."""
        try:
            found = self._read(self._path(sweep, trial, step))
            for entries in found["subjects"].values():
                for entry in entries:
                    Entry.from_json(entry)
            for one in found["skipped"]:
                Skipped(one["audit"], one["why"])
            same = (found.get("version"), found["sweep"], found["trial"], found["step"])
        except DAMAGE:
            return None
        return found if same == (AUDITS_VERSION, sweep, trial, step) else None

    def outdated(self, sweep: str, trial: str, step: int) -> bool:
        """Whether another version of the audits has left one of this state."""
        try:
            return self._read(self._path(sweep, trial, step)).get("version") != AUDITS_VERSION
        except DAMAGE:
            return False

    def keep_state(self, found: dict[str, Any]) -> str:
        """The name of its file."""
        path = self._path(found["sweep"], found["trial"], found["step"])
        self.storage.write_bytes(path, json.dumps(found).encode())
        return path

    def states(self, sweep: str) -> list[dict[str, Any]]:
        """Of every state of a sweep that has been audited."""
        found = []
        for name in self.storage.names(f"audits/{sweep}"):
            trial, _, step = name.removesuffix(".json").rpartition("-")
            if NAME.fullmatch(trial) and step.isdecimal():
                found.append(self.state(sweep, trial, int(step)))
        return [one for one in found if one is not None]

    def _path(self, sweep: str, trial: str, step: int) -> str:
        return f"audits/{sweep}/{trial}-{step}.json"

    def _read(self, path: str) -> dict[str, Any]:
        data = self.storage.read_bytes(path)
        if data is None or len(data) > MAX_BYTES:
            raise ValueError("no such file, or one larger than any of ours")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not an audit")
        return value
