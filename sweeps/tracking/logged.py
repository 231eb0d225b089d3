"""Whether MLflow still holds all of a sweep; told without mlflow, which takes seconds to import."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sweeps.limits import DAMAGE
from sweeps.storage.storage import Storage
from sweeps.tracking.address import SQLITE, sqlite_path


def digest(what: Any) -> str:
    """Of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


class Logged:
    """``sweeps/<name>.logged`` in the storage: what was in MLflow when all of a sweep was.

    It counts only while the database is the very file that was written then (size and time), so whoever
    else writes to it, or takes it away, makes the next call look for itself. Of MLflow behind a server
    nothing is remembered.
    """

    def __init__(self, storage: Storage, name: str, uri: str) -> None:
        self.storage, self.file, self.uri = storage, f"sweeps/{name}.logged", uri

    def read(self) -> dict[str, Any] | None:
        """What ``write`` was given, while it holds."""
        try:
            found = json.loads(self.storage.read_bytes(self.file) or b"null")
            fresh = found["database"] == self._database()
            return dict(found["holds"]) if fresh and found["database"] is not None else None
        except DAMAGE:
            return None

    def write(self, holds: dict[str, Any]) -> None:
        """Remember what MLflow holds now; a storage that is away is no reason to fail."""
        database = self._database()
        if database is None:
            return
        try:
            self.storage.write_bytes(self.file, json.dumps({"database": database, "holds": holds}).encode())
        except DAMAGE:
            return

    def _database(self) -> list[Any] | None:
        if not self.uri.startswith(SQLITE):
            return None
        path = sqlite_path(self.uri)
        files = [Path(f"{path}{end}") for end in ("", "-wal")]
        stats = [f.stat() for f in files if f.exists()]
        if not stats or not path.resolve().with_name("mlartifacts").is_dir():
            return None
        return [self.uri, *([s.st_size, s.st_mtime_ns] for s in stats)]
