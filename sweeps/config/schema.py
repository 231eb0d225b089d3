"""The configuration: frozen, checked at the edge, explained where it is wrong."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from prune_core.errors import InputError
from sweeps.config.data import DataConfig
from sweeps.config.search import Section
from sweeps.config.sweep import SweepConfig
from sweeps.config.yaml_limits import check_yaml
from sweeps.limits import DAMAGE

EMBEDDED = ("embedded", "embedded-smoke")


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
