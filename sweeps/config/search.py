"""Parts of the configuration that say how far a search goes and who hears of it: X as a range, budgets,
when a trial is stopped."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class XRange(Section):
    """Any X between two, in hundredths of a percentage point, for searches that draw."""

    low: float = Field(alias="from", ge=0, le=100)
    high: float = Field(alias="to", ge=0, le=100)

    def __contains__(self, x: object) -> bool:
        return isinstance(x, (int, float)) and self.low <= x <= self.high


class BudgetConfig(Section):
    """What one call of a sweep may spend; the next call goes on. Unset: no limit."""

    trials: int | None = Field(default=None, ge=1, description="new trials")
    minutes: float | None = Field(default=None, gt=0, description="after which no new trial begins")


class StopConfig(Section):
    """When a trial that lies behind others is stopped; counted in questions (candidates tried)."""

    rule: Literal["asha", "median"]
    grace_period: int = Field(default=100, ge=1, le=10**6, description="before which no trial is stopped")
    reduction_factor: float | None = Field(
        default=None, ge=2, le=100, description="asha: one in so many goes on from each rung; unset: 4"
    )
    min_samples: int | None = Field(
        default=None, ge=1, description="median: other trials that it takes; unset: 3"
    )

    @model_validator(mode="after")
    def _of_this_rule(self) -> StopConfig:
        other = "min_samples" if self.rule == "asha" else "reduction_factor"
        if getattr(self, other) is not None:
            raise ValueError(f"{other} is no setting of {self.rule}")
        return self

    @property
    def factor(self) -> float:
        return 4.0 if self.reduction_factor is None else self.reduction_factor

    @property
    def samples(self) -> int:
        return 3 if self.min_samples is None else self.min_samples


def checked_stop(value: Any) -> Any:
    """``sweep.stop``: none, asha, median, or a mapping with the rule's settings. Raises ValueError."""
    if value is None or value == "none":
        return None
    if isinstance(value, str):
        if value not in ("asha", "median"):
            raise ValueError(f"{value!r}; expected none, asha or median")
        return {"rule": value}
    if not isinstance(value, (dict, StopConfig)):
        raise ValueError(
            f"{value!r}; expected none, asha, median, or a mapping such as {{rule: asha, grace_period: 100}}"
        )
    return value


def checked_x(value: Any) -> tuple[float, ...] | XRange:
    """``sweep.x_thresholds``: one X, a list, or ``{from: LOW, to: HIGH}``. Raises ValueError."""
    if isinstance(value, XRange):
        return value
    if isinstance(value, dict):
        if set(value) != {"from", "to"}:
            raise ValueError(
                f"a range has the keys {', '.join(map(str, value)) or 'none'}; expected from and to, "
                "as in {from: 1, to: 12}"
            )
        low, high = (round(_point(value[side]), 2) for side in ("from", "to"))
        if low >= high:
            raise ValueError(f"the range goes from {low:g} to {high:g}; expected from < to, by at least 0.01")
        return XRange(**{"from": low, "to": high})
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not listed:
        raise ValueError("an empty list; expected at least one entry")
    return tuple(_point(x) for x in listed)


def _point(x: Any) -> float:
    if isinstance(x, bool) or not isinstance(x, (int, float, str)):
        raise ValueError(f"X is {x!r}; expected percentage points of accuracy, 0 to 100")
    try:
        points = float(x)
    except ValueError:
        raise ValueError(f"X is {x!r}; expected percentage points of accuracy, 0 to 100") from None
    if not 0 <= points <= 100:  # also for NaN
        raise ValueError(f"X is {points:g}; expected percentage points of accuracy, 0 to 100")
    return points


def checked_webhook(url: str) -> str:
    """Raises ValueError, which does not repeat the address: whoever has it can write there."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("not the address of a webhook; expected one such as https://host/path")
    return url
