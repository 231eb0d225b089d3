"""The facts as one HTML page that needs nobody and nothing, and prints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from prune_core.data.told import goal_words
from prune_core.defence import LEAST_ATTACK
from sweeps.decision.audits import WORDS, audit_rows
from sweeps.decision.facts import Told
from sweeps.decision.figures import Figures
from sweeps.decision.images import uri
from sweeps.decision.ladder import drawn
from sweeps.decision.pictures import channels_svg, ladder_svg
from sweeps.reports.page.script import script_json

SVG = "image/svg+xml"


def report_html(told: Told) -> str:
    """The page, at most about a megabyte: pictures are small, and a network's layers, a sweep's states and
    the classes that lose are bounded in number."""
    facts = told.facts
    point = None if facts["chosen"] is None else facts["chosen"]["point"]
    layers = facts["channels"]["layers"]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_file), trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pictures: dict[str, Any] = {
        "ladder": uri(ladder_svg(facts["ladder"], facts["badnet"]["valid"], point and point["valid"]), SVG)
        if drawn(facts["ladder"])
        else None,
        "channels": uri(channels_svg(layers), SVG) if layers else None,
        "examples": [
            {kind: None if data is None else uri(data) for kind, data in _of(example).items()}
            for example in told.examples
        ],
        "scan": [
            {kind: uri(data) for kind in ("pattern", "mask", "stamped") if (data := _seen(told, at, kind))}
            for at in range(len((facts["scan"] or {}).get("triggers", ())))
        ],
    }
    figures = Figures(facts)
    return environment.get_template("report.html.j2").render(
        facts=figures.facts,
        fig=figures,
        pictures=pictures,
        lights=WORDS,
        least=LEAST_ATTACK,
        goal=goal_words,
        named=lambda c: _has_name(facts["data"]["names"], c),
        audits=audit_rows(facts["audit"]),
        css=Markup(_file("report.css")),
        data=Markup(script_json(facts)),
    )


def _has_name(names: Sequence[str], number: int) -> bool:
    """Whether a class has a name beside its number."""
    return number < len(names) and names[number] != str(number)


def _of(example: Any) -> dict[str, bytes | None]:
    return {"clean": example.clean, "triggered": example.triggered, "difference": example.difference}


def _seen(told: Told, at: int, kind: str) -> bytes | None:
    return told.evidence.pictures.get((at, kind))


@cache
def _file(name: str) -> str:
    return (files("sweeps.decision") / name).read_text(encoding="utf-8")
