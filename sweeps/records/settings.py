"""What tells one trial of a sweep from another, and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from prune_core import ALGORITHM_VERSION
from prune_core.methods import ALL_POLICIES, REPAIRS, Inverted, Method, method_of, with_inverted
from prune_core.orders import known_order, order_version
from prune_core.policies.registry import policy_version

NO_ORDER = "none"  # stands for the order where none is walked
FINAL_LAYER = "final-layer"  # the policy that walks one layer alone
LEAPS_VERSION = "1"
WHOLE_LAYER = 100.0  # its X at which the whole layer is pruned


@dataclass(frozen=True)
class TrialSettings:
    """All that tells one trial of a sweep from another.

    ``layers``: layer set in walking order, each ``name`` or ``name[ranges]``; ``x``: points.
    ``seed`` is 0 where nothing depends on it; ``repair``: what is done after pruning; ``rank_images``: on how
    many images of each kind candidates are ranked, None for all; ``screen``: how many candidates an estimate
    chooses at a time, None where the order does; ``inverted``: triggers found by inversion stand for poisoned
    images, for a target that was given (``class``) or found (``auto``); None where images or triggers are
    given.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    order: str
    layers: tuple[str, ...]
    x: float
    policy: str
    seed: int = 0
    repair: str = "none"
    rank_images: int | None = None
    screen: int | None = None
    inverted: Inverted | None = None

    def to_json(self) -> dict[str, Any]:
        """Without those of ``repair``, ``rank_images``, ``screen`` and ``inverted`` that are not asked for,
        so that trials keep the keys that they had."""
        fields = {**asdict(self), "layers": list(self.layers)}
        if self.repair == "none":
            del fields["repair"]
        for name in ("rank_images", "screen", "inverted"):
            if fields[name] is None:
                del fields[name]
        return fields

    @property
    def method(self) -> Method:
        """What is done to the BadNet, and what has to be known for it."""
        known = None if self.order == NO_ORDER else known_order(self.order)
        found = method_of(self.policy, self.repair, known.needs if known is not None else None)
        return with_inverted(found, self.inverted)

    @property
    def leaps(self) -> bool:
        """Whether channels go several at a time."""
        return self.rank_images is not None and self.screen is not None

    @property
    def procedure(self) -> str:
        """Policy and repair, as people read them."""
        return self.policy if self.repair == "none" else f"{self.policy}, then {self.repair}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrialSettings:
        """Inverse of ``to_json``. Raises ValueError when ``value`` has not that form."""
        return _FORM.validate_json(json.dumps(value))

    def __str__(self) -> str:
        known = None if self.order == NO_ORDER else known_order(self.order)
        ranked = self.rank_images is not None
        chance = self.method.seeded or ranked or (known is not None and known.chance)
        seed = f", seed {self.seed}" if chance else ""
        order = "" if self.order == NO_ORDER else f", {self.order}"
        part = f", ranked on {self.rank_images:,} images" if ranked else ""
        part += f", {self.screen:,} screened" if self.screen is not None else ""
        part += ", inverted triggers" if self.inverted is not None else ""
        return f"{self.procedure}{order}{seed}, {'+'.join(self.layers)}, X = {self.x:g}{part}"


_FORM = TypeAdapter(TrialSettings)


def trial_key(settings: TrialSettings, badnet: str, valid: str, test: str) -> str:
    """What a trial is: a digest of settings, BadNet, data (digests) and the algorithm's version; and of
    the versions of a repair that has changed, and of an order and a policy that are not built in."""
    parts = [settings.to_json(), badnet, valid, test, ALGORITHM_VERSION]
    versions = part_versions([settings.order], [settings.policy], [settings.repair])
    if settings.leaps:
        versions["leaps"] = LEAPS_VERSION
    if versions:
        parts.append(versions)
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def part_versions(orders: Iterable[str], policies: Iterable[str], repairs: Iterable[str]) -> dict[str, str]:
    """Of those that are not built in, or have come to other results since; empty where there are none."""
    found = {f"order {name}": order_version(name) for name in orders if name != NO_ORDER}
    for name in policies:
        known = ALL_POLICIES.get(name)
        found[f"policy {name}"] = policy_version(name) if known is None else known.version
    for name in repairs:
        repair = REPAIRS[name]
        found[f"repair {name}"] = None if repair is None else repair.version
    return {what: version for what, version in found.items() if version is not None}
