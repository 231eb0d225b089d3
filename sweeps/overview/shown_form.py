"""The form of what is kept of a sweep's end: whoever can write to a storage can write anything there."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from prune_core.counts import Counts

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Whole = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True, config=_STRICT)
class _Trials:
    total: _Whole
    done: _Whole
    failed: _Whole
    stopped: _Whole


@dataclass(frozen=True, config=_STRICT)
class _Price:
    lost: Annotated[int, Field(ge=-(2**53), le=2**53)]
    images: _Whole
    points: float


@dataclass(frozen=True, config=_STRICT)
class _Finding:
    level: Literal["error", "warning", "note"]
    name: str
    detail: str
    counts: dict[str, int]


@dataclass(frozen=True, config=_STRICT)
class _Constraint:
    expected: list[str]
    states: _Whole


@dataclass(frozen=True, config=_STRICT)
class _Point:
    kind: str | None
    policy: str | None
    repair: str | None
    assumption: str | None
    weights: str | None
    clean_accuracy: float
    attack_success: float
    channels_pruned: _Whole
    trial_key: str
    step: _Whole
    valid: dict[str, Any]
    test: dict[str, Any]
    mask: dict[str, Any]
    gap: dict[str, float]
    price: dict[str, _Price]


@dataclass(frozen=True, config=_STRICT)
class _Shown:
    sweep: str
    trials: _Trials
    badnet: dict[str, dict[str, Any]]
    points: list[_Point]
    hypervolume: float
    hypervolume_by_kind: dict[str, float]
    findings: list[_Finding]
    constraint: _Constraint | None = None
    attack_present: bool = True
    note: str = ""


_FORM = TypeAdapter(_Shown)


def checked(text: str) -> dict[str, Any]:
    """What is shown, from its JSON. Raises any of ``limits.DAMAGE`` where a command could not show it; rates
    and intervals have to be those of their counts."""
    _FORM.validate_json(text)
    value: dict[str, Any] = json.loads(text)
    json.dumps(value, allow_nan=False)  # as --json prints it
    if value.get("constraint", {}) is None:
        raise ValueError("a constraint that is none")
    for point in value["points"]:
        _check_counts({split: point[split] for split in ("valid", "test")})
    _check_counts(value["badnet"])
    return value


def _check_counts(splits: dict[str, Any]) -> None:
    for counts in splits.values():
        if json.loads(json.dumps(Counts.from_json(counts).to_json())) != counts:
            raise ValueError("rates that are not those of their counts")
