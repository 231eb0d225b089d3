"""Figures on the page: every one is looked up in the facts, and says where it stands there.

``<span data-figure="badnet.test.attack_success" data-form="rate">99.85 %</span>``: whoever has the facts can
check each of them; nothing else on the page is a measured figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape

FORMS: Mapping[str, Callable[[Any], str]] = {
    "count": lambda v: f"{v:,}",
    "rate": lambda v: f"{100 * v:.2f} %",
    "bound": lambda v: f"{100 * v:.2f}",
    "bound_up": lambda v: f"{100 * v:.2f} %",
    "number": lambda v: f"{v:.3g}",
    "points": lambda v: f"{abs(v):.2f}",
    "decimals": lambda v: f"{v:.3f}",
    "signed": lambda v: f"{v:+.2f}",
    "size": lambda v: " x ".join(map(str, v)),
    "yaml": lambda v: _yaml(v),
    "plain": str,
}


def looked_up(facts: Any, path: str) -> Any:
    """What stands at ``badnet.test.attacked``, ``examples.0.target``. Raises KeyError or IndexError."""
    for part in path.split("."):
        facts = facts[int(part)] if isinstance(facts, (list, tuple)) else facts[part]
    return facts


class Figures:
    """Figures of one page, for its template."""

    def __init__(self, facts: Any) -> None:
        # As a reader of the JSON has them: lists, no tuples.
        self.facts = json.loads(json.dumps(facts))

    def __call__(self, path: str, form: str = "count") -> Markup:
        """One figure. Raises KeyError where the facts have no such thing, or no figure."""
        value = looked_up(self.facts, path)
        if value is None:
            raise KeyError(f"{path} is not known")
        return Markup('<span class="n" data-figure="{}" data-form="{}">{}</span>').format(
            path, form, escape(FORMS[form](value))
        )

    def clean(self, path: str) -> Markup:
        """Clean accuracy of counts, with counts and interval."""
        return self._rate(path, "clean_accuracy", "clean_correct", "clean_total")

    def attack(self, path: str) -> Markup:
        """Attack success of counts, with counts and interval."""
        return self._rate(path, "attack_success", "attacked", "poisoned_total")

    def _rate(self, path: str, rate: str, hits: str, total: str) -> Markup:
        return Markup("{} <small>{} of {};<br>{} to {}</small>").format(
            self(f"{path}.{rate}", "rate"),
            self(f"{path}.{hits}"),
            self(f"{path}.{total}"),
            self(f"{path}.{rate}_interval.0", "bound"),
            self(f"{path}.{rate}_interval.1", "bound_up"),
        )


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=100)).strip()
