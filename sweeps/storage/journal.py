"""What a search has asked for, kept from the moment it asks: ``sweeps/<name>.asked/``, a file each.

A search does not know its trials beforehand, so a driver that is killed must leave behind which
trials are its own. A sweep that ends puts them into its manifest and deletes the files.
"""

from __future__ import annotations

import json
import time
import uuid

from sweeps.limits import DAMAGE, NAME
from sweeps.settings import TrialSettings
from sweeps.storage.storage import Storage


class Journal:
    """The files of one sweep. Two drivers of the same sweep add to it side by side."""

    def __init__(self, storage: Storage, sweep: str) -> None:
        self.storage, self.folder = storage, f"sweeps/{sweep}.asked"

    def add(self, key: str, settings: TrialSettings) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        data = json.dumps({"key": key, "settings": settings.to_json()}).encode()
        self.storage.write_bytes(f"{self.folder}/{name}", data)

    def read(self) -> dict[str, TrialSettings]:
        """By trial key, in the order in which they were asked for; damaged files are left out."""
        found = {}
        for name in self.storage.names(self.folder):
            try:
                value = json.loads(self.storage.read_bytes(f"{self.folder}/{name}") or b"")
                if NAME.fullmatch(value["key"]):
                    found[str(value["key"])] = TrialSettings.from_json(value["settings"])
            except DAMAGE:
                continue
        return found

    def delete(self, keys: set[str]) -> None:
        """The files of trials that the manifest holds now."""
        for name in self.storage.names(self.folder):
            path = f"{self.folder}/{name}"
            data = self.storage.read_bytes(path)
            try:
                gone = data is None or json.loads(data)["key"] in keys
            except DAMAGE:
                gone = True
            if gone:
                self.storage.delete(path)
