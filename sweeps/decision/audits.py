"""Audits of the chosen state as rows of a table with traffic lights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIGHTS = {"green": "held", "amber": "weakened", "red": "broken"}
WORSE = {light: number for number, light in enumerate(LIGHTS)}


def audit_rows(audit: dict[str, Any] | None) -> dict[str, Any]:
    """Rows of the table: an audit at one setting, the worst light of its seeds, and for each subject the
    places of its entries."""
    subjects = {} if audit is None else audit["subjects"]
    shown = [s for s in ("goodnet", "badnet", "benign") if s in subjects]
    varied = _varied([entry for name in shown for entry in subjects[name]])
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for subject in shown:
        for place, entry in enumerate(subjects[subject]):
            key = (str(entry["audit"]), _words(entry["setting"], varied[entry["audit"]]))
            row = rows.setdefault(key, {"light": None, "worst": None, "at": {s: [] for s in shown}})
            row["at"][subject].append(place)
            if subject == "goodnet" and (row["light"] is None or WORSE[entry["light"]] > WORSE[row["light"]]):
                row |= {"light": entry["light"], "worst": place}
    told = [
        {"audit": audit.replace("-", " "), "setting": setting, **row}
        for (audit, setting), row in rows.items()
        if row["worst"] is not None
    ]
    return {
        "rows": told,
        "subjects": shown,
        "count": {light: sum(row["light"] == light for row in told) for light in LIGHTS},
    }


def _varied(entries: Sequence[Any]) -> dict[str, set[str]]:
    """Of each audit the settings that are not the same for all of its entries."""
    seen: dict[str, dict[str, set[str]]] = {}
    for entry in entries:
        for name, value in entry["setting"].items():
            seen.setdefault(entry["audit"], {}).setdefault(name, set()).add(str(value))
    return {
        entry["audit"]: {n for n, values in seen.get(entry["audit"], {}).items() if len(values) > 1}
        for entry in entries
    }


def _words(setting: Mapping[str, Any], varied: set[str]) -> str:
    """What tells an entry from others of its audit, for people."""
    return ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in setting.items() if n in varied)
