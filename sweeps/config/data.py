"""The part of a configuration that says where images are and how they are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prune_core.data.form import ImageForm, Preprocessing
from prune_core.errors import InputError
from sweeps.config.search import Section
from sweeps.config.triggers import Goal, OneTriggerConfig, TriggerConfig, check_goal


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
