"""Where and when a trial ran, beside what it found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter


@dataclass(frozen=True)
class Ran:
    """No part of what a trial is or finds: two runs of a trial differ in it and are equal.

    Attributes:
        worker: the machine's name and the process's number, ``node/pid``.
        started: seconds since the epoch, by the worker's clock.
        asked: questions put to the trial's evaluators, of validation and test.
        known: of these, the ones that were answered by what another trial, or an earlier call, had found.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    worker: Annotated[str, Field(max_length=300)]
    started: Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
    asked: Annotated[int, Field(ge=0)]
    known: Annotated[int, Field(ge=0)]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Ran | None:
        """Inverse of ``to_json``; None of None. Raises ValueError when ``value`` has not that form."""
        return None if value is None else _FORM.validate_json(json.dumps(value))


_FORM = TypeAdapter(Ran)
