"""The files that ``goodnet pick`` has written and measured, if they still are what it measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sweeps.limits import DAMAGE
from sweeps.results import FrontierPoint

LARGEST = 64 * 2**20  # bytes of a page's figures

Json = dict[str, Any]


def files_name(sweep: str, point: FrontierPoint) -> str:
    """Of a picked state's files, without what tells them apart."""
    return f"{sweep}-{point.trial_key[:8]}-step{point.step}"


def signed_files(folder: Path, sweep: str, point: FrontierPoint) -> Json:
    """``signed``: the files with their figures, as the report that ``pick`` made beside them has them. {}
    where there is no such report, it is of another state, or a file is not the one that was measured."""
    facts = folder / f"{files_name(sweep, point)}-report.json"
    try:
        if facts.stat().st_size > LARGEST:
            return {}
        told = json.loads(facts.read_bytes())
        theirs, files = told["chosen"]["point"], told["files"]
        same = (theirs["trial_key"], theirs["step"]) == (point.trial_key, point.step)
        if not same or theirs["mask"] != json.loads(json.dumps(point.mask.to_json())):
            return {}
        for file in files:
            if hashlib.sha256((folder / Path(file["name"]).name).read_bytes()).hexdigest() != file["sha256"]:
                return {}
    except (OSError, *DAMAGE):
        return {}
    return {"signed": files}
