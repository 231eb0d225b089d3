"""The part of a configuration that says which trials there are, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prune_core.audits.names import AUDITS
from prune_core.errors import InputError
from prune_core.methods import REPAIRS, method_of
from prune_core.orders import find_order
from prune_core.plugins.names import unknown
from sweeps.config.constraint import constraints_of
from sweeps.config.search import (
    BudgetConfig,
    Section,
    StopConfig,
    XRange,
    checked_stop,
    checked_webhook,
    checked_x,
)

_LISTS = ("orders", "layer_sets", "policies", "repair", "seeds", "search_seeds", "constraint")


class SweepConfig(Section):
    orders: tuple[str, ...] = ("index",)
    layer_sets: tuple[str | tuple[str, ...], ...] = ("last:3",)
    x_thresholds: tuple[float, ...] | XRange = (2.0, 4.0, 10.0)
    policies: tuple[str, ...] = ("margin",)
    repair: tuple[str, ...] = ("none",)
    seeds: tuple[int, ...] = (0,)
    rank_images: int | None = Field(
        default=None, ge=1, description="images of each kind on which best-first ranks; unset: all"
    )
    screen: int | None = Field(
        default=None, ge=1, description="how many channels a gradient chooses for best-first to ask about"
    )
    search: Literal["grid", "random", "optuna"] = "grid"
    samples: int | None = Field(default=None, ge=1, description="trials that a search draws")
    budget: BudgetConfig = BudgetConfig()
    sampler: Literal["tpe", "nsga2", "gp"] = Field(default="tpe", description="how Optuna suggests trials")
    search_seeds: tuple[int, ...] = Field(
        default=(), description="of searches: a sweep for each; unset: one, with the first of seeds"
    )
    constraint: tuple[str, ...] = Field(
        default=(), description="what a state has to be, as attack_success <= 0.05"
    )
    stop: StopConfig | None = Field(default=None, description="when a trial that lies behind is stopped")
    warm_start: str | None = Field(default=None, description="a sweep that Optuna learns from")
    # Who is told of a sweep is no part of what it is: not dumped, so neither kept, logged nor in its name.
    notify: str | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="a webhook (http, https) that is told of it",
    )
    notify_below: float | None = Field(
        default=None, ge=0, le=1, exclude=True, description="tell of the first state with such attack success"
    )
    notify_failures: int = Field(
        default=3, ge=1, exclude=True, description="tell of so many trials that fail in a row"
    )
    audit: bool | tuple[str, ...] = Field(
        default=False,
        exclude=True,
        description="audit the frontier's states once the sweep has ended: true, or names of audits",
    )
    study: str | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="a database (SQLAlchemy's address) that holds the sweep as an Optuna study, or none",
    )

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: Any) -> Any:
        return value if isinstance(value, (list, tuple)) else [value]

    @field_validator("orders", "layer_sets", "policies", "repair", "seeds")
    @classmethod
    def _not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("an empty list; expected at least one entry")
        return value

    @field_validator("orders")
    @classmethod
    def _known_orders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(v, find_order) for v in value)

    @field_validator("policies")
    @classmethod
    def _known_policies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(v, method_of) for v in value)

    @field_validator("repair")
    @classmethod
    def _known_repairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_known(v, REPAIRS, "repair") for v in value)

    @field_validator("x_thresholds", mode="before")
    @classmethod
    def _points(cls, value: Any) -> Any:
        return checked_x(value)

    @field_validator("stop", mode="before")
    @classmethod
    def _stop(cls, value: Any) -> Any:
        return checked_stop(value)

    @field_validator("audit", mode="before")
    @classmethod
    def _one_audit_is_a_list_too(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("audit")
    @classmethod
    def _known_audits(cls, value: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        return value if isinstance(value, bool) else tuple(_known(v, AUDITS, "audit") for v in value)

    @field_validator("notify")
    @classmethod
    def _webhook(cls, value: str | None) -> str | None:
        return value if value is None else checked_webhook(value)

    @field_validator("constraint")
    @classmethod
    def _constraints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(str, constraints_of(value))))

    @field_validator("seeds", "search_seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(seed < 0 for seed in value):
            raise ValueError("seeds must be 0 or more")
        return value

    @model_validator(mode="after")
    def _search_has_what_it_needs(self) -> SweepConfig:
        if (self.search == "grid") != (self.samples is None):
            raise ValueError(
                "sweep.samples (how many trials to draw) goes with search: random or optuna, and they need it"
            )
        if self.search == "grid" and isinstance(self.x_thresholds, XRange):
            raise ValueError(
                "sweep.x_thresholds is a range, which search: grid cannot enumerate; expected a list such "
                "as [2, 4, 10], or search: random or optuna"
            )
        if self.search != "optuna" and self.sampler != "tpe":
            raise ValueError(f"sweep.sampler ({self.sampler}) goes with search: optuna")
        if self.search == "grid" and self.search_seeds:
            raise ValueError("sweep.search_seeds (chance in a search) goes with search: random or optuna")
        if self.search != "optuna" and self.warm_start is not None:
            raise ValueError("sweep.warm_start (a sweep to learn from) goes with search: optuna")
        if self.notify is None and self.notify_below is not None:
            raise ValueError("sweep.notify_below (attack success to be told of) goes with sweep.notify")
        return self

    @property
    def search_seed(self) -> int:
        """Of a search that draws."""
        return (self.search_seeds or self.seeds)[0]


def _checked(value: str, find: Callable[[str], object]) -> str:
    """``find`` raises InputError for a name that is not there."""
    try:
        find(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


def _known(value: str, known: Iterable[str], what: str) -> str:
    if value not in known:
        raise ValueError(unknown(what, value, known))
    return value
