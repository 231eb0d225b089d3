"""What a sweep's run says of the sweep, as tags. Knows nothing of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_core.data.checks.findings import LEVELS
from sweeps.storage.manifest import Manifest


def found_in(manifest: Manifest) -> dict[str, Any]:
    """How many findings of each level the look at the data has made, and their names."""
    found = manifest.findings
    if found is None:
        return {}
    facts: dict[str, Any] = {
        f"goodnet.data.{level}s": sum(f.level == level for f in found) for level in LEVELS
    }
    return {**facts, "goodnet.data.findings": ", ".join(dict.fromkeys(f.name for f in found)) or "none"}


def flat(prefix: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"<prefix>.a.b": 1}``; None left out."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(f"{prefix}.{key}", value)
        elif value is not None:
            out[f"{prefix}.{key}"] = value
    return out
