"""What else was found of a net, if anybody has looked: a scan for triggers, audits of the GoodNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage

Json = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Attributes:
    scan: in the form of ``goodnet scan --json``; None where nobody has scanned.
    pictures: PNG files of the inverted triggers, by place in ``scan["triggers"]`` and kind ("pattern",
        "mask", "stamped").
    audit: in the form of ``goodnet audit --json``; None where nobody has audited this state.
    """

    scan: Json | None = None
    pictures: Mapping[tuple[int, str], bytes] = field(default_factory=dict)
    audit: Json | None = None


def evidence_of(
    storage: Storage, manifest: Manifest, point: FrontierPoint | None, scan: Path | None
) -> Evidence:
    """What is given or lies in the storage."""
    audit = None
    if point is not None:
        audit = AuditStore(storage).state(manifest.name, point.trial_key, point.step)
    return Evidence(audit=audit)
