"""What a look at the data has found: one thing, how bad it is, in numbers and in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from prune_core.counts import wilson_interval
from prune_core.errors import InputError

if TYPE_CHECKING:  # findings are read where no image is
    import numpy as np

    from prune_core.data.images import LabeledImages, Split

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

# A finding is a claim that something is wrong, and many are looked for on every data set: 99.9 % intervals
# keep chance out, where 95 % ones would give a false alarm in every few data sets.
SURE = 3.290527


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: "error" (figures would mean something else than they say), "warning" (they need a caveat) or
            "note" (worth knowing).
        name: of the kind of finding, the same in every release; ``docs/data-checks.md`` lists them.
        detail: one line, with the counts in it.
        counts: the integers behind it, by name.
    """

    level: Level
    name: str
    detail: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "name": self.name,
            "detail": self.detail,
            "counts": {key: int(value) for key, value in self.counts.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Finding:
        """Inverse of ``to_json``. Raises ValueError when ``value`` has not that form."""
        if not (
            isinstance(value, dict)
            and value.get("level") in LEVELS
            and isinstance(value.get("name"), str)
            and isinstance(value.get("detail"), str)
            and isinstance(counts := value.get("counts", {}), dict)
            and all(type(number) is int for number in counts.values())
        ):
            raise ValueError("not a finding")
        return cls(value["level"], value["name"], value["detail"], counts)


@dataclass(frozen=True, eq=False)
class Answers:
    """What the BadNet says of images.

    Attributes:
        classes: (N,) the class it gives to each.
        above: (N,) how many classes score higher than the image's label; 0 where it agrees.
        number: of its classes.
    """

    classes: np.ndarray
    above: np.ndarray
    number: int


@dataclass(frozen=True, eq=False)
class Seen:
    """A split with the BadNet's answers. ``name``: "validation" or "test"."""

    name: str
    split: Split
    clean: Answers
    poisoned: Answers

    @property
    def files(self) -> dict[str, LabeledImages]:
        return {f"clean {self.name}": self.split.clean, f"poisoned {self.name}": self.split.poisoned}


def sure(hits: int, total: int) -> tuple[float, float]:
    """The 99.9 % Wilson interval of a proportion, as fractions."""
    return wilson_interval(int(hits), int(total), SURE)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: LEVELS.index(f.level)))


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raises InputError, one line, where one of them is an error."""
    wrong = [f.detail for f in findings if f.level == "error"]
    if wrong:
        raise InputError("; ".join(wrong))


def some(names: Iterable[object], most: int = 6) -> str:
    """The first few of many, in words."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
