"""Audits of the chosen state as rows of a table with traffic lights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIGHTS = {"green": "held", "amber": "weakened", "red": "broken"}
WORSE = {light: number for number, light in enumerate(LIGHTS)}
IDLE = "idle"  # of an attack that the network as handed in does not fall for either: holding it is no merit
WORDS = {**LIGHTS, IDLE: "says nothing"}
# For people who do not know the project; "goodnet audit" has the names.
AUDITS_IN_WORDS = {
    "as-it-is": "the attack as it was",
    "reactivation": "trained further, with a few triggered pictures among ordinary ones",
    "clean-tuning": "trained further, with ordinary pictures alone",
    "perturbation": "a small change of every pixel, sought in the network",
    "changed-trigger": "the trigger, changed",
    "inversion": "the smallest trigger for the attacker's class, sought in the network",
    "int8": "the network in eight bits",
}


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
        {"audit": AUDITS_IN_WORDS.get(audit, audit.replace("-", " ")), "setting": setting, **row}
        for (audit, setting), row in rows.items()
        if row["worst"] is not None
    ]
    for row in told:
        as_handed_in = [subjects["badnet"][at] for at in row["at"].get("badnet", ())]
        if row["light"] == "green" and as_handed_in and all(e["light"] == "green" for e in as_handed_in):
            row["light"] = IDLE
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
    return ", ".join(_said(name, value) for name, value in setting.items() if name in varied)


def _said(name: str, value: Any) -> str:
    if name == "poisoned_images":
        return f"{value} with the trigger"
    if name == "change":
        return "as it was worked out, unchanged" if value == "none" else str(value)
    if name == "start":
        return "with the trigger on" if value == "trigger" else "without the trigger"
    if isinstance(value, list):
        value = " and ".join(map(str, value))
    return f"{name.replace('_', ' ')} {value}"
