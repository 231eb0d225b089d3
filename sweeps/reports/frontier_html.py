"""The frontier, and all that can be seen of a sweep, as one interactive HTML page that needs no network."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from prune_core.counts import Counts, Rate
from prune_core.data.checks.findings import Finding
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.frontier_scene import CAVEAT, Scene, kind_of, make_scene
from sweeps.reports.page.data import PageData
from sweeps.reports.page.links import RunLinks, element
from sweeps.reports.price import price
from sweeps.results import Frontier, FrontierPoint

LARGEST = 6_000_000  # bytes of a page, of which plotly.js takes 2 million
# Bytes of what a page knows: more takes a browser longer to open than it tells.
DATA, DATA_OF_A_TRIAL = 1_150_000, 250
LINK = 64  # bytes of a trial's link, which may be put in later (``links.linked``)
# In this order: each uses what those before it have.
SCRIPTS = ("base", "filters", "frontier", "detail", "table", "analysis", "workers", "start")


def frontier_page(
    records: Sequence[TrialRecord],
    frontier: Frontier,
    name: str,
    *,
    findings: Sequence[Finding] | None = None,
    links: RunLinks | None = None,
    others: Mapping[str, Sequence[TrialRecord]] | None = None,
    channels: Mapping[str, int] | None = None,
    storage: str | None = None,
    running: bool = False,
) -> str:
    """The page of sweep ``name``, self-contained, at most about ``LARGEST`` bytes for a thousand trials:
    where it would be more, some states are left out, never one of the frontier, and the page says so.

    Args:
        findings: of the look at the data; None where nobody has looked.
        links: where trials are seen in MLflow.
        others: sweeps by name, whose trials' distribution is shown beside this one's.
        channels: of each layer, where that is known.
        storage: of the sweep, which ``goodnet pick`` is told unless it is the default one.
        running: the sweep goes on: importance, which takes seconds, is left to the last page.
    """
    scene = make_scene(records, frontier, name)
    data = PageData(records, frontier, scene, name, others, channels, storage, running)
    settings = {r.key: r.settings for r in records}
    number = {r.key: at for at, r in enumerate(records)}
    shown: dict[str, Any] = {
        "title": scene.title,
        "caption": scene.caption,
        "caveat": CAVEAT,
        "findings": findings or (),
        "looked": findings is not None,
        "rows": [
            *_badnet_row(scene),
            *(_row(p, settings, number.get(p.trial_key), scene.badnet_test) for p in frontier.points),
        ],
        "links": Markup(element(links)),
        "css": _file("page.css"),
        "plotlyjs": _plotly(),
        "plotlyjs_version": get_plotlyjs_version(),
        "scripts": [_file(f"{script}.js") for script in SCRIPTS],
    }
    page = _template()
    room = LARGEST - len(page.render(shown, data="").encode()) - LINK * len(records) * (links is None)
    room = min(room, max(DATA, DATA_OF_A_TRIAL * len(records)))
    return page.render(shown, data=Markup(data.text(room)))


@cache
def _plotly() -> Markup:
    """plotly.js as the page unpacks it: 4.8 MB would be most of every page."""
    return Markup(base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode())


@cache
def _file(name: str) -> Markup:
    """A part of the page that is ours, and stands in it as it is."""
    return Markup((files("sweeps.reports.page") / name).read_text(encoding="utf-8"))


def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(lambda name: str(_file(name)))
    )
    return environment.get_template("page.html.j2")


def _badnet_row(scene: Scene) -> list[dict[str, Any]]:
    """The BadNet above the states that are to replace it."""
    if scene.badnet is None or scene.badnet_test is None:
        return []
    rates = _rates(scene.badnet, scene.badnet_test)
    empty = {"key": None, "kind": "", "takes": "", "trial": None, "price": None, "lost": None}
    return [{**empty, "badnet": True, "name": "BadNet", "step": 0, "pruned": 0, "rates": rates}]


def _row(
    point: FrontierPoint,
    settings: Mapping[str, TrialSettings],
    trial: int | None,
    badnet_test: Counts | None,
) -> dict[str, Any]:
    lost = None if badnet_test is None else price(badnet_test, point.test)
    return {
        "badnet": False,
        "name": str(settings.get(point.trial_key, "unknown trial")),
        "key": point.trial_key,
        "kind": kind_of(point),
        "takes": "" if point.settings is None else point.settings.method.assumption,
        "trial": trial,
        "step": point.step,
        "pruned": point.channels_pruned,
        "rates": _rates(point.valid, point.test),
        "price": None if lost is None else f"{lost['points']:+.2f}",
        "lost": None if lost is None else lost["lost"],
    }


def _rates(*splits: Counts) -> list[dict[str, str]]:
    return [
        {
            "rate": f"{rate.rate:.2%}",
            "interval": f"[{100 * rate.low:.2f}–{100 * rate.high:.2f}]",
            "each": _each(counts, rate),
        }
        for counts in splits
        for rate in counts.rates()[:2]
    ]


def _each(counts: Counts, rate: Rate) -> str:
    """The attack's counts of each trigger, where there are several."""
    if rate.name != "attack_success" or not counts.triggers:
        return ""
    return ", ".join(f"{t.attacked}/{t.poisoned_total}" for t in counts.triggers)
