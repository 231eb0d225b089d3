"""What one check of the doctor says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError, Unavailable

Check = dict[str, Any]


def check(name: str, ask: Callable[[], str]) -> Check:
    try:
        return {"name": name, "ok": True, "level": "ok", "detail": ask()}
    except Exception as error:  # whatever breaks is a finding
        return failed(name, error)


def failed(name: str, error: Exception) -> Check:
    kind = "" if isinstance(error, (InputError, Unavailable)) else f"{type(error).__name__}: "
    detail = kind + (" ".join(str(error).split())[:500] or "no message")
    return {"name": name, "ok": False, "level": "error", "detail": detail}


def told(finding: Finding) -> Check:
    """A finding of the look at the data, as a check; its counts go with it."""
    said = finding.to_json()
    return {
        "name": finding.name,
        "ok": finding.level != "error",
        "level": finding.level,
        "detail": finding.detail,
        "counts": said["counts"],
    }
