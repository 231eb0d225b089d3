"""The sweeps of a storage, each in a line."""

from __future__ import annotations

from typing import Any

from prune_core.errors import InputError
from sweeps.overview.standing import read_standing
from sweeps.storage.manifest import read_manifest
from sweeps.storage.storage import Storage


def sweeps_of(storage: Storage) -> list[dict[str, Any]]:
    """How every sweep of a storage stands, the latest first, in the form of ``Standing.to_json``. One with a
    damaged manifest has ``state`` "damaged" and no figures. Nothing is written."""
    names = [name.removesuffix(".json") for name in storage.names("sweeps") if name.endswith(".json")]
    found = [_one(storage, name) for name in names]
    return sorted(found, key=lambda sweep: sweep["date"] or "", reverse=True)


def _one(storage: Storage, name: str) -> dict[str, Any]:
    try:
        return read_standing(storage, read_manifest(storage, name)).to_json()
    except InputError:
        empty = dict.fromkeys(("date", "seconds_left", "hypervolume", "frontier_size", "trials"))
        return {"sweep": name, "state": "damaged", **empty, "best": []}
