"""The audit of a state that is kept, if it is of this very net on these images."""

from __future__ import annotations

from typing import Any

from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.manifest import Manifest


def audit_of(point: FrontierPoint, store: AuditStore, manifest: Manifest) -> dict[str, Any] | None:
    """The audit of a state; None where there is none of this very net on these images."""
    found = store.state(manifest.name, point.trial_key, point.step)
    if found is None:
        return None
    told = (found.get("model_digest"), found.get("mask_digest"), found.get("weights_digest"))
    data = found.get("data_digests")
    wanted = {name: manifest.digests[name] for name in ("valid", "test")}
    same = told == (manifest.digests["badnet"], point.mask.digest, point.weights) and data == wanted
    return found if same else None
