"""The configuration: frozen, checked at the edge, explained where it is wrong."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from prune_core.audits.names import AUDITS
from prune_core.data.form import ImageForm, Preprocessing
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
from sweeps.config.triggers import Goal, OneTriggerConfig, TriggerConfig, check_goal
from sweeps.config.yaml_limits import check_yaml
from sweeps.limits import DAMAGE

EMBEDDED = ("embedded", "embedded-smoke")


class DataConfig(Section):
    clean_valid: str | tuple[str, ...] | None = None
    poisoned_valid: str | tuple[str, ...] | None = None
    clean_test: str | tuple[str, ...] | None = None
    poisoned_test: str | tuple[str, ...] | None = None
    target: Goal | None = Field(
        default=None, description="the class that the attacker wants, or next (all-to-all)"
    )
    trigger: TriggerConfig | None = None
    triggers: tuple[OneTriggerConfig, ...] = Field(
        default=(), description="triggers to put on the clean images, when there are no poisoned files"
    )
    scale: float = Field(
        default=1.0, gt=0, description="pixels are multiplied by it; 1 leaves them as they are"
    )
    mean: float | tuple[float, ...] = Field(
        default=0.0, description="taken from the scaled pixels: one value, or one for each channel"
    )
    std: float | tuple[float, ...] = Field(
        default=1.0, description="what remains is divided by it: one value, or one for each channel"
    )
    layout: Literal["NCHW", "NHWC"] | None = Field(
        default=None, description="of arrays; unset: NCHW in HDF5, elsewhere found where it is clear"
    )
    keys: dict[str, str] = Field(
        default={}, description="names of fields by role: images, label, target, true_label"
    )
    classes: tuple[str, ...] = Field(
        default=(), description="names of class folders by index; unset: numbers, or sorted names"
    )

    @model_validator(mode="after")
    def _one_attack(self) -> DataConfig:
        if self.target is not None:
            check_goal(self.target)
        ways = {
            "trigger": self.trigger is not None,
            "triggers": bool(self.triggers),
            "poisoned_valid": bool(self.poisoned_valid),
        }
        given = [f"data.{name}" for name, there in ways.items() if there]
        if self.triggers and len(given) > 1:
            raise ValueError(f"{' and '.join(given)}; expected one of them")
        return self

    @property
    def stamps(self) -> tuple[TriggerConfig | OneTriggerConfig, ...]:
        """The triggers that are put on the clean images; () with poisoned files."""
        return self.triggers or (() if self.trigger is None else (self.trigger,))

    @model_validator(mode="after")
    def _form_is_one(self) -> DataConfig:
        try:
            _ = self.form
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def form(self) -> ImageForm:
        """How the image files are read."""
        done = Preprocessing.of(self.scale, self.mean, self.std)
        return ImageForm.of(self.layout, self.keys, self.classes, self.target, done)


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


class ResourcesConfig(Section):
    cpu: float = Field(default=1, gt=0, description="CPUs per trial")
    gpu: float = Field(default=0, ge=0, description="GPUs per trial; fractions share one")
    memory_gb: float = Field(default=4.0, gt=0, description="GiB that a trial may take, images included")

    @field_validator("gpu")
    @classmethod
    def _part_or_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"{value:g} GPUs; expected a fraction of one, such as 0.5, or a whole number")
        return value


class TrackingConfig(Section):
    uri: str | None = Field(default=None, description="MLflow; unset: SQLite inside the storage")
    experiment: str = "goodnet"


class Config(Section):
    name: str
    badnet: str
    architecture: str | None = None
    architecture_args: dict[str, Any] = Field(
        default_factory=dict, description="arguments of a PyTorch architecture, as num_classes: 10"
    )
    data: DataConfig = DataConfig()
    sweep: SweepConfig = SweepConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: str = "runs"
    evaluator: Literal["incremental", "plain"] = "incremental"
    data_hint: str | None = Field(default=None, description="where to get the files, if missing")

    @property
    def of_each_seed(self) -> list[Config]:
        """A configuration for each of ``sweep.search_seeds``; where there is at most one, this one."""
        seeds = self.sweep.search_seeds
        if len(seeds) < 2:
            return [self]
        sweeps = [self.sweep.model_copy(update={"search_seeds": (seed,)}) for seed in dict.fromkeys(seeds)]
        return [self.model_copy(update={"sweep": sweep}) for sweep in sweeps]

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError("expected letters, digits, '.', '_' and '-', at most 64")
        return value

    @model_validator(mode="after")
    def _data_is_named(self) -> Config:
        if self.badnet in EMBEDDED:
            return self
        poisoned = () if self.data.stamps else ("poisoned_valid", "poisoned_test")
        for field in ("clean_valid", "clean_test", *poisoned):
            if not getattr(self.data, field):
                raise ValueError(f"data.{field} is missing; expected the path of an image file or folder")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key=value`` overrides (dotted keys, YAML values), check all of it.

    ``${oc.env:NAME,default}`` stands for an environment variable. Raises InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a sweep's configuration (YAML)")
    try:
        for override in overrides:
            if "=" not in override:
                raise InputError(f"--set {override}: expected key=value, as in sweep.seeds=[0,1]")
        check_yaml(path.read_text("utf-8"))
        loaded = OmegaConf.load(path)
        for key in (override.partition("=")[0] for override in overrides):
            # A range may take a list's place; omegaconf would not merge the two.
            if isinstance(OmegaConf.select(loaded, key, throw_on_resolution_failure=False), ListConfig):
                OmegaConf.update(loaded, key, None)
        merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
        tree = OmegaConf.to_container(merged, resolve=True)
    except InputError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, *DAMAGE) as error:
        raise InputError(f"{path}: cannot be read as YAML: {_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected a mapping of keys such as badnet and sweep")
    return make_config({"name": path.stem, **{str(k): v for k, v in tree.items()}}, str(path))


def head_of(path: str | Path) -> str:
    """The comment that a configuration file begins with, as one paragraph; "" without."""
    lines = Path(path).read_text("utf-8").splitlines()
    return " ".join(
        line.lstrip("# ").rstrip() for line in itertools.takewhile(lambda li: li.startswith("#"), lines)
    )


def make_config(tree: dict[str, Any], source: str) -> Config:
    """Check a plain tree of values. Raises InputError that names ``source`` and the key."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    """The first complaint, in one line; for an unknown key, with the nearest one there is."""
    first = error.errors()[0]
    place = [str(p) for p in first["loc"]]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        section: Any = Config
        for part in place[:-1]:
            section = _section_of(section, part)
        near = difflib.get_close_matches(place[-1], section.model_fields, n=1, cutoff=0.4)
        hint = ".".join([*place[:-1], near[0]]) if near else None
        known = ", ".join(section.model_fields)
        return f"unknown key '{key}'; " + (f"did you mean '{hint}'?" if hint else f"known: {known}")
    if first["type"] == "missing":
        return f"'{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{key}': {message}" if key else message


def _section_of(section: Any, field: str) -> Any:
    if field not in section.model_fields:  # the number of an entry of a list
        return section
    annotation = section.model_fields[field].annotation
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
