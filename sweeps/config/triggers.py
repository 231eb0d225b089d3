"""The part of the configuration that tells of triggers, when there are no poisoned files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from prune_core.methods import Inverted
from sweeps.config.search import Section

Goal = int | Literal["next"]


class TriggerConfig(Section):
    """A trigger picture, when there are no poisoned files: it is stamped on the clean images."""

    picture: str
    row: int = Field(ge=0, description="pixels from the top")
    column: int = Field(ge=0, description="pixels from the left")
    target: Goal = Field(description="the class that the attacker wants, or next")

    @model_validator(mode="after")
    def _class(self) -> TriggerConfig:
        check_goal(self.target)
        return self


class OneTriggerConfig(Section):
    """One of ``data.triggers``: ``picture`` (with ``row`` and ``column``), ``blend`` (with ``alpha``),
    ``add``, ``warp``, or ``invert``: found by inversion, from clean images alone."""

    picture: str | None = Field(default=None, description="a picture that covers a part of the image")
    row: int | None = Field(default=None, ge=0, description="pixels from the top")
    column: int | None = Field(default=None, ge=0, description="pixels from the left")
    blend: str | None = Field(default=None, description="a picture of the images' size, blended in")
    alpha: float | None = Field(default=None, gt=0, le=1, description="how much of it")
    add: str | None = Field(default=None, description="a signed pattern (.npy), added")
    warp: str | None = Field(default=None, description="a field (.npy) by which pixels move")
    invert: bool = Field(default=False, description="found by inversion, on clean validation images")
    target: Goal | Literal["auto"] = Field(
        description="the class that the attacker wants, or next; with invert a class, or auto: those that a "
        "scan suspects"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> OneTriggerConfig:
        kinds = [kind for kind in ("picture", "blend", "add", "warp") if getattr(self, kind) is not None]
        kinds += ["invert"] * self.invert
        if len(kinds) != 1:
            raise ValueError(
                f"{' and '.join(kinds) or 'no trigger'}; expected one of picture, blend, add, warp and invert"
            )
        if self.invert and self.target == "next":
            raise ValueError("target is next; a trigger that is found leads to one class, or auto")
        if not self.invert and self.target == "auto":
            raise ValueError("target is auto, which goes with invert: true; expected a class, or next")
        if self.target != "auto":
            check_goal(self.target)
        for field, kind in (("row", "picture"), ("column", "picture"), ("alpha", "blend")):
            if (getattr(self, field) is None) == (kinds[0] == kind):
                raise ValueError(f"{field} goes with {kind}, and {kind} needs it")
        return self


def inverted_for(triggers: Sequence[object]) -> Inverted | None:
    """Where all triggers are to be found by inversion: whether for a target that is given or for one that is
    found, too. None elsewhere."""
    sought = [t for t in triggers if isinstance(t, OneTriggerConfig) and t.invert]
    if not sought or len(sought) < len(triggers):
        return None
    return "auto" if all(t.target == "auto" for t in sought) else "class"


def check_goal(goal: Goal) -> None:
    """Raises ValueError for a class below 0."""
    if isinstance(goal, int) and goal < 0:
        raise ValueError(f"target is {goal}; expected a class, 0 or more, or next")
