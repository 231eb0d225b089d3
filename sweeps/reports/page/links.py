"""Where a trial is seen in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from sweeps.reports.page.script import script_json

HALF = "workflowType=machine_learning"  # in an address: MLflow's UI opens its "Model training" half
_ELEMENT = '<script type="application/json" id="links">{}</script>'


def run_place(experiment: str, run: str, part: str = "") -> str:
    """A run in MLflow's UI, behind the server's address; ``part`` of its page."""
    return f"{_before(experiment)}{run}{part}?{HALF}"


def _before(experiment: str) -> str:
    return f"#/experiments/{quote(experiment, safe='')}/runs/"


@dataclass(frozen=True)
class RunLinks:
    """A sweep in MLflow's UI.

    Attributes:
        address: of the server. There are links only where a browser can open it: http or https.
        experiment: its id. sweep: the parent's run id, None where it is not known.
        runs: trial key -> run id; of trials that are not in it, the link is to the sweep.
    """

    address: str
    experiment: str
    sweep: str | None = None
    runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str | None:
        """What all runs' links begin with, without a name and password in it; None where there are none."""
        try:
            parts = urlsplit(self.address)
        except ValueError:
            return None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
        place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        return f"{place}/{_before(self.experiment)}"

    def to_json(self) -> dict[str, Any] | None:
        """``base``, to which a run's id and ``after`` are added; None where there are no links."""
        if self.base is None:
            return None
        runs = {key: quote(run, safe="") for key, run in self.runs.items()}
        return {
            "base": self.base,
            "after": f"?{HALF}",
            "sweep": self.sweep and quote(self.sweep, safe=""),
            "runs": runs,
        }


def element(links: RunLinks | None) -> str:
    """The page's element with the links."""
    return _ELEMENT.format(script_json(None if links is None else links.to_json()))


def linked(page: bytes, links: RunLinks) -> bytes:
    """A page that was made without links, with them: it is made before MLflow has all of the sweep's runs."""
    return page.replace(element(None).encode(), element(links).encode(), 1)
