"""What a sweep's run says of the sweep, as tags. Knows nothing of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
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


def sweep_params(manifest: Manifest) -> dict[str, str]:
    """What tells a sweep from another of the same name: what it searches over, and its BadNet."""
    asked = manifest.config.sweep.model_dump(mode="json", exclude={"samples", "budget", "stop"})
    told = {key: _told(value) for key, value in asked.items() if value is not None}
    return {**told, **shared_params(manifest)}


def shared_params(manifest: Manifest) -> dict[str, str]:
    """What all trials of a sweep have in common."""
    # Digests are of pixels as the network gets them.
    pixels = flat("data", manifest.config.data.form.preprocessing.to_json())
    return {
        "badnet": PurePath(manifest.config.badnet).name,
        "badnet_digest": manifest.digests["badnet"][:12],
        **{key: str(value) for key, value in pixels.items()},
    }


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join("+".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)
    return str(value)
