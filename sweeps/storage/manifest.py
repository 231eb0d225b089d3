"""What a sweep is, in the storage: its manifest, and the records of its trials."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError
from sweeps.config.schema import Config, make_config
from sweeps.limits import DAMAGE, NAME
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.journal import Journal
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

AT_A_TIME = 16  # requests for records


@dataclass(frozen=True)
class Manifest:
    """What a sweep is: its configuration and its trials. ``sweeps/<name>.json`` in the storage.

    ``findings``: of the look at the data before the first trial; None where there was none (version 0.1).
    ``looked``: the version of the rules that they were found by.
    """

    name: str
    config: Config
    trials: dict[str, TrialSettings]  # by trial key, in the order of the search space
    digests: dict[str, str]  # badnet, valid, test
    mlflow_run_id: str | None = None
    target_share: float = 0.0  # of clean validation images; attack success by chance
    findings: tuple[Finding, ...] | None = None
    looked: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "trials": {key: s.to_json() for key, s in self.trials.items()},
            "digests": self.digests,
            "mlflow_run_id": self.mlflow_run_id,
            "target_share": self.target_share,
            "findings": None if self.findings is None else [f.to_json() for f in self.findings],
            "looked": self.looked,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        trials = {k: TrialSettings.from_json(s) for k, s in value["trials"].items()}
        config = make_config(value["config"], f"sweep {value['name']}")
        name, digests, run_id = value["name"], value["digests"], value["mlflow_run_id"]
        if not (
            all(isinstance(part, str) and NAME.fullmatch(part) for part in (name, *trials))
            and isinstance(run_id, str | None)
            and all(isinstance(digests[key], str) for key in ("badnet", "valid", "test"))
        ):
            raise ValueError("not a manifest of goodnet")
        share, found = float(value.get("target_share", 0.0)), value.get("findings")
        findings = None if found is None else tuple(map(Finding.from_json, found))
        return cls(name, config, trials, digests, run_id, share, findings, int(value.get("looked", 0)))


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    data = json.dumps(manifest.to_json(), indent=1).encode()
    storage.write_bytes(f"sweeps/{manifest.name}.json", data)
    storage.write_bytes("sweeps/latest", manifest.name.encode())


def read_manifest(storage: Storage, name: str | None) -> Manifest:
    """The sweep of that name, with what its search has asked for since; without a name the one that
    ran last. Raises InputError."""
    if name is None:
        latest = storage.read_bytes("sweeps/latest")
        if latest is None:
            raise InputError(f"storage {storage.place!r} holds no sweep yet; run goodnet sweep first")
        name = latest.decode(errors="replace")
    data = storage.read_bytes(f"sweeps/{name}.json") if "/" not in name else None
    if data is None:
        known = [n.removesuffix(".json") for n in storage.names("sweeps") if n.endswith(".json")]
        raise InputError(
            f"storage {storage.place!r} holds no sweep {name!r}; it has {', '.join(known) or 'none'}"
        )
    try:
        manifest = Manifest.from_json(json.loads(data))
    except DAMAGE:
        raise InputError(f"sweep {name!r} in {storage.place!r}: its manifest is damaged") from None
    manifest.trials.update(Journal(storage, name).read())
    return manifest


def page_path(name: str) -> str:
    """A sweep's page, in its storage."""
    return f"sweeps/{name}.html"


def read_records(storage: Storage, keys: Iterable[str]) -> list[TrialRecord]:
    """The records that are there, in the order of ``keys``. Of a storage that is reached by network, several
    at a time: it is the waiting that takes long there."""
    store = RecordStore(storage)
    if storage.local is not None:
        return [r for r in map(store.read, keys) if r is not None]
    with ThreadPoolExecutor(AT_A_TIME, "records") as pool:
        return [r for r in pool.map(store.read, keys) if r is not None]
