"""What else was found of a net, if anybody has looked: a scan for triggers, audits of the GoodNet.

``scan.json`` and its pictures may come from anywhere: they are read within bounds, pictures by the reader
process and only from the folder of the file, and are drawn anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_core.errors import InputError
from prune_core.reader import client as contained
from sweeps.choosing.audited import audit_of
from sweeps.decision.images import png
from sweeps.limits import DAMAGE
from sweeps.results import FrontierPoint
from sweeps.storage.audit_store import AuditStore
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage

Json = dict[str, Any]

IN_STORAGE = "scan/scan.json"  # where a scan is looked for
KINDS = ("pattern", "mask", "stamped")
VERDICTS = ("suspected", "nothing found", "cannot tell")
LARGEST = 16 * 2**20  # bytes of a scan.json
SHOWN = 4  # triggers


@dataclass(frozen=True)
class Evidence:
    """Attributes:
    scan: what the page has of ``scan.json``; None where nobody has scanned.
    pictures: PNG files of the inverted triggers, by place in ``scan["triggers"]`` and kind (``KINDS``).
    audit: in the form of ``goodnet audit --json``; None where nobody has audited this state.
    """

    scan: Json | None = None
    pictures: Mapping[tuple[int, str], bytes] = field(default_factory=dict)
    audit: Json | None = None


def evidence_of(
    storage: Storage, manifest: Manifest, point: FrontierPoint | None, scan: Path | None
) -> Evidence:
    """The scan of a file, or of ``scan/scan.json`` in the storage, and the audits of a state.

    Raises InputError for a file that is no scan, or is one of another network; in the storage it is left
    aside then.
    """
    audit = None
    if point is not None:
        audit = audit_of(point, AuditStore(storage), manifest)
    model = manifest.digests["badnet"]
    if scan is not None:
        return Evidence(*read_scan(scan, model), audit)
    there = None if storage.local is None else storage.local / IN_STORAGE
    if there is not None and there.is_file():
        try:
            return Evidence(*read_scan(there, model), audit)
        except InputError:
            pass
    return Evidence(audit=audit)


def read_scan(path: Path, model: str) -> tuple[Json, dict[tuple[int, str], bytes]]:
    """What ``goodnet scan`` has written, and pictures of the triggers that it has found.

    Args:
        model: digest of the network that it has to be of.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"--scan {path}: larger than any scan of ours")
        told = _checked(json.loads(path.read_bytes()))
    except InputError:
        raise
    except DAMAGE:
        raise InputError(f"--scan {path}: not a scan; expected the scan.json of goodnet scan --out") from None
    if told.pop("model_digest") != model:
        raise InputError(
            f"--scan {path}: a scan of another network ({told['model']}); expected one of this sweep's BadNet"
        )
    pictures = {}
    for at, trigger in enumerate(told["triggers"]):
        for kind in KINDS:
            drawn = _picture(path.parent, trigger.pop(kind))
            if drawn is not None:
                pictures[at, kind] = drawn
    return told, pictures


def _checked(value: Any) -> Json:
    """The part that is shown. Raises any of ``DAMAGE``."""
    if value["verdict"] not in VERDICTS:
        raise ValueError("no verdict of ours")
    triggers = [
        {
            "class": _count(t["class"]),
            "kind": str(t["kind"])[:40],
            "size": _number(t["size"]),
            "success": _number(t["success"]),
            **{kind: t.get(kind) for kind in KINDS},
        }
        for t in value["triggers"][:SHOWN]
    ]
    return {
        "model": str(value["model"])[:200],
        "model_digest": str(value["model_digest"]),
        "images": _count(value["images"]),
        "held_out": _count(value["held_out"]),
        "classes": _count(value["classes"]),
        "verdict": value["verdict"],
        "why": str(value["why"])[:1000],
        "suspected": [_count(c) for c in value["suspected"][:20]],
        "triggers": triggers,
    }


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("no number")
    return number


def _picture(folder: Path, name: Any) -> bytes | None:
    """Drawn anew; None where there is none in the folder, or it is damaged."""
    if not isinstance(name, str) or name != Path(name).name or not (folder / name).is_file():
        return None
    try:
        ((pixels,)) = contained.read("picture", folder / name)[1]
        return png(pixels[..., :3].transpose(2, 0, 1), 0.0, 255.0)
    except (InputError, *DAMAGE):
        return None
